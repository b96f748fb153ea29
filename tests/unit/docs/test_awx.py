# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The job templates for AWX in docs/examples ask for variables that roles have, in the way that the roles take them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "docs/examples/awx"
DATA = yaml.safe_load((FOLDER / "controller.yml").read_text(encoding="utf-8"))
TEMPLATES = {one["name"]: one for one in DATA["controller_templates"]}
[WORKFLOW] = DATA["controller_workflows"]
#: What AWX offers for a question, by the type of the variable in a role.
ASKED = {"str": {"text", "multiplechoice"}, "raw": {"text"}, "int": {"integer"}, "bool": {"multiplechoice"}}
LIMITS = {"text", "integer"}
QUESTIONS = [
    pytest.param(question, id=f"{survey['name']}: {question['variable']}")
    for survey in (one["survey_spec"] for one in (*TEMPLATES.values(), WORKFLOW) if "survey_spec" in one)
    for question in survey["spec"]
]


def options() -> dict[str, dict]:
    """The variables of all roles."""
    found = {}
    for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            found.update(entry.get("options") or {})
    return found


OPTIONS = options()


@pytest.mark.parametrize("question", QUESTIONS)
def test_each_question_is_for_a_variable_of_a_role_and_has_its_type(question):
    option = OPTIONS[question["variable"]]

    assert question["type"] in ASKED[option["type"]]
    assert (question["type"] == "multiplechoice") == (option["type"] == "bool" or "choices" in option)
    assert question["question_name"]
    assert ("min" in question and "max" in question) == (question["type"] in LIMITS)


@pytest.mark.parametrize("question", QUESTIONS)
def test_choices_and_default_are_those_of_the_role(question):
    option = OPTIONS[question["variable"]]
    default = str(option["default"]).lower() if option["type"] == "bool" else option["default"]

    assert question["default"] == default
    if "choices" in question:
        wanted = ["true", "false"] if option["type"] == "bool" else option["choices"]
        assert sorted(question["choices"]) == sorted(wanted)
        assert question["default"] in question["choices"]


def test_answers_that_must_be_given_have_a_default_or_are_the_host():
    empty = [
        one.values[0]["variable"] for one in QUESTIONS if one.values[0]["required"] and not one.values[0]["default"]
    ]

    assert [name for name in empty if name.endswith("_name")] == ["drain_host_name", "restore_host_name"]
    assert {name for name in empty if not name.endswith("_name")} <= {
        name for name, option in OPTIONS.items() if option.get("default") in (0, False)
    }


def test_each_template_plays_a_playbook_that_is_in_the_folder():
    assert {one["playbook"] for one in TEMPLATES.values()} == {path.name for path in FOLDER.glob("kvmops_*.yml")}


def test_what_the_templates_name_is_defined_or_told_to_be_there():
    environments = {one["name"] for one in DATA["controller_execution_environments"]}
    projects = {one["name"] for one in DATA["controller_projects"]}
    text = (FOLDER / "controller.yml").read_text(encoding="utf-8")
    for one in TEMPLATES.values():
        assert one["execution_environment"] in environments
        assert one["project"] in projects
        assert f'an inventory\n# "{one["inventory"]}"' in text


def test_the_workflow_plans_then_asks_then_applies():
    steps = {one["identifier"]: one for one in WORKFLOW["workflow_nodes"]}
    order, at = [], "plan"
    while at:
        order.append(at)
        following = steps[at].get("related", {})
        assert set(following) <= {"success_nodes"}, "whatever fails must end it"
        at = next((one["identifier"] for one in following.get("success_nodes", [])), "")

    assert order == ["plan", "approve", "apply"] == list(steps)
    jobs = {name: one["unified_job_template"] for name, one in steps.items()}
    assert jobs["approve"]["type"] == "workflow_approval"
    assert jobs["approve"]["timeout"] > 0
    assert {jobs["plan"]["name"], jobs["apply"]["name"]} <= set(TEMPLATES)


def test_import_puts_in_all_that_is_there():
    [play] = yaml.safe_load((FOLDER / "import.yml").read_text(encoding="utf-8"))

    assert {task["loop"].strip("{} ") for task in play["tasks"]} == set(DATA)
    assert [key.partition("awx.awx.")[2] for task in play["tasks"] for key in task if key.startswith("awx.awx.")] == [
        "execution_environment",
        "project",
        "job_template",
        "workflow_job_template",
    ]
