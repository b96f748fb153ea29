# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pipelines of docs/examples do what they say: their own commands are run, on a cluster of saved snapshots."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from ansible.errors import ExitCode

from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, domain, snapshot
from harness.ansible import CHECKOUT, Outcome, Running, environment, program

from .test_homecoming import APPLY, HOST_INFO, MEASURE, PATHS

EXAMPLES = CHECKOUT / "docs/examples"
GITLAB = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text(encoding="utf-8"))
GITHUB = yaml.safe_load((EXAMPLES / "github-actions.yml").read_text(encoding="utf-8"))
PATIENCE_S = 900.0
NAMES = ("web1", "web2", "web3", "web4", "db1", "db2")

# ---- what JUnit files may have, as GitLab, GitHub's actions and Jenkins read them

SUITE = {"name": r".+", "tests": r"\d+", "failures": r"\d+", "skipped": r"\d+", "timestamp": r"\d{4}-[\d-]+T[\d:.]+"}
OPTIONAL = {"errors": r"\d+", "time": r"\d+(\.\d+)?", "hostname": r".+", "id": r".+", "package": r".+"}
CASE = {"name": r".+", "classname": r".+"}
IN_A_CASE = {"failure", "error", "skipped", "properties", "system-out", "system-err"}


def check_junit(path: Path) -> ElementTree.Element:
    """Hold a file against the form, and its counts against its cases. Return the suite."""
    root = ElementTree.parse(path).getroot()
    assert root.tag in ("testsuite", "testsuites")
    [suite] = [root] if root.tag == "testsuite" else list(root)
    _attributes(suite, SUITE, OPTIONAL)
    assert {one.tag for one in suite} <= {"properties", "testcase", "system-out", "system-err"}
    for one in suite.iter("property"):
        _attributes(one, {"name": r".+", "value": r"(?s).*"}, {})
    cases = suite.findall("testcase")
    for case in cases:
        _attributes(case, CASE, {"time": r"\d+(\.\d+)?", **OPTIONAL})
        assert {one.tag for one in case} <= IN_A_CASE
        assert len([one for one in case if one.tag in ("failure", "error", "skipped")]) <= 1
        for one in (*case.findall("failure"), *case.findall("skipped")):
            assert set(one.attrib) <= {"message", "type"}
    for tag, count in (("failure", "failures"), ("skipped", "skipped")):
        assert int(suite.attrib[count]) == sum(case.find(tag) is not None for case in cases)
    assert int(suite.attrib["tests"]) == len(cases) > 0
    names = [(case.attrib["classname"], case.attrib["name"]) for case in cases]
    assert len(names) == len(set(names)), "two cases of one name become one in GitLab"
    return suite


def _attributes(element: ElementTree.Element, needed: dict[str, str], others: dict[str, str]) -> None:
    assert set(needed) <= set(element.attrib) <= set(needed) | set(others), element.attrib
    for name, value in element.attrib.items():
        assert re.fullmatch((needed | others)[name], value), (name, value)


SOUND = """<testsuite name="x" tests="1" failures="0" skipped="0" timestamp="2026-11-24T02:00:00">
<testcase name="a" classname="x"/></testsuite>"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('tests="1"', 'tests="2"'),
        ("/></testsuite>", '><failure message="m"/></testcase></testsuite>'),
        (' classname="x"', ""),
        ("2026-11-24T02:00:00", "yesterday"),
        ("/></testsuite>", "><broken/></testcase></testsuite>"),
    ],
    ids=["count", "failure not counted", "no class", "no time", "unknown element"],
)
def test_the_check_of_junit_files_finds_what_is_wrong(tmp_path, old, new):
    (tmp_path / "a.xml").write_text(SOUND, encoding="utf-8")
    check_junit(tmp_path / "a.xml")
    (tmp_path / "a.xml").write_text(SOUND.replace(old, new), encoding="utf-8")

    with pytest.raises(AssertionError):
        check_junit(tmp_path / "a.xml")


# ---- a cluster of saved snapshots, and a job of a pipeline


class Pipeline:
    """A repository with an inventory, and hosts that are folders with snapshots."""

    def __init__(self, hosts) -> None:
        self.hosts, self.folder = hosts, hosts.folder
        for module, text in (
            ("host_info", HOST_INFO),
            ("working_set_info", MEASURE),
            ("migration_path_info", PATHS.replace('host != "c"', "True").replace('if host == "c"', "if False")),
            ("plan_apply", APPLY),
        ):
            hosts.pretend(module, text)
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        of_hosts = {
            name: {**here, "ansible_host": name, "kvmops_cluster_state_dir": str(self.folder / name)} for name in "abc"
        }
        (self.folder / "inventory.yml").write_text(yaml.safe_dump({"all": {"hosts": of_hosts}}), encoding="utf-8")
        (self.folder / "bin").mkdir()
        # No key and no agent are needed to reach folders.
        for name in ("ssh-agent", "ssh-add"):
            script = self.folder / "bin" / name
            script.write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
            script.chmod(0o755)

    def guests(self, **where: str) -> None:
        """Put guests on hosts: the names of each, with spaces."""
        for host in "abc":
            folder = self.folder / host / "guests"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            names = where.get(host, "").split()
            seen = snapshot(host, free_bytes=(60 - 8 * len(names)) * GIB)
            (self.folder / host / "snapshot.json").write_text(json.dumps(seen), encoding="utf-8")
            for name in names:
                disks = [{**domain()["disks"][0], "source": f"/shared/{name}.qcow2"}]
                guest = domain(name, memory_bytes=8 * GIB, disks=disks)
                (folder / name).write_text(json.dumps(guest), encoding="utf-8")

    def where(self) -> dict[str, str]:
        """The host of each guest."""
        return {path.name: path.parts[-3] for path in self.folder.glob("[abc]/guests/*")}

    def with_a_host_that_does_not_answer(self) -> None:
        inventory = yaml.safe_load((self.folder / "inventory.yml").read_text(encoding="utf-8"))
        silent = {"ansible_connection": "ssh", "ansible_ssh_executable": str(self.folder / "ssh")}
        inventory["all"]["hosts"]["gone"] = silent
        (self.folder / "inventory.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    def run(self, script: str, **variables: str) -> Outcome:
        """Do the commands of a job, as the runners do: in bash, which stops at the first that fails."""
        bin_of_ansible = Path(program("ansible-playbook")).parent
        path = f"{self.folder / 'bin'}:{bin_of_ansible}:{os.environ['PATH']}"
        mine = environment(ANSIBLE_NOCOLOR="1", ANSIBLE_COLLECTIONS_PATH=str(self.hosts._collections), PATH=path)
        command = ["bash", "-e", "-o", "pipefail", "-c", script]
        return Running(command, environment={**mine, **variables}, directory=self.folder).finish(PATIENCE_S)

    @property
    def digest(self) -> str:
        return hashlib.sha256((self.folder / "plans/rebalance.json").read_bytes()).hexdigest()


@pytest.fixture
def pipeline(hosts):
    return Pipeline(hosts)


def gitlab(job: str) -> str:
    """The commands of a job. GitLab puts them into one script."""
    return "\n".join(GITLAB[job]["script"])


def github(job: str, name: str) -> str:
    [step] = [step for step in GITHUB["jobs"][job]["steps"] if step.get("name") == name]
    return step["run"]


# ---- GitLab


def test_the_jobs_of_gitlab_hang_together():
    plan, apply = GITLAB["rebalance:plan"], GITLAB["rebalance:apply"]

    assert {plan["stage"], apply["stage"]} == set(GITLAB["stages"])
    assert apply["needs"] == ["rebalance:plan"]
    assert [rule["when"] for rule in apply["rules"]] == ["manual"]
    assert plan["allow_failure"] == {"exit_codes": [2]}
    assert plan["artifacts"]["when"] == apply["artifacts"]["when"] == "always"


def test_gitlab_plans_and_carries_out_what_was_reviewed(pipeline):
    pipeline.guests(a=" ".join(NAMES))

    planned = pipeline.run(gitlab("rebalance:plan"))

    assert planned.status == 2, planned.text
    assert set(pipeline.where().values()) == {"a"}
    plan = json.loads((pipeline.folder / "plans/rebalance.json").read_text(encoding="utf-8"))
    assert plan["steps"]
    suite = check_junit(pipeline.folder / GITLAB["rebalance:plan"]["artifacts"]["reports"]["junit"])
    assert int(suite.attrib["failures"]) == len(plan["steps"]) + 1
    assert pipeline.digest in (pipeline.folder / "plans/rebalance.md").read_text(encoding="utf-8")

    unpinned = pipeline.run(gitlab("rebalance:apply"), PLAN_SHA256="")
    other = pipeline.run(gitlab("rebalance:apply"), PLAN_SHA256="0" * 64)

    assert unpinned.status == 1, unpinned.text
    assert "the digest of the plan that was reviewed" in unpinned.words
    assert other.status == 2, other.text
    assert f"its SHA-256 is {pipeline.digest}, and the plan that was asked for has 000" in other.words
    assert set(pipeline.where().values()) == {"a"}

    applied = pipeline.run(gitlab("rebalance:apply"), PLAN_SHA256=pipeline.digest)

    assert applied.status == 0, applied.text
    moved = {step["guest"]["name"]: step["destination"] for step in plan["steps"]}
    assert {name: host for name, host in pipeline.where().items() if host != "a"} == moved
    [report] = pipeline.folder.glob(GITLAB["rebalance:apply"]["artifacts"]["reports"]["junit"])
    assert check_junit(report).attrib["failures"] == "0"
    assert len(list((pipeline.folder / "report").glob("*.md"))) == 1


def test_gitlab_has_nothing_to_do_on_a_balanced_cluster(pipeline):
    pipeline.guests(a="web1 web2", b="web3 web4", c="db1 db2")

    outcome = pipeline.run(gitlab("rebalance:plan"))

    assert outcome.status == 0, outcome.text
    assert check_junit(pipeline.folder / "plans/rebalance.xml").attrib["failures"] == "0"


def test_gitlab_takes_a_run_that_failed_for_no_plan(pipeline):
    pipeline.guests(a=" ".join(NAMES))
    for host in "abc":
        (pipeline.folder / host / "snapshot.json").unlink()
    (pipeline.folder / "plans").mkdir()
    (pipeline.folder / "plans/rebalance.json").write_text("{}", encoding="utf-8")

    outcome = pipeline.run(gitlab("rebalance:plan"))

    assert outcome.status == 1, outcome.text
    assert "No host of this play gives a snapshot, so nothing is known of any guest: a: " in outcome.words
    assert outcome.status not in GITLAB["rebalance:plan"]["allow_failure"]["exit_codes"]
    assert not (pipeline.folder / "plans").exists()


# ---- exit statuses (docs/guides/pipelines.md)


def test_the_table_of_statuses_is_that_of_ansible():
    page = (CHECKOUT / "docs/guides/pipelines.md").read_text(encoding="utf-8")
    told = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}

    assert told == {int(code) for code in ExitCode}


def test_a_host_that_does_not_answer_is_no_failure(pipeline):
    pipeline.guests(a="web1 web2", b="web3 web4", c="db1 db2")
    pipeline.with_a_host_that_does_not_answer()

    outcome = pipeline.run(gitlab("rebalance:plan"))

    assert outcome.status == 0, outcome.text
    assert "gone" in outcome.words


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("-e rebalance_mod=ci", 2, "rebalance_mod"),
        ("-e rebalance_mode=perhaps", 2, "rebalance_mode"),
        ("-e rebalance_plan=nothing.json", 2, "nothing.json"),
        ("--no-such-option", 2, "unrecognized arguments"),
    ],
    ids=["misspelt", "bad value", "no plan", "bad option"],
)
def test_whatever_is_refused_ends_with_2(pipeline, words, status, told):
    pipeline.guests(a=" ".join(NAMES))

    outcome = pipeline.run(f"ansible-playbook kvmops.cluster.rebalance -i inventory.yml {words}")

    assert outcome.status == status, outcome.text
    assert told in outcome.words
    assert set(pipeline.where().values()) == {"a"}


@pytest.mark.parametrize("playbook", ["measure", "disk_copies"])
def test_it_is_no_success_if_no_host_answers(pipeline, playbook):
    pipeline.guests()
    for host in "abc":
        (pipeline.folder / host / "snapshot.json").unlink()

    outcome = pipeline.run(f"ansible-playbook kvmops.cluster.{playbook} -i inventory.yml")

    assert outcome.status == 2, outcome.text
    assert "No host of this play gives a snapshot" in outcome.words


# ---- GitHub


def test_the_jobs_of_github_hang_together():
    plan, apply = GITHUB["jobs"]["plan"], GITHUB["jobs"]["apply"]

    assert apply["needs"] == "plan"
    assert apply["if"] == "needs.plan.outputs.moves == 'true'"
    assert apply["environment"] == "production"
    assert set(plan["outputs"]) == {"moves", "sha256"}
    [step] = [one for one in apply["steps"] if one.get("name") == "Carry the plan out"]
    assert step["env"]["PLAN_SHA256"] == "${{ needs.plan.outputs.sha256 }}"
    # What others write never becomes a part of a script.
    scripts = [one["run"] for job in (plan, apply) for one in job["steps"] if "run" in one]
    assert not [script for script in scripts if "${{" in script]


def test_github_plans_and_carries_out_what_was_reviewed(pipeline):
    pipeline.guests(a=" ".join(NAMES))
    files = {name: str(pipeline.folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}

    planned = pipeline.run(github("plan", "Plan"), SSH_KEY="none", **files)

    assert planned.status == 0, planned.text
    told = dict(line.split("=", 1) for line in (pipeline.folder / "GITHUB_OUTPUT").read_text("utf-8").splitlines())
    assert told == {"moves": "true", "sha256": pipeline.digest}
    assert pipeline.digest in (pipeline.folder / "GITHUB_STEP_SUMMARY").read_text("utf-8")
    assert set(pipeline.where().values()) == {"a"}

    # Somebody has changed the file on its way from job to job.
    plan = pipeline.folder / "plans/rebalance.json"
    text = plan.read_bytes()
    plan.write_bytes(text + b" ")
    changed = pipeline.run(github("apply", "Carry the plan out"), SSH_KEY="", PLAN_SHA256=told["sha256"])
    assert changed.status == 2, changed.text
    assert set(pipeline.where().values()) == {"a"}

    plan.write_bytes(text)
    applied = pipeline.run(github("apply", "Carry the plan out"), SSH_KEY="", PLAN_SHA256=told["sha256"])
    assert applied.status == 0, applied.text
    assert len(set(pipeline.where().values())) > 1
    shown = pipeline.run(github("apply", "Show the report"), **files)
    assert shown.status == 0, shown.text
    [report] = (pipeline.folder / "report").glob("*.xml")
    check_junit(report)


@pytest.mark.parametrize("balanced", [True, False])
def test_github_tells_nothing_to_do_from_a_run_that_failed(pipeline, balanced):
    pipeline.guests(a="web1 web2", b="web3 web4", c="db1 db2")
    if not balanced:
        for host in "abc":
            (pipeline.folder / host / "snapshot.json").unlink()
    files = {name: str(pipeline.folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}

    outcome = pipeline.run(github("plan", "Plan"), SSH_KEY="none", **files)

    if balanced:
        assert outcome.status == 0, outcome.text
        assert "moves=false" in (pipeline.folder / "GITHUB_OUTPUT").read_text("utf-8")
    else:
        assert outcome.status == 1, outcome.text
        assert not (pipeline.folder / "GITHUB_OUTPUT").exists()


def test_the_commands_are_words_that_bash_understands():
    for script in (gitlab("rebalance:plan"), gitlab("rebalance:apply"), github("plan", "Plan")):
        subprocess.run(["bash", "-n", "-c", script], check=True)
