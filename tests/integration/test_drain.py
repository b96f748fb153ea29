# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drain of a busy host, the same again, and the way home: what an operator sees, and what is so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness import actual_state
from harness.ansible import Outcome
from harness.operator import Operator
from harness.tidy import tidy
from lab import Lab

#: Guests without KVM that are asked more often keep two cores so busy that their own moves take longer.
PROBE_MS = 10.0
LEAVING = ["busy", "idle", "shy", "web-one"]


@dataclass
class Drained:
    """One drain, all that it said, and all that was seen of it."""

    lab: Lab
    operator: Operator
    outcome: Outcome
    boots: dict[str, str]
    seen: dict[str, Any]
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["guest"]: row for row in self.reports[-1]["guests"]}


@pytest.fixture(scope="module")
def drained(cluster: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drained]:
    """Drain h1 once, with a prober watching."""
    lab = tidy(cluster)
    operator = Operator(lab, tmp_path_factory.mktemp("drained"), without=("h4",))
    boots = actual_state.boot_ids(lab)
    with lab.probe(period_ms=PROBE_MS) as probe:
        outcome = operator.run("drain_host", drain_host_name="h1", drain_host_reason="new fans, ticket 4711")
        seen = probe.records()
    yield Drained(lab, operator, outcome, boots, seen, operator.reports())
    operator.leave()


def test_it_succeeds_and_leaves_the_host_empty(drained: Drained) -> None:
    assert drained.outcome.status == 0, drained.outcome.text
    assert actual_state.active_on(drained.lab, "h1") == []
    assert "Drain of h1: done, 4 guests moved" in drained.outcome.words
    assert "h1 runs no guest." in drained.outcome.words


def test_every_guest_runs_on_exactly_one_host(drained: Drained) -> None:
    where = actual_state.everywhere(drained.lab)
    assert {name: len(hosts) for name, hosts in where.items()} == dict.fromkeys(drained.lab.guests, 1)
    assert {state for hosts in where.values() for state in hosts.values()} == {"running"}


def test_no_guest_noticed(drained: Drained) -> None:
    silent = {name: seen["gaps"][:3] for name, seen in drained.seen.items() if not seen["alive"]}
    assert silent == {}
    assert actual_state.boot_ids(drained.lab) == drained.boots, "a guest was started again"
    damaged = {name: result for name, result in actual_state.verified(drained.lab).items() if not result["memory_ok"]}
    assert damaged == {}


def test_guests_that_are_to_be_kept_apart_still_are(drained: Drained) -> None:
    where = actual_state.places(drained.lab)
    assert where["web-two"] == "h2", "a bystander was moved"
    assert where["web-one"] == "h3"
    assert "h3 is the only host that can take it" in drained.outcome.words


def test_the_plan_is_shown_before_anything_moves(drained: Drained) -> None:
    text = drained.outcome.text
    assert text.index("4 guests (512 MiB) leave h1") < text.index(" | setup ")
    for guest in LEAVING:
        assert f"h1: {guest} -> " in text, "no live line of this guest"


def test_the_report_says_what_happened(drained: Drained) -> None:
    [report] = drained.reports
    assert report["schema"] == "kvmops.report/1"
    assert report["ok"] is True
    assert report["goal"] == {"kind": "drain", "hosts": ["h1"]}
    assert report["todo"] == []
    assert sorted(drained.rows) == LEAVING
    where = actual_state.places(drained.lab)
    for guest, row in drained.rows.items():
        assert (row["source"], row["destination"], row["outcome"]) == ("h1", where[guest], "moved")
        assert row["bytes"] > 1024 * 1024
        assert row["total_s"] > 0
        assert row["downtime_ms"] is not None


def test_the_reported_downtime_is_what_users_felt(drained: Drained) -> None:
    """The prober is no better than its resolution, and a loaded machine adds its own pauses."""
    for guest, row in drained.rows.items():
        seen = drained.seen[guest]
        assert seen["downtime_ms"] > 0
        assert row["downtime_ms"] <= seen["downtime_ms"] + 2 * seen["resolution_ms"] + 100, guest
        assert row["strategy"] not in ("post-copy", "suspend"), "nobody has permitted that"


def test_the_host_is_in_maintenance_and_says_so(drained: Drained) -> None:
    fact = drained.operator.run_module("h1", "ansible.builtin.setup", filter="ansible_local")
    for words in ('"state": "maintenance"', '"reason": "new fans, ticket 4711"', '"owner": "alice@'):
        assert words in fact.text


def test_the_same_drain_again_changes_nothing(drained: Drained) -> None:
    before = actual_state.everywhere(drained.lab)
    again = drained.operator.run("drain_host", drain_host_name="h1", drain_host_reason="new fans, ticket 4711")
    assert again.status == 0, again.text
    assert again.total("changed") == 0, again.text
    assert "no guest has to leave h1" in again.words
    assert actual_state.everywhere(drained.lab) == before


def test_the_guests_come_home(drained: Drained) -> None:
    home = drained.operator.run("restore_host", restore_host_name="h1", restore_host_measure_s=2)
    assert home.status == 0, home.text
    assert "Restore of h1: done, 4 guests moved" in home.words
    assert actual_state.places(drained.lab) == {guest.name: guest.home for guest in drained.lab.guests.values()}
    assert actual_state.boot_ids(drained.lab) == drained.boots, "a guest was started again"
    assert all(result["memory_ok"] for result in actual_state.verified(drained.lab).values())


def test_coming_home_again_changes_nothing(drained: Drained) -> None:
    again = drained.operator.run("restore_host", restore_host_name="h1")
    assert again.status == 0, again.text
    assert again.total("changed") == 0, again.text
    assert "no guest has to come home to h1" in again.words
