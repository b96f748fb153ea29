# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a report takes from journals: events, phases, rounds, decisions; and what a host did between two guests."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import recorded_events as recorded
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.gaps import Moved, Span, gaps
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_record import phases, record_of


def line(number, event, step="s001", **data):
    at = f"2026-11-24T02:00:{number % 60:02d}.000Z"
    return {"seq": number, "at": at, "step": step, "guest": "web1", "event": event, "data": data}


def event(second, name, **data):
    return {"at": f"2026-11-24T02:00:{second:02d}.000Z", "event": name, "data": data}


def test_only_what_a_report_shows_is_taken_in_the_order_of_numbers():
    found = recorded.recorded_events(
        [
            line(3, "migration.completed", statistics={"much": 1}),
            line(2, "migration.started", destination="h2", strategy="pre-copy", forecast={"much": 1}, flags=["LIVE"]),
            line(1, "run.started", step=None),
            line(4, "settings.handed_over"),
        ]
    )
    assert [(one["event"], one["data"]) for one in found["s001"]] == [
        ("migration.started", {"destination": "h2", "strategy": "pre-copy"}),
        ("migration.completed", {}),
    ]


def test_of_many_rounds_the_first_the_last_and_those_between_are_kept():
    rounds = [line(number, "migration.iteration", at_s=number, iteration=number) for number in range(1, 5001)]
    (found,) = recorded.recorded_events([*rounds, line(5001, "step.finished")]).values()
    kept = [one["data"]["iteration"] for one in found if one["event"] == "migration.iteration"]
    assert (len(kept), kept[0], kept[-1]) == (recorded.MOST_ROUNDS, 1, 5000)
    assert found[-1]["event"] == "step.finished"


def test_no_text_of_a_journal_is_endless_and_no_odd_value_comes_along():
    (found,) = recorded.recorded_events([line(1, "migration.decision", action=["a"], reason="x" * 9999)]).values()
    assert found[0]["data"] == {"action": "['a']", "reason": "x" * recorded.MOST_TEXT}


def test_the_phases_of_a_move_that_ends_in_post_copy():
    told = [
        event(0, "step.started"),
        event(1, "step.waiting", incoming=1),
        event(4, "migration.started"),
        event(6, "migration.decision", action="raise_downtime", reason="too slow"),
        event(8, "migration.decision", action="start_postcopy", reason="one pass is done"),
        event(9, "migration.switchover"),
        event(11, "migration.completed"),
        event(12, "step.verified"),
        event(13, "step.finished"),
    ]
    found = record_of(told)
    assert [(one["phase"], one["start_at"][-7:-5], one["end_at"][-7:-5]) for one in found["phases"]] == [
        ("prepare", "00", "01"),
        ("wait", "01", "04"),
        ("pre-copy", "04", "08"),
        ("post-copy", "08", "11"),
        ("verify", "11", "12"),
        ("finish", "12", "13"),
    ]
    assert [one["action"] for one in found["decisions"]] == ["raise_downtime", "start_postcopy"]
    assert found["waits"] == [{"at": "2026-11-24T02:00:01.000Z", "incoming": 1}]


def test_a_move_that_never_ended_has_a_phase_without_an_end():
    assert phases([event(0, "step.started"), event(1, "migration.started")])[-1]["end_at"] is None


def test_a_round_of_another_shape_is_left_out():
    rounds = [event(1, "migration.iteration", at_s="soon"), event(2, "migration.iteration", at_s=2, iteration=2)]
    whole = event(3, "migration.iteration", at_s=3, iteration=3, remaining_bytes=5)
    assert [one["iteration"] for one in record_of([*rounds, whole])["rounds"]] == [3]


def moved(guest, *spans, destination="h2"):
    return Moved(guest, "h1", destination, tuple(Span(*span) for span in spans))


@pytest.mark.parametrize(
    ("spans", "why"),
    [
        ([("wait", 4, 9), ("pre-copy", 9, 12)], "web2 waited for h2 or for others"),
        ([("hook", 5, 9), ("pre-copy", 9, 12)], "a hook of web2 ran"),
        ([("prepare", 6, 9), ("pre-copy", 9, 12)], "both hosts were asked about web2, and its method was chosen"),
        ([("pre-copy", 9, 12)], "web1 was the first guest to h2: web2 waited until it was verified"),
    ],
)
def test_a_gap_has_a_reason(spans, why):
    (gap,) = gaps([moved("web1", ("pre-copy", 0, 4), ("verify", 4, 8)), moved("web2", *spans)])
    assert (gap.host, gap.start_s, gap.end_s, gap.reason) == ("h1", 4, 9, why)


def test_moves_that_follow_each_other_have_no_gap():
    assert gaps([moved("web1", ("pre-copy", 0, 4)), moved("web2", ("pre-copy", 4.5, 9))]) == []


def test_guests_that_move_at_once_have_no_gap():
    moves = [moved("web1", ("pre-copy", 0, 9)), moved("web2", ("pre-copy", 1, 3)), moved("db1", ("pre-copy", 9.5, 12))]
    assert gaps(moves) == []
