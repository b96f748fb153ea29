# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.restore import plan_restore
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, cluster, domain, record, snapshot, uuid_of
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.planners.replaying import (
    Replay,
    check_companions,
    play,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.planners.test_drain import (
    host_with,
    random_cluster,
)


def restored(hosts, *snapshots, left=(), **rules):
    return plan_restore(hosts, Constraints(cluster(*snapshots), **rules), left)


def moves(planned):
    return [(step["guest"]["name"], step["source"], step["destination"]) for step in planned.placement.steps]


def stays(planned):
    return {stay["guest"]["name"]: [r["code"] for r in stay["refusals"]] for stay in planned.placement.stays}


def test_guests_return_to_the_home_they_name_and_those_that_left():
    hosts = [snapshot("h1"), snapshot("h2", domain("a", home="h1"), domain("b"), domain("c", home="h2"))]
    planned = restored(["h1"], *hosts, left=[uuid_of("b")])
    assert moves(planned) == [("a", "h2", "h1"), ("b", "h2", "h1")]
    assert [step["reason"] for step in planned.placement.steps] == ["h1 is its home", "it was moved away from h1"]


def test_one_waits_until_another_has_left_its_home():
    hosts = [
        host_with("h1", 5, domain("other", home="h2", memory_bytes=4 * GIB)),
        host_with("h2", 9, domain("own", home="h1", memory_bytes=3 * GIB)),
    ]
    planned = restored(["h1", "h2"], *hosts)
    assert moves(planned) == [("other", "h1", "h2"), ("own", "h2", "h1")]
    assert planned.placement.steps[1]["after"] == ["s001"]


def test_two_that_are_in_each_others_home_change_places_by_way_of_a_third():
    hosts = [
        host_with("h1", 5, domain("b", home="h2", memory_bytes=4 * GIB)),
        host_with("h2", 5, domain("a", home="h1", memory_bytes=3 * GIB)),
        host_with("h3", 4),
    ]
    planned = restored(["h1", "h2"], *hosts)
    assert moves(planned) == [("a", "h2", "h3"), ("b", "h1", "h2"), ("a", "h3", "h1")]
    assert planned.placement.steps[0]["reason"] == "waits on h3 until there is room on h1"
    assert stays(planned) == {}


def test_who_cannot_return_says_why_and_hinders_no_one():
    hosts = [
        host_with("h1", 4),
        host_with("h2", 20, domain("big", home="h1", memory_bytes=6 * GIB), domain("small", home="h1")),
    ]
    planned = restored(["h1"], *hosts)
    assert moves(planned) == [("small", "h2", "h1")]
    assert stays(planned) == {"big": ["memory"]}
    assert planned.placement.stays[0]["refusals"][0]["remedy"].startswith("free 2.")


@pytest.mark.parametrize(("spare", "come", "remarks"), [
    ("off", ["a", "b"], []), ("warn", ["a", "b"], ["n_plus_one"]), ("require", ["a"], []),
])  # fmt: skip
def test_n_plus_one_after_the_return(spare, come, remarks):
    """If h1 failed with both at home, h2 could take only one: h3 is closed, and takes no one."""
    guests = [domain(name, home="h1", memory_bytes=2 * GIB) for name in "ab"]
    hosts = [host_with("h1", 8), host_with("h2", 2.5), host_with("h3", 8, *guests, maintenance=record("cordoned"))]
    planned = plan_restore(["h1"], Constraints(cluster(*hosts)), spare=spare)
    assert [name for name, *_ways in moves(planned)] == come
    assert [one["code"] for one in planned.remarks] == remarks
    assert stays(planned) == ({"b": ["n_plus_one"]} if spare == "require" else {})


def test_a_ring_without_a_third_host():
    hosts = [
        host_with("h1", 5, domain("b", home="h2", memory_bytes=4 * GIB)),
        host_with("h2", 5, domain("a", home="h1", memory_bytes=4 * GIB)),
    ]
    assert stays(restored(["h1", "h2"], *hosts)) == {"a": ["memory"], "b": ["memory"]}


def test_companions_return_together_or_not_at_all():
    pair = [domain("db", home="h1", together="x"), domain("app", home="h1", together="x")]
    assert len(moves(restored(["h1"], snapshot("h1"), snapshot("h2", *pair)))) == 2
    pair = [domain("db", home="h1", together="x"), domain("app", home="h2", together="x")]
    planned = restored(["h1"], snapshot("h1"), snapshot("h2", *pair))
    assert moves(planned) == []
    assert stays(planned) == {"db": ["keep_together"]}, "app is at home"


def test_blocked_guests_stay():
    stuck = domain("gpu", home="h1", blockers=[{"code": "hostdev", "reason": "a GPU", "remedy": "detach it"}])
    assert stays(restored(["h1"], snapshot("h1"), snapshot("h2", stuck))) == {"gpu": ["hostdev"]}


def test_a_home_that_is_closed_takes_no_one():
    home = snapshot("h1", maintenance=record("maintenance"))
    assert stays(restored(["h1"], home, snapshot("h2", domain("a", home="h1")))) == {"a": ["maintenance"]}


@pytest.mark.parametrize("seed", range(80))
def test_every_state_between_keeps_every_rule(seed):
    rng = random.Random(seed)
    seen = cluster(*random_cluster(seed))
    names = sorted(seen)
    for one in seen.values():
        for guest in one["domains"]:
            guest["metadata"]["home"] = rng.choice(names)
    rules = {"reserve_bytes": rng.choice([0, GIB // 2]), "vcpu_ratio": rng.choice([None, 2.0])}
    planned = plan_restore(names, Constraints(seen, **rules))
    closed = [host for host, one in seen.items() if one["maintenance"]["state"] != "active"]
    for dice in (None, rng, rng):
        ended = play(Replay(seen, closed=closed, **rules), planned.placement.steps, dice)
    check_companions(seen, ended)
    stayed = {stay["guest"]["uuid"] for stay in planned.placement.stays}
    for uuid, guest in ended.guests.items():
        assert (ended.where[uuid] == guest["metadata"]["home"]) == (uuid not in stayed)
    assert all(stay["refusals"] for stay in planned.placement.stays)
