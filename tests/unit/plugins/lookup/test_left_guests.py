# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

from ansible_collections.kvmops.cluster.plugins.lookup.left_guests import left_rows, read_reports


def row(name, source, destination, outcome="moved"):
    return {"guest": name, "uuid": f"u-{name}", "source": source, "destination": destination, "outcome": outcome}


def report(kind, host, started_at, *rows, stays=()):
    return {
        "schema": "kvmops.report/1",
        "goal": {"kind": kind, "hosts": [host]},
        "started_at": started_at,
        "guests": list(rows),
        "stays": [{"guest": {"name": name, "uuid": f"u-{name}"}} for name in stays],
    }


REBALANCE = {"kind": "rebalance", "hosts": []}
FIRST = report("drain", "h1", "2026-11-24T02:00:00Z", row("web1", "h1", "h2"))
SECOND = report("drain", "h1", "2026-11-24T02:10:00Z", row("db1", "h1", "h3"))
OTHER = report("drain", "h2", "2026-11-24T02:20:00Z", row("mail1", "h2", "h3"))


def uuids(host, *reports):
    return {left["uuid"] for left in left_rows(host, reports)}


def test_a_drain_in_two_parts_counts_as_one():
    assert uuids("h1", SECOND, OTHER, FIRST) == {"u-web1", "u-db1"}


def test_what_came_home_does_not_belong_to_the_next_drain():
    home = report("restore", "h1", "2026-11-24T03:00:00Z", row("web1", "h2", "h1"), row("db1", "h3", "h1", "refused"))

    assert uuids("h1", FIRST, SECOND, home) == {"u-db1"}


def test_a_guest_that_could_not_be_placed_still_belongs_home():
    home = report("restore", "h1", "2026-11-24T03:00:00Z", row("web1", "h2", "h1"), stays=["db1"])

    assert uuids("h1", FIRST, SECOND, home) == {"u-db1"}


def test_what_left_for_another_reason_or_came_back_does_not_belong_there():
    reports = [
        report("drain", "h2", "2026-11-24T01:00:00Z", row("guest2", "h2", "h1")),
        report("restore", "h2", "2026-11-24T01:10:00Z", row("guest2", "h1", "h2")),
        {**report("rebalance", "", "2026-11-24T01:20:00Z", row("guest3", "h1", "h3")), "goal": REBALANCE},
    ]

    assert uuids("h1", *reports, FIRST) == {"u-web1"}


def test_reports_are_read_and_what_is_none_is_left_out(tmp_path):
    (tmp_path / "drain-h1.json").write_text(json.dumps(FIRST), encoding="utf-8")
    (tmp_path / "torn.json").write_text('{"schema": "kvmops.rep', encoding="utf-8")
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")

    assert read_reports(tmp_path) == [FIRST]


def test_a_directory_that_is_not_there_holds_no_reports(tmp_path):
    assert read_reports(tmp_path / "none") == []
