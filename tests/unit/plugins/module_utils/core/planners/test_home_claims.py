# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.home_claims import claims, without_reported


class PastRuns:
    """Reports, one after the other; a move is written "guest: source > destination", with its outcome behind it."""

    def __init__(self):
        self.reports = []

    def __call__(self, kind, hosts, *moves, stays=()):
        self.reports.append(
            {
                "schema": "kvmops.report/1",
                "plan": f"{kind}-{len(self.reports)}",
                "goal": {"kind": kind, "hosts": hosts.split()},
                "started_at": f"2026-11-24T{len(self.reports):02}:00:00Z",
                "guests": [self._row(*move.replace(":", "").replace(" >", "").split()) for move in moves],
                "stays": [{"guest": {"name": name, "uuid": name}, "host": "?", "refusals": []} for name in stays],
            }
        )
        return self

    @staticmethod
    def _row(uuid, source, destination, outcome="moved"):
        return {"guest": uuid, "uuid": uuid, "source": source, "destination": destination, "outcome": outcome}


@pytest.fixture
def runs():
    return PastRuns()


def test_a_host_wants_back_what_left_it_to_empty_it(runs):
    runs("drain", "h1", "a: h1 > h2")("evacuate", "h3 h4", "b: h3 > h2", "c: h4 > h1")("upgrade", "h2", "d: h2 > h1")

    assert claims(runs.reports) == {"a": ["h1"], "b": ["h3"], "c": ["h4"], "d": ["h2"]}


def test_guests_that_were_restored_rebalanced_or_made_room_belong_nowhere(runs):
    # Drain h2 and bring its guest home; even out; make room on h1 for a drain of h3.
    runs("drain", "h2", "a: h2 > h1")("restore", "h2", "a: h1 > h2")
    runs("rebalance", "", "b: h1 > h3")
    runs("drain", "h3", "c: h1 > h2", "d: h3 > h1")

    assert claims(runs.reports) == {"d": ["h3"]}


def test_a_guest_that_was_sent_on_still_belongs_to_the_first(runs):
    runs("drain", "h1", "a: h1 > h2")("drain", "h2", "a: h2 > h3")

    assert claims(runs.reports) == {"a": ["h1", "h2"]}


@pytest.mark.parametrize(
    ("first", "then", "left"),
    [("h1", "h2", {}), ("h2", "h1", {"a": ["h1"]})],
    ids=["home at once", "by way of the second"],
)
def test_once_home_it_is_wanted_no_more_by_those_it_was_sent_to(runs, first, then, left):
    runs("drain", "h1", "a: h1 > h2")("drain", "h2", "a: h2 > h3")("restore", first, f"a: h3 > {first}")

    assert claims(runs.reports) == left

    if left:
        runs("restore", then, f"a: {first} > {then}")
        assert claims(runs.reports) == {}


def test_a_guest_that_made_room_while_it_was_away_still_belongs_home(runs):
    runs("drain", "h1", "a: h1 > h2")("drain", "h3", "a: h2 > h4", "b: h3 > h2")

    assert claims(runs.reports)["a"] == ["h1"]


def test_a_rebalance_places_a_guest_anew(runs):
    runs("drain", "h1", "a: h1 > h2", "b: h1 > h2")("rebalance", "", "a: h2 > h3", "b: h2 > h3 refused")

    assert claims(runs.reports) == {"b": ["h1"]}


def test_a_host_that_took_its_guest_back_without_a_restore_lost_its_claim(runs):
    # h1 was opened by hand and its guest left where it was. That then left from there to h1.
    runs("drain", "h1", "a: h1 > h2")("drain", "h2", "a: h2 > h1")

    assert claims(runs.reports) == {"a": ["h2"]}


@pytest.mark.parametrize("outcome", ["refused", "failed", "not_started", "unclear"])
def test_a_restore_leaves_only_those_it_could_not_bring_home(runs, outcome):
    runs("drain", "h1", "a: h1 > h2", "b: h1 > h2", "c: h1 > h3", "d: h1 > h3")
    runs("restore", "h1", "a: h2 > h1", f"b: h2 > h1 {outcome}", stays=["c"])

    assert claims(runs.reports) == {"b": ["h1"], "c": ["h1"]}


def test_a_guest_that_waits_elsewhere_for_room_at_home_still_belongs_there(runs):
    runs("drain", "h1", "a: h1 > h2")
    runs("restore", "h1", "a: h2 > h3", "a: h3 > h1 failed")

    assert claims(runs.reports) == {"a": ["h1"]}


def test_of_many_homes_each_keeps_its_own(runs):
    runs("upgrade", "h1", "a: h1 > h2")("upgrade", "h2", "b: h2 > h1", "c: h2 > h3")
    runs("restore", "h1 h2", "a: h2 > h1 failed", "b: h1 > h2", stays=["c"])

    assert claims(runs.reports) == {"a": ["h1"], "c": ["h2"]}


def test_a_guest_that_never_moved_belongs_nowhere(runs):
    runs("drain", "h1", "a: h1 > h2 refused", "b: h1 > h2 failed", "c: h1 > h2 not_started", "d: h1 > h2 unclear")

    assert claims(runs.reports) == {"d": ["h1"]}


def run(plan, kind, hosts, *steps, at="2026-11-24T00:30:00Z"):
    rows = [
        {"guest": {"name": uuid, "uuid": uuid}, "source": source, "destination": destination, "moved_at": moved_at}
        for uuid, source, destination, moved_at in steps
    ]
    return {"plan": plan, "goal": {"kind": kind, "hosts": hosts}, "started_at": at, "finished": False, "steps": rows}


def test_the_hosts_own_record_counts_where_there_is_no_report(runs):
    runs("drain", "h1", "a: h1 > h2")
    recorded = [
        run("drain-0", "drain", ["h1"], ("x", "h1", "h2", "2026-11-24T00:00:09Z")),
        run("broken-off", "drain", ["h1"], ("b", "h1", "h2", "2026-11-24T00:31:00Z"), ("c", "h1", "h3", None)),
        run("other", "restore", ["h2"], ("d", "h1", "h2", "2026-11-24T00:32:00Z"), ("e", "h1", "h2", None)),
    ]

    found = claims([*runs.reports, *without_reported(recorded, runs.reports)])

    assert found == {"a": ["h1"], "b": ["h1"], "c": ["h1"], "e": ["h2"]}


def test_a_report_of_later_counts_more_than_the_record(runs):
    recorded = [run("broken-off", "drain", ["h1"], ("a", "h1", "h2", None), at="2026-11-23T23:00:00Z")]
    runs("restore", "h1", "a: h2 > h1")

    assert claims([*without_reported(recorded, runs.reports), *runs.reports]) == {}
