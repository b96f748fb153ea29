# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A skewed cluster is evened out: told beforehand, agreed to in a pipeline, carried out, told as the hosts then are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab

#: CPU is left out: on a machine that does other work too, what it measures is not the guests'.
WEIGHED = {"rebalance_weights": {"cpu": 0, "pressure": 0}, "rebalance_measure_s": 0, "rebalance_cpu_sample_s": 0}


def plans(folder: Path) -> tuple[dict[str, Any], ElementTree.Element, str]:
    """What was left for review."""
    plan = json.loads((folder / "rebalance.json").read_text(encoding="utf-8"))
    return plan, ElementTree.parse(folder / "rebalance.xml").getroot(), (folder / "rebalance.md").read_text("utf-8")


def test_a_skewed_cluster_is_evened_out_by_a_plan_that_was_agreed_to(lab: Lab, rack_operator: Operator) -> None:
    operator, boots, before = rack_operator, actual_state.boot_ids(lab), actual_state.everywhere(lab)
    check = operator.run("rebalance", "--check", **WEIGHED)
    assert check.status == 0, check.text
    assert check.text.count("would move") > 0
    assert actual_state.everywhere(lab) == before

    pipeline = operator.run("rebalance", rebalance_mode="ci", rebalance_report_dir="plans", **WEIGHED)
    assert pipeline.status == 2, pipeline.text
    assert "A plan was made: " in pipeline.words
    assert actual_state.everywhere(lab) == before
    plan, junit, markdown = plans(operator.folder / "plans")
    assert int(junit.get("failures", 0)) == len(plan["steps"]) + 1
    assert all(f"| {step['id']} | {step['guest']['name']} |" in markdown for step in plan["steps"])

    done = operator.run("rebalance", rebalance_plan=str(operator.folder / "plans" / "rebalance.json"), **WEIGHED)
    assert done.status == 0, done.text
    where = actual_state.places(lab)
    assert {step["guest"]["name"]: where[step["guest"]["name"]] for step in plan["steps"]} == {
        step["guest"]["name"]: step["destination"] for step in plan["steps"]
    }
    counts = [list(where.values()).count(host) for host in lab.hosts]
    assert max(counts) - min(counts) <= 1, where
    assert where["web-one"] != where["web-two"]
    assert actual_state.boot_ids(lab) == boots, "a guest was started again"
    [report] = operator.reports()
    assert report["figures"]["score_after"] < report["figures"]["score_before"]
    assert (
        f"Score: {report['figures']['score_before']:.3f} before, {report['figures']['score_after']:.3f} after"
        in done.words
    )

    settled = operator.run("rebalance", rebalance_mode="ci", rebalance_report_dir="plans", **WEIGHED)
    assert settled.status == 0, settled.text
    assert plans(operator.folder / "plans")[1].get("failures") == "0"


@pytest.mark.soak
def test_who_moved_a_short_while_ago_rests(lab: Lab, operator: Operator) -> None:
    """Two guests are sent to h2, where they are too many, and nobody else may mend it."""
    closed = {"name": "h3", "owner": "bob"}
    assert operator.run_module("h3", "host_maintenance", **closed, state="cordoned").status == 0
    drain = operator.run(
        "drain_host",
        drain_host_name="h1",
        drain_host_measure_s=0,
        drain_host_exclude=["busy", "web-one"],
    )
    assert drain.status == 0, drain.text
    for host, owner in (("h3", "bob"), ("h1", None)):
        opened = {"name": host, "owner": owner, "state": "active", "force": True}
        assert operator.run_module(host, "host_maintenance", **opened).status == 0
    asked = {**WEIGHED, "rebalance_exclude": ["busy", "web-one", "web-two"]}
    rested = operator.run("rebalance", "--check", **asked)
    assert rested.status == 0, rested.text
    assert "would move" not in rested.text
    restless = operator.run("rebalance", "--check", rebalance_cooldown_s=0, **asked)
    assert restless.status == 0, restless.text
    assert "would move" in restless.text
