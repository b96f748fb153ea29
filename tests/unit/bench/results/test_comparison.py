# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What strategies come to, side by side."""

from __future__ import annotations

from bench.inputs import lower_bound
from bench.results import comparison

SOURCES = {"virsh": "virsh migrate"}


def row(guest, **changes):
    usual = {
        "guest": guest, "outcome": "moved", "strategy": "pre-copy", "arrived": True, "total_s": 4.0,
        "bytes": 80, "rounds": 4, "downtime_observed_ms": 90.0, "downtime_reported_ms": 88,
        "work_lost_s": 0.1, "work_lost_pct": 2.0, "quiet_work_lost_pct": 0.0, "error": None,
    }  # fmt: skip
    return {**usual, **changes}


def run(makespan_s, sent, *rows, measured_s=0.0):
    return {
        "makespan_s": makespan_s,
        "bytes": sent,
        "measured_s": measured_s,
        "playbook_s": None,
        "guests": {one["guest"]: one for one in rows},
    }


def document(runs, **intents):
    return comparison.document(
        runs,
        link_mbit=200,
        lower_bound_s=8.0,
        touched={"a": 100, "b": 100},
        intents={"a": None, "b": 100, **intents},
        sources=SOURCES,
    )


STUCK = row("b", outcome="capped", arrived=False, downtime_observed_ms=3.0, downtime_reported_ms=None)


def test_ratios_are_to_ours():
    both = (row("a"), row("b"))
    runs = {
        "kvmops": [run(10.0, 200, *both, measured_s=8.0), run(12.0, 220, *both, measured_s=9.0)],
        "virsh": [run(33.0, 422, row("a"), STUCK)],
    }
    found = document(runs)
    ours, virsh = found["strategies"]["kvmops"], found["strategies"]["virsh"]
    assert (found["guests"], found["lower_bound_s"], found["touched_bytes"]) == (2, 8.0, 200)
    assert (ours["makespan_s"], ours["bytes"], ours["measured_s"]) == (11.0, 210, 8.5)
    assert (ours["all_moved"], ours["moved"], ours["lower_bound_ratio"]) == (True, 2, 1.375)
    assert (virsh["all_moved"], virsh["moved"], virsh["source"]) == (False, 1, "virsh migrate")
    assert virsh["ratio"] == {"makespan_s": 3.0, "bytes": 2.01}


def test_the_worst_of_the_repeats_counts_for_what_became_of_a_guest():
    good, bad = row("b", downtime_observed_ms=100.0), row("b", downtime_observed_ms=140.0)
    found = document({"kvmops": [run(10.0, 1, row("a"), good), run(10.0, 1, row("a"), bad)]})["strategies"]["kvmops"]
    (a, b) = found["guests"]
    assert (a["kept"], a["max_downtime_ms"]) == (True, 500.0)
    assert (b["kept"], b["max_downtime_ms"], b["downtime_observed_ms"]) == (False, 100.0, 120.0)
    assert found["outside_intent"] == 1


def test_a_guest_that_did_not_arrive_kept_nothing():
    found = document({"virsh": [run(10.0, 1, row("a"), STUCK)]})["strategies"]["virsh"]
    assert [(one["outcome"], one["kept"]) for one in found["guests"]] == [("moved", True), ("capped", False)]
    assert found["ratio"] == {"makespan_s": None, "bytes": None}


def test_a_guest_that_was_never_begun():
    found = document({"virsh": [run(10.0, 1, row("a"))]})["strategies"]["virsh"]
    assert (found["all_moved"], found["moved"], found["guests"][1]["outcome"]) == (False, 1, "not_started")
    assert found["guests"][1]["total_s"] is None


def test_the_floor_is_what_the_lowest_limit_comes_to():
    low = row("a", downtime_observed_ms=60.0), row("b", downtime_observed_ms=80.0)
    found = document({"kvmops": [run(10.0, 1, row("a"), row("b"))], "floor": [run(10.0, 1, *low)]})
    assert found["floor_ms"] == 70.0
    assert found["strategies"]["kvmops"]["floor_ratio"] == 1.286
    assert "downtime of a guest on this link: 70 ms" in "\n".join(comparison.lines(found))


def test_the_table_names_everything():
    found = document({"kvmops": [run(10.0, 200 << 20, row("a"), row("b"))], "virsh": [run(33.0, 1, row("a"), STUCK)]})
    told = "\n".join(comparison.lines(found))
    assert "2 guests over 200 Mbit/s, at least 8.0 s" in told
    assert "3.30" in told
    assert "capped" in told
    assert "1/2" in told


def test_a_link_without_a_limit_leaves_the_set_up():
    assert lower_bound.lower_bound_s([10**9], 0) == lower_bound.SET_UP_S
