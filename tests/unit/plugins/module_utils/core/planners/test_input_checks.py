# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import planning, shut_off_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.input_checks import by_host
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, record, snapshot, uuid_of
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.plan.sample_plan import hosts


def test_goals_know_who_is_off():
    assert [item["guest"]["name"] for item in shut_off_guests.shut_off(["h1"], hosts())] == ["o"]


@pytest.mark.parametrize(
    ("seen", "named", "code", "text"),
    [
        (hosts(), [], "no_host", "no host is named: name at least one host"),
        (
            hosts(),
            ["h9"],
            "unknown_host",
            (
                "there is no snapshot of h9, only of h1, h2, h3: "
                "check the name against the inventory, and that host_info ran there"
            ),
        ),
        (hosts(), ["h1", "h1"], "host_twice", "h1 is named twice: name each host once"),
        (
            cluster(snapshot("h1", domain())),
            ["h1"],
            "no_destination",
            (
                "no host is open to the guests of h1: there is no other host: "
                "open one of them again (host_maintenance with state: active), or add a host to the inventory"
            ),
        ),
        (
            cluster(
                snapshot("h1", domain()),
                snapshot("h2", maintenance=record("cordoned")),
                snapshot("h3", maintenance=record("maintenance", owner="bob")),
            ),
            ["h1"],
            "no_destination",
            (
                "no host is open to the guests of h1: h2 is cordoned, and h3 is in maintenance (bob): "
                "open one of them again (host_maintenance with state: active), or add a host to the inventory"
            ),
        ),
        (
            cluster(
                snapshot("h1", domain("web1")), snapshot("h2", domain("copy", uuid=uuid_of("web1"))), snapshot("h3")
            ),
            ["h3"],
            "duplicate_uuid",
            (
                f"UUID {uuid_of('web1')} is active on two hosts: web1 on h1 and copy on h2: "
                "move nothing until this is resolved: if it is one guest that runs twice, its disk is in danger; "
                "if it is a copy, give the copy a UUID of its own"
            ),
        ),
    ],
)
def test_clusters_that_cannot_be_planned(seen, named, code, text):
    with pytest.raises(PlanError) as caught:
        planning.make(Request("drain", named), Constraints(seen))
    assert (caught.value.refusal["code"], str(caught.value)) == (code, text)


def test_an_empty_host_needs_no_destination():
    made = planning.make(Request("drain", ["h1"]), Constraints(cluster(snapshot("h1"))))
    assert (made.planned.placement, made.off) == (([], []), [])


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"state_reason": "migration_canceled"}, {}),
        ({"state_reason": "migration_canceled"}, {"state_reason": "migrated"}),
        ({"job": {"operation": "backup"}}, {}),
        ({}, {"job": {"operation": "unknown"}}),
        ({}, {"state": "paused", "state_reason": "user"}),
        ({"state": "crashed"}, {}),
        ({"state_reason": "starting_up"}, {}),
    ],
)
@pytest.mark.parametrize("drained", ["h1", "h2", "h3"])
def test_a_guest_that_runs_on_after_a_failed_migration_is_no_guest_on_its_way(here, there, drained):
    seen = cluster(snapshot("h1", domain(**here)), snapshot("h2", domain(**there)), snapshot("h3"))
    with pytest.raises(PlanError) as caught:
        planning.make(Request("drain", [drained]), Constraints(seen))
    assert caught.value.refusal["code"] == "duplicate_uuid"


def test_a_migration_explains_two_hosts_and_no_third():
    going, coming = domain(job={"operation": "migration_out"}), domain(state="paused", state_reason="migration")
    seen = cluster(snapshot("h1", going), snapshot("h2", coming), snapshot("h3", domain()), snapshot("h4"))
    with pytest.raises(PlanError, match="is active on 3 hosts: web1 on h1, web1 on h2 and web1 on h3"):
        planning.make(Request("drain", ["h4"]), Constraints(seen))


@pytest.mark.parametrize(
    "there", [{"state": "paused", "state_reason": "migration"}, {"state": "paused", "state_reason": "starting_up"}]
)
def test_no_guest_is_sent_to_a_host_where_it_is_active(there):
    seen = cluster(snapshot("h1", domain()), snapshot("h2", domain(**there)))
    placement = planning.make(Request("drain", ["h1"]), Constraints(seen)).planned.placement
    assert placement.steps == []
    assert "running_twice" in [refused["code"] for refused in placement.stays[0]["refusals"]]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({}, {"state": "shutoff"}),
        ({"job": {"operation": "migration_out"}}, {"state": "paused", "state_reason": "migration"}),
        ({"job": {"operation": "migration_out"}}, {"state_reason": "migrated"}),
        ({}, {"state": "paused", "state_reason": "starting_up"}),
        ({"state": "paused", "state_reason": "postcopy"}, {"state_reason": "postcopy"}),
        ({"state": "paused", "state_reason": "postcopy_failed"}, {"state": "paused"}),
        ({"state": "paused", "state_reason": "migration"}, {"state_reason": "migrated"}),
    ],
)
def test_a_left_over_and_a_guest_on_its_way_are_no_duplicates(here, there):
    seen = cluster(snapshot("h1", domain(**here)), snapshot("h2", domain(**there)), snapshot("h3"))
    placement = planning.make(Request("drain", ["h1"]), Constraints(seen)).planned.placement
    assert len(placement.steps) + len(placement.stays) == 1


@pytest.mark.parametrize(
    ("snapshots", "text"),
    [
        (
            [snapshot("")],
            (
                "snapshots[0] is damaged: its host is not the name of the host: "
                "take a new snapshot (host_info), and give it unedited"
            ),
        ),
        (
            [snapshot("h1", domain(), domain(uuid=None))],
            (
                "snapshots[0].domains[1] is damaged: its uuid is not a text: "
                "take a new snapshot (host_info), and give it unedited"
            ),
        ),
        (
            [snapshot("h1", domain(memory_bytes="512M"))],
            (
                "snapshots[0].domains[0] is damaged: its memory_bytes is not a whole number of 0 or more: "
                "take a new snapshot (host_info), and give it unedited"
            ),
        ),
        (
            [snapshot("h1", domains="web1")],
            (
                "snapshots[0] is damaged: its domains is not a list of guests: "
                "take a new snapshot (host_info), and give it unedited"
            ),
        ),
        ([snapshot("h1"), snapshot("h1")], "there are two snapshots of h1: give one of each host, the newest"),
        (
            [snapshot("h1"), {"schema": "kvmops.snapshot/2"}],
            (
                "snapshots[1] is not a snapshot: its schema is kvmops.snapshot/2, not kvmops.snapshot/1: "
                "give what host_info returned as snapshot, of the same release of kvmops.cluster"
            ),
        ),
        (
            {"h1": None},
            (
                "snapshots[0] is not a snapshot: its schema is missing, not kvmops.snapshot/1: "
                "give what host_info returned as snapshot, of the same release of kvmops.cluster"
            ),
        ),
    ],
)
def test_what_is_no_snapshot(snapshots, text):
    with pytest.raises(PlanError) as caught:
        by_host(snapshots)
    assert str(caught.value) == text
