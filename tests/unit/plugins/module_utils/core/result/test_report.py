# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import report
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import HOOK_STOPS
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    GIB,
    band,
    choice,
    cluster,
    domain,
    plan_document,
    snapshot,
    step_result,
)

TIMES = {"started_at": "2026-11-24T02:00:01.000Z", "finished_at": "2026-11-24T02:00:42.200Z"}


def two_guests(**stuck):
    guests = [domain("web1"), domain("web2"), *([domain("stuck", **stuck)] if stuck else [])]
    return plan_document(cluster(snapshot("h1", *guests), snapshot("h2")))


def test_all_went_well():
    plan = two_guests()
    joined = report.join(plan, {"h1": [step_result(step) for step in plan["steps"]]}, **TIMES)
    assert joined["ok"] is True
    assert (joined["schema"], joined["plan"], joined["total_s"]) == ("kvmops.report/1", plan["id"], 41.2)
    assert joined["bytes"] == 2 * 88500000
    assert joined["todo"] == []
    assert joined["guests"][0] == {
        "step": "s001",
        "guest": "web1",
        "memory_bytes": 512 * 1024**2,
        "started_at": "2026-11-24T02:00:01.000Z",
        "finished_at": "2026-11-24T02:00:05.310Z",
        "phases": [],
        "rounds": [],
        "decisions": [],
        "waits": [],
        "working_set": None,
        "uuid": plan["steps"][0]["guest"]["uuid"],
        "source": "h1",
        "destination": "h2",
        "outcome": "moved",
        "total_s": 4.31,
        "bytes": 88500000,
        "disk_bytes": None,
        "disks": [],
        "downtime_ms": 92,
        "strategy": "pre-copy",
        "reason": "nothing forbids it",
        "forecast": None,
        "errors": None,
        "max_downtime_ms": 200,
        "kept_downtime": True,
        "refusals": [],
        "error": None,
        "left_copies": [],
        "corrected": [],
        "notes": [],
        "faults": [],
    }
    assert json.loads(json.dumps(joined)) == joined


def test_what_is_to_do():
    plan = two_guests(memory_bytes=100 * GIB)
    first, second = plan["steps"]
    lost = {"code": "memory", "reason": "h2 has no room any more", "remedy": "free 1 GiB on h2"}
    results = [
        step_result(first, "unclear", error="the connection broke at the switchover.", total_s=None, bytes=None),
        step_result(second, "refused", refusals=[lost], total_s=None, bytes=None, downtime_ms=None),
    ]
    joined = report.join(plan, {"h1": results}, **TIMES)
    assert joined["ok"] is False
    assert joined["bytes"] == 0
    assert joined["todo"] == [
        (
            "Look at web1 on both h1 and h2 before anything else, and destroy neither: it is not clear which of them "
            "holds it (the connection broke at the switchover)."
        ),
        "web2 was not moved to h2: h2 has no room any more: free 1 GiB on h2.",
        (
            "stuck stays on h1: h2 will have room for 30.8 GiB of guests, but stuck needs 100 GiB: "
            "free 69.6 GiB on h2, or add a host."
        ),
        (
            "stuck stays on h1: there is no placement for all guests at once, whichever guest moves where: "
            "give h2 69.6 GiB more."
        ),
        "Then run the drain of h1 again: 3 guests have not moved.",
    ]


def test_what_failed_and_what_was_never_begun():
    plan = two_guests()
    joined = report.join(plan, {"h1": [step_result(plan["steps"][0], "failed", error="connection reset")]}, **TIMES)
    assert [row["outcome"] for row in joined["guests"]] == ["failed", "not_started"]
    assert joined["guests"][1]["reason"] == plan["steps"][1]["reason"]
    assert joined["todo"] == [
        "web1 still runs on h1: its move to h2 failed (connection reset).",
        "Then run the drain of h1 again: 2 guests have not moved.",
    ]


def test_a_guest_left_out_on_purpose_is_no_failure():
    plan = two_guests()
    plan["stays"].append(
        {
            "guest": {"name": "x", "uuid": "x"},
            "host": "h1",
            "refusals": [{"code": "excluded", "reason": "x is excluded", "remedy": "drop it"}],
        }
    )
    joined = report.join(plan, {"h1": [step_result(step) for step in plan["steps"]]}, **TIMES)
    assert joined["ok"] is True
    assert joined["todo"] == []
    assert len(joined["stays"]) == 1


def test_the_goal_is_not_reached_while_a_guest_stays():
    plan = two_guests(memory_bytes=100 * GIB)
    joined = report.join(plan, {"h1": [step_result(step) for step in plan["steps"]]}, **TIMES)
    assert [row["outcome"] for row in joined["guests"]] == ["moved", "moved"]
    assert joined["ok"] is False
    assert joined["todo"][-1] == "Then run the drain of h1 again: 1 guest has not moved."


def test_times_that_are_not_known():
    assert report.join(two_guests(), {}, started_at="", finished_at="x")["total_s"] is None


def test_what_was_forecast_stands_beside_what_came_true():
    plan = two_guests()
    first, second = plan["steps"]
    first["forecast"] = choice(total_s=band(4.0), bytes=band(90000000), downtime_ms=band(80))
    plan["expected"] = {"seconds": 8.0, "bytes": 180000000, "fits_window": None}
    late = choice(total_s=band(8.62))
    joined = report.join(
        plan,
        {"h1": [step_result(first, forecast=late), step_result(second, downtime_ms=201, forecast=late)]},
        **TIMES,
    )
    assert joined["expected"]["seconds"] == 8.0
    by_plan, by_host = joined["guests"]
    assert by_plan["forecast"] == first["forecast"], "what was promised counts, not what was known later"
    assert by_plan["errors"] == {"total_s": -0.0719, "bytes": 0.0169, "downtime_ms": -0.1304}
    assert (by_plan["max_downtime_ms"], by_plan["kept_downtime"]) == (200, True)
    assert by_host["forecast"] == late
    assert by_host["errors"]["total_s"] == 1.0
    assert by_host["kept_downtime"] is False
    assert joined["accuracy"]["total_s"] == {"compared": 2, "median": 0.536, "worst": 1.0}


@pytest.mark.parametrize("outcome", ["failed", "unclear", "already_there", "not_started"])
def test_only_moves_say_how_right_a_forecast_was(outcome):
    plan = two_guests()
    for step in plan["steps"]:
        step["forecast"] = choice()
    results = [step_result(step, outcome, downtime_ms=None) for step in plan["steps"]]
    joined = report.join(plan, {"h1": results}, **TIMES)
    assert [row["errors"] for row in joined["guests"]] == [None, None]
    assert [row["kept_downtime"] for row in joined["guests"]] == [None, None]
    assert joined["accuracy"] == {"total_s": None, "bytes": None, "downtime_ms": None}


AUTOSTART = refusal("autostart_not_set", "it does not start with h2 (autostart)", "virsh autostart web1 on h2")
UNREACHABLE = refusal(
    HOOK_STOPS, "the check of port 22 failed after the move: timed out", "see whether it can be reached"
)


def test_what_is_wrong_with_a_guest_that_has_moved_is_to_do_and_the_goal_is_reached_all_the_same():
    plan = two_guests()
    first, second = plan["steps"]
    results = [step_result(first, faults=[AUTOSTART], corrected=["set its clock"]), step_result(second)]
    joined = report.join(plan, {"h1": results}, **TIMES)
    assert joined["ok"] is True
    assert joined["todo"] == ["web1 runs on h2, but it does not start with h2 (autostart): virsh autostart web1 on h2."]
    assert (joined["guests"][0]["corrected"], joined["guests"][0]["faults"]) == (["set its clock"], [AUTOSTART])


def test_a_guest_that_cannot_be_reached_where_it_is_is_no_success():
    plan = two_guests()
    first, second = plan["steps"]
    joined = report.join(plan, {"h1": [step_result(first), step_result(second, faults=[UNREACHABLE])]}, **TIMES)
    assert joined["ok"] is False
    assert joined["todo"] == [
        "web2 runs on h2, but the check of port 22 failed after the move: timed out: see whether it can be reached."
    ]


def test_what_failed_after_a_move_that_failed_is_to_do_as_well():
    plan = two_guests()
    first, second = plan["steps"]
    thaw = refusal("hook_failed", "/bin/thaw failed after the move", "run it by hand")
    results = [step_result(first, "failed", error="no link", faults=[thaw]), step_result(second)]
    todo = report.join(plan, {"h1": results}, **TIMES)["todo"]
    assert "web1: /bin/thaw failed after the move: run it by hand." in todo


def test_results_of_an_older_version_have_nothing_of_that():
    plan = two_guests()
    joined = report.join(plan, {"h1": [step_result(step) for step in plan["steps"]]}, **TIMES)
    assert all((row["corrected"], row["notes"], row["faults"]) == ([], [], []) for row in joined["guests"])


def test_what_stays_behind_is_told_with_its_guest():
    plan = two_guests()
    first, second = plan["steps"]
    left = [{"host": "h1", "path": "/images/web1.qcow2", "allocated_bytes": 5000}]
    joined = report.join(plan, {"h1": [step_result(first, left_copies=left), step_result(second)]}, **TIMES)
    assert [row["left_copies"] for row in joined["guests"]] == [left, []]
    assert joined["ok"] is True
