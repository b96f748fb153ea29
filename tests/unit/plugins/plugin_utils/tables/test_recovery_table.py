# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator reads of moves that broke off."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.filter.recovery_table import recovery_table


def row(name, outcome, *, reason="so it is", remedy="", source="h1", destination="h2"):
    return {
        "guest": {"name": name, "uuid": f"uuid-{name}"},
        "source": source,
        "destination": destination,
        "found": "resume",
        "outcome": outcome,
        "reason": reason,
        "remedy": remedy,
        "sides": [],
    }


def done(*rows, changed_back=()):
    return {"guests": list(rows), "changed_back": list(changed_back), "changed": False}


def test_nothing_to_tell():
    results = {"h1": done(), "h2": done()}
    assert recovery_table(results) == ["No move is broken off."]
    assert recovery_table(results, what="undone") == []


def test_each_guest_is_told_once_by_the_host_that_knows_most():
    results = {
        "h1": done(row("web1", "moved", reason="web1 is whole, and runs on h2")),
        "h2": done(row("web1", "left_to"), row("db1", "unclear", source=None)),
        "h3": done(row("db1", "lost", source="h3", reason="its memory is lost", remedy="end what is left on h2")),
    }
    assert recovery_table(results) == [
        "2 moves that broke off",
        "  db1  h3 -> h2  LOST",
        "      its memory is lost",
        "      -> end what is left on h2",
        "  web1  h1 -> h2  resumed, and whole",
        "      web1 is whole, and runs on h2",
    ]
    assert recovery_table(results, what="undone") == ["db1"]


def test_hosts_that_were_not_looked_through_are_named():
    results = {"h1": {"failed": True, "msg": "Task failed: plan drain-h1 of bob is being carried out here"}, "h3": {}}
    absent = [{"host": "h2", "reason": "it cannot be reached"}]
    assert recovery_table(results, absent) == [
        "No move is broken off.",
        "  h1 was not looked through: plan drain-h1 of bob is being carried out here",
        "  h2 does not answer: it cannot be reached",
    ]
    assert recovery_table(results, absent, what="undone") == ["h1", "h2"]


def test_what_was_changed_back_is_told():
    assert recovery_table({"h1": done(changed_back=["web1 has all its 2 GiB back"])}) == [
        "No move is broken off.",
        "  h1: web1 has all its 2 GiB back",
    ]


def test_escapes_in_names_reach_no_terminal():
    lines = recovery_table({"h1": done(row("web\x1b[31m", "unclear", reason="\x1b]0;x\x07"))})
    assert not any("\x1b" in line or "\x07" in line for line in lines)


def test_anything_else_is_refused():
    with pytest.raises(AnsibleFilterError, match=r"give what kvmops\.cluster\.migration_recover returned"):
        recovery_table(["h1"])
