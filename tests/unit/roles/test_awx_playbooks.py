# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks for AWX in docs/examples hand a plan from job to job, as AWX does: by the statistics of a job."""

from __future__ import annotations

import base64
import json

from harness.ansible import CHECKOUT

from .test_pipelines import NAMES, pipeline  # noqa: F401  # pylint: disable=unused-import

FOLDER = CHECKOUT / "docs/examples/awx"
HANDED = "\tRUN: "


def job(pipeline, playbook, variables=None):  # noqa: F811
    """Do one job. AWX takes what is handed on from the statistics, and gives it to the next job as extra variables."""
    (pipeline.folder / "variables.json").write_text(json.dumps(variables or {}), encoding="utf-8")
    outcome = pipeline.run(
        f"ansible-playbook {FOLDER}/{playbook} -i inventory.yml -e @variables.json", ANSIBLE_SHOW_CUSTOM_STATS="1"
    )
    lines = [line.removeprefix(HANDED) for line in outcome.text.splitlines() if line.startswith(HANDED)]
    return outcome, json.loads(lines[0]) if lines else {}


def test_what_is_planned_by_one_job_is_carried_out_by_another(pipeline):  # noqa: F811
    pipeline.guests(a=" ".join(NAMES))

    planned, handed = job(pipeline, "kvmops_rebalance_plan.yml", {"rebalance_cooldown_s": 0})

    assert planned.status == 0, planned.text
    assert set(handed) == {"kvmops_plan", "rebalance_plan_sha256"}
    assert set(pipeline.where().values()) == {"a"}
    plan = json.loads(base64.b64decode(handed["kvmops_plan"]))

    forged = {**handed, "kvmops_plan": base64.b64encode(json.dumps(plan).encode()).decode()}
    refused, dummy = job(pipeline, "kvmops_rebalance_apply.yml", forged)
    assert refused.status == 2, refused.text
    assert "and the plan that was asked for has" in refused.words
    assert set(pipeline.where().values()) == {"a"}

    applied, dummy = job(pipeline, "kvmops_rebalance_apply.yml", handed)
    assert applied.status == 0, applied.text
    moved = {step["guest"]["name"]: step["destination"] for step in plan["steps"]}
    assert {name: host for name, host in pipeline.where().items() if host != "a"} == moved


def test_a_plan_of_nothing_is_no_failure(pipeline):  # noqa: F811
    pipeline.guests(a="web1 web2", b="web3 web4", c="db1 db2")

    outcome, handed = job(pipeline, "kvmops_rebalance_plan.yml")

    assert outcome.status == 0, outcome.text
    assert json.loads(base64.b64decode(handed["kvmops_plan"]))["steps"] == []


def test_where_no_plan_can_be_made_nothing_is_handed_on(pipeline):  # noqa: F811
    pipeline.guests()
    for host in "abc":
        (pipeline.folder / host / "snapshot.json").unlink()

    outcome, handed = job(pipeline, "kvmops_rebalance_plan.yml")

    assert outcome.status == 2, outcome.text
    assert "No plan was made: No guest was moved: No host of this play gives a snapshot" in outcome.words
    assert handed == {}


def test_without_a_plan_of_the_workflow_nothing_is_done(pipeline):  # noqa: F811
    pipeline.guests(a=" ".join(NAMES))

    outcome, dummy = job(pipeline, "kvmops_rebalance_apply.yml")

    assert outcome.status == 2, outcome.text
    assert "Start the workflow, not this job." in outcome.words
