# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several hosts emptied at once: through both doors, all or none, and never into each other."""

from __future__ import annotations

import json

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab

#: Only how long a move takes depends on what was measured.
QUICKLY = {"evacuate_measure_s": 0}
RECORD = "cat /var/lib/kvmops/maintenance.json 2>/dev/null || echo '{}'"


def maintenance(lab: Lab, *hosts: str) -> list[str]:
    """What hosts have on record of themselves."""
    records = [json.loads(lab.host(host).ssh(RECORD, check=True).stdout) for host in hosts]
    return [record.get("state", "active") for record in records]


def test_two_of_four_hosts_are_emptied_and_nobody_notices(lab: Lab, rack_operator: Operator) -> None:
    """With C(-l) as well, the roles ask all hosts of the inventory."""
    operator, boots = rack_operator, actual_state.boot_ids(lab)
    evacuation = operator.run("evacuate", "-l", "h1,h2", evacuate_window_s=3600, **QUICKLY)
    assert evacuation.status == 0, evacuation.text
    assert set(evacuation.recap()) == {"h1", "h2"}
    where = actual_state.everywhere(lab)
    assert sorted(where) == sorted(lab.guests)
    assert all(set(hosts.values()) == {"running"} and len(hosts) == 1 for hosts in where.values())
    assert {host for hosts in where.values() for host in hosts} == {"h3", "h4"}
    assert where["web-one"] != where["web-two"], "guests that are kept apart were put together"
    assert actual_state.boot_ids(lab) == boots, "a guest was started again"
    assert "Evacuation of h1 and h2: done, 5 guests moved" in evacuation.words
    assert maintenance(lab, "h1", "h2", "h3") == ["maintenance", "maintenance", "active"]
    [report] = operator.reports()
    assert {(row["source"], row["outcome"]) for row in report["guests"]} == {("h1", "moved"), ("h2", "moved")}
    assert report["expected"]["fits_window"] is True


@pytest.mark.soak
def test_a_check_moves_nothing_and_the_same_evacuation_again_changes_nothing(lab: Lab, rack_operator: Operator) -> None:
    operator = rack_operator
    check = operator.run("evacuate", "--check", evacuate_hosts=["h1", "h2"], **QUICKLY)
    assert check.status == 0, check.text
    assert "5 guests (640 MiB) leave h1 and h2" in check.words
    assert actual_state.places(lab) == {guest.name: guest.home for guest in lab.guests.values()}

    assert operator.run("evacuate", evacuate_hosts="h1,h2", **QUICKLY).status == 0
    where = actual_state.everywhere(lab)
    again = operator.run("evacuate", evacuate_hosts="h1,h2", **QUICKLY)
    assert again.status == 0, again.text
    assert again.total("changed") == 0, again.text
    assert "h1 runs no guest." in again.words
    assert actual_state.everywhere(lab) == where


@pytest.mark.soak
def test_all_hosts_are_cordoned_or_none(lab: Lab, rack_operator: Operator) -> None:
    before = actual_state.everywhere(lab)
    close = {"name": "h2", "state": "cordoned", "owner": "bob", "reason": "new disks"}
    assert rack_operator.run_module("h2", "host_maintenance", **close).status == 0
    evacuation = rack_operator.run("evacuate", "-l", "h1,h2", **QUICKLY)
    assert evacuation.status == 2, evacuation.text
    assert "h1, h2 were not emptied: h2 could not be cordoned: h2 is cordoned by bob since" in evacuation.words
    assert "No guest was moved, and all hosts are as before." in evacuation.words
    assert maintenance(lab, "h1", "h2") == ["active", "cordoned"]
    assert actual_state.everywhere(lab) == before


@pytest.mark.soak
def test_nothing_is_emptied_that_was_not_named(lab: Lab, rack_operator: Operator) -> None:
    unnamed = rack_operator.run("evacuate", **QUICKLY)
    assert unnamed.status == 2, unnamed.text
    assert "Say which hosts to empty: -l PATTERN, or -e evacuate_hosts=PATTERN." in unnamed.words
    mistyped = rack_operator.run("evacuate", evacuate_hosts="h1,h9", **QUICKLY)
    assert mistyped.status == 2, mistyped.text
    assert "The inventory has no host or group h9." in mistyped.words
    everybody = rack_operator.run("evacuate", "-l", "all", **QUICKLY)
    assert everybody.status == 2, everybody.text
    assert "There is no other host to move the guests of h1, h2, h3, h4 to." in everybody.words
    assert maintenance(lab, "h1") == ["active"]
