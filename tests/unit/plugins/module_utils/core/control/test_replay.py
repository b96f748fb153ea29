# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A journal through the control again. The one in C(fixtures) is a drain of two guests over a link that gave half of
what was stated, with the measurements that their host kept; it was written before the control knew that a slow
shrinking never ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.replay import decision_of, replay

FIXTURES = Path(__file__).parents[1] / "fixtures"
LINES = (FIXTURES / "lab-journal.jsonl").read_text(encoding="utf-8").splitlines()
WORKING_SETS = json.loads((FIXTURES / "lab-working-sets.json").read_text(encoding="utf-8"))
ENTRIES = [json.loads(line) for line in LINES]


def recorded(step):
    """What ended the guest's move in the lab: (round, action)."""
    iteration = 0
    for entry in ENTRIES:
        if entry["step"] == step and entry["event"] == "migration.iteration":
            iteration = entry["data"]["iteration"]
        if entry["step"] == step and entry["data"].get("action") == "start_postcopy":
            return iteration, "start_postcopy"
    return None


def wanted(lines, **named):
    return [(one.step, one.iteration, one.reaction.action) for one in replay(lines, **named)]


def test_what_was_planned_comes_at_the_round_at_which_it_came_in_the_lab():
    assert recorded("s001") == (2, "start_postcopy")
    assert wanted(LINES)[0] == ("s001", 2, "start_postcopy")


def test_a_real_guest_that_shrinks_too_slowly_is_switched_ten_rounds_earlier_than_it_was():
    assert recorded("s002") == (13, "start_postcopy")
    assert wanted(LINES, working_sets=WORKING_SETS) == [
        ("s001", 2, "start_postcopy"),
        ("s002", 3, "start_postcopy"),
    ]
    (_first, second) = replay(LINES, working_sets=WORKING_SETS)
    assert second.reaction.reason == (
        "14.7 MiB are left after 2 rounds, and further rounds would not end the move; switching to post-copy"
    )


def test_without_its_measurement_a_guest_that_still_shrinks_is_waited_for():
    assert [one for one in wanted(LINES) if one[0] == "s002"] == []


def test_what_compression_really_does_shows_in_the_rounds():
    """Its hot memory did not compress, and it was given up after 20 rounds; its pages went no faster than its bytes."""
    lines = (FIXTURES / "lab-journal-zstd.jsonl").read_text(encoding="utf-8").splitlines()
    known = json.loads((FIXTURES / "lab-working-sets-zstd.json").read_text(encoding="utf-8"))
    rounds = [json.loads(line)["data"]["iteration"] for line in lines if '"migration.iteration"' in line]
    assert max(rounds) == 21
    first, *_rest = replay(lines, working_sets=known)
    assert (first.iteration, first.reaction.action, first.reaction.code) == (7, "abort", "does_not_converge")


def test_another_intent_leads_elsewhere():
    found = replay(LINES, working_sets=WORKING_SETS, intent={"max_downtime_ms": 3000})
    assert [(one.step, one.reaction.action) for one in found] == [
        ("s001", "start_postcopy"),
        ("s002", "raise_downtime"),
    ]


@pytest.mark.parametrize(
    "line", ["", "{", '{"step": "s001", "event": "migr', "[1]", "null", '{"event": "run.started"}']
)
def test_a_torn_or_foreign_line_is_passed_over(line):
    assert wanted([*LINES[:-1], line, LINES[-1], line]) == wanted(LINES)


def test_rounds_of_a_move_whose_start_was_not_seen_say_nothing():
    assert wanted([line for line in LINES if '"migration.started"' not in line]) == []


def test_a_decision_as_the_journal_tells_it():
    data = {
        "strategy": "raise-downtime+disks",
        "reason": "because",
        "flags": ["LIVE", "POSTCOPY"],
        "downtime_ms": 40,
        "forecast": None,
    }
    made = decision_of(data, {"max_downtime_ms": 700, "allow_suspend": True, "deadline_s": 90})
    assert (made.method, made.name, made.postcopy, made.suspend) == (
        "raise-downtime",
        "raise-downtime+disks",
        True,
        True,
    )
    assert (made.downtime_ms, made.downtime_cap_ms, made.deadline_s) == (40, 700, 90)
    # What the journal says of the intent goes before what is said now.
    assert decision_of({**data, "intent": {"max_downtime_ms": 100}}, {"max_downtime_ms": 700}).downtime_cap_ms == 100
