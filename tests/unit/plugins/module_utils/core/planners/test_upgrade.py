# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import evacuation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import steps
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Window
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import planning
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.upgrade import plan_upgrade
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, cluster, disk, domain, record, snapshot, uuid_of
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.planners.replaying import Replay, play
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.planners.test_drain import (
    host_with,
    random_cluster,
)
from bench.inputs import clusters


def replayed(seen, upgrade, rng=None, **rules):
    """Carry out all waves; after each, its hosts have a QEMU that none had before."""
    closed = [host for host, one in seen.items() if (one["maintenance"] or {}).get("state", "active") != "active"]
    replay = Replay(seen, closed=closed, **rules)
    for wave in upgrade.waves:
        away = set(wave.hosts)
        replay.closed = set(closed) | away
        play(replay, wave.steps, rng)
        left = {stay["guest"]["uuid"] for stay in wave.stays}
        assert {guest["uuid"] for host in wave.hosts for guest in replay.on(host)} == left
        for host in wave.hosts:
            replay.qemu[host] = "99.0.0"
            replay.snapshots[host] = {**replay.snapshots[host], "maintenance": record("active")}
        closed = [host for host in closed if host not in away]
    return replay


def equal(hosts, guests, seed, *, fill, empty=0):
    """Hosts that are alike, the first of them empty, if so many are to be."""
    made = clusters.cluster(clusters.Shape(hosts=hosts, guests=guests, fill=fill, skew=0.0, apart=0.2, seed=seed))
    seen = clusters.snapshots(made)
    for number in range(empty):
        spare = host_with(f"spare{number}", made.hosts[0].capacity_bytes / GIB + 8)
        seen[spare["host"]] = {
            **next(iter(seen.values())),
            **{key: spare[key] for key in ("host", "host_uuid", "capacity")},
        }
        seen[spare["host"]]["domains"] = []
    return seen


@pytest.mark.parametrize("seed", range(1, 6))
def test_with_a_spare_no_guest_moves_twice(seed):
    seen = equal(20, 300, seed, fill=0.8, empty=1)
    upgrade = plan_upgrade(sorted(seen), Constraints(seen))
    replayed(seen, upgrade)
    assert upgrade.guests == 300
    assert upgrade.moves_per_guest == 1.0
    assert upgrade.waves[0].hosts == ["spare0"]
    assert sorted(host for wave in upgrade.waves for host in wave.hosts) == sorted(seen)


@pytest.mark.parametrize("seed", range(1, 6))
def test_without_a_spare_only_those_of_the_first_host_move_twice(seed):
    seen = equal(20, 300, seed, fill=0.8)
    upgrade = plan_upgrade(sorted(seen), Constraints(seen))
    replayed(seen, upgrade)
    assert upgrade.guests == 300
    assert 1.0 < upgrade.moves_per_guest <= 1.05


def test_a_spare_that_is_not_to_be_upgraded_is_a_final_place():
    seen = cluster(host_with("h1", 8, domain("a")), host_with("h2", 8, domain("b")), host_with("h3", 8))
    upgrade = plan_upgrade(["h1", "h2"], Constraints(seen))
    assert [wave.hosts for wave in upgrade.waves] == [["h1"], ["h2"]]
    assert upgrade.moves_per_guest == 1.0
    assert replayed(seen, upgrade).on("h2") == []


def test_several_at_once_where_there_is_room():
    seen = cluster(
        *(host_with(f"h{n}", 8, domain(f"g{n}", memory_bytes=2 * GIB)) for n in range(4)), host_with("h4", 8)
    )
    upgrade = plan_upgrade(["h0", "h1", "h2", "h3"], Constraints(seen), at_once=2)
    assert [len(wave.hosts) for wave in upgrade.waves] == [2, 2]
    assert upgrade.moves_per_guest == 1.0
    replayed(seen, upgrade)


@pytest.mark.parametrize(("hosts", "spare", "at_once", "waves", "remarks"), [
    (6, "off", 2, [2, 2, 2], 0),
    (6, "warn", 2, [2, 2, 2], 1),
    (6, "require", 2, [1, 1, 1, 1, 1, 1], 0),
    (5, "require", 2, [1, 1, 1, 1, 1], 1),
])  # fmt: skip
def test_one_more_host_may_fail_while_others_are_away(hosts, spare, at_once, waves, remarks):
    """Each host has room for two guests, and eight are to run on those that are left."""
    guests = {f"h{n}": [domain(f"g{n}{m}", memory_bytes=2 * GIB) for m in "ab" if n < 4] for n in range(hosts)}
    seen = cluster(*(host_with(host, 4.6, *own) for host, own in guests.items()))
    upgrade = plan_upgrade(sorted(seen), Constraints(seen), at_once=at_once, spare=spare)
    assert ([len(wave.hosts) for wave in upgrade.waves], len(upgrade.n_plus_one_remarks)) == (waves, remarks)
    replayed(seen, upgrade)


def test_which_wave_breaks_n_plus_one_is_told():
    seen = cluster(*(host_with(f"h{n}", 4.6, domain(f"g{n}", memory_bytes=2 * GIB)) for n in range(2)))
    [told] = plan_upgrade(["h0", "h1"], Constraints(seen), spare="warn").n_plus_one_remarks
    assert told["reason"].startswith(
        "while h0 is away, the others could not take the guests of h1 if it failed as well"
    )
    with pytest.raises(PlanError, match="while h0 is away"):
        planning.make(Request("upgrade", ["h0", "h1"], spare="require"), Constraints(seen))
    warned = planning.make(Request("upgrade", ["h0", "h1"], spare="warn"), Constraints(seen))
    assert [one["code"] for one in warned.planned.remarks] == ["n_plus_one"]


def test_who_cannot_move_is_named_and_the_others_go():
    stuck = domain("gpu", blockers=[{"code": "hostdev", "reason": "a GPU", "remedy": "detach it"}])
    seen = cluster(host_with("h1", 8, stuck, domain("a")), host_with("h2", 8), host_with("h3", 8, domain("b")))
    upgrade = plan_upgrade(["h1", "h2", "h3"], Constraints(seen))
    stays = {stay["guest"]["name"]: stay for wave in upgrade.waves for stay in wave.stays}
    assert [refused["code"] for refused in stays["gpu"]["refusals"]] == ["hostdev"]
    assert stays["gpu"]["host"] == "h1"
    assert upgrade.guests == 2


def test_a_guest_that_no_host_can_take_does_not_keep_hosts_from_going_together():
    rooted = domain("rooted", disks=[disk(shared=False, shared_why="it is on local storage (ext4)")])
    seen = cluster(snapshot("h1"), snapshot("h2", domain("a")), snapshot("h3", domain("b"), rooted))
    upgrade = plan_upgrade(["h1", "h2", "h3"], Constraints(seen), at_once=2)
    assert [sorted(wave.hosts) for wave in upgrade.waves] == [["h1"], ["h2", "h3"]]
    [stay] = [stay for wave in upgrade.waves for stay in wave.stays]
    assert (stay["guest"]["name"], [why["code"] for why in stay["refusals"]]) == ("rooted", ["unshared_disk"])
    assert upgrade.moves_per_guest == 1.0


def test_a_host_that_was_closed_takes_guests_once_it_is_upgraded():
    seen = cluster(
        host_with("h1", 8, maintenance=record("maintenance")),
        host_with("h2", 8, domain("a", memory_bytes=5 * GIB)),
        host_with("h3", 8, domain("b", memory_bytes=5 * GIB)),
    )
    upgrade = plan_upgrade(sorted(seen), Constraints(seen), spare="warn")
    replayed(seen, upgrade)
    assert [wave.hosts for wave in upgrade.waves] == [["h1"], ["h2"], ["h3"]]
    assert [[(step["source"], step["destination"]) for step in wave.steps] for wave in upgrade.waves] == [
        [],
        [("h2", "h1")],
        [("h3", "h2")],
    ]
    assert all(not wave.stays for wave in upgrade.waves)


def test_nobody_goes_to_a_closed_host_before_it_is_upgraded():
    seen = cluster(
        host_with("h1", 16, *(domain(name, memory_bytes=2 * GIB) for name in "cd"), maintenance=record("cordoned")),
        host_with("h2", 8, domain("a", memory_bytes=2 * GIB)),
        host_with("h3", 8, domain("b", memory_bytes=2 * GIB), domain("e", memory_bytes=GIB)),
    )
    upgrade = plan_upgrade(sorted(seen), Constraints(seen))
    # It plays every step against the hosts that are open by then.
    replayed(seen, upgrade)
    assert all(not wave.stays for wave in upgrade.waves)


def test_waves_are_not_each_searched_for_what_would_fit(monkeypatch):
    seen = cluster(host_with("h1", 8, domain("a", memory_bytes=2 * GIB)), host_with("h2", 8))
    asked = []
    monkeypatch.setattr(steps, "verdict", lambda *args: asked.append(args))
    plan_upgrade(["h1"], Constraints(seen), window=Window(window_s=0.1))
    assert asked == []


def test_who_finds_no_room_is_named():
    seen = cluster(
        host_with("h1", 9, domain("big", memory_bytes=6 * GIB)), host_with("h2", 9, domain("too", memory_bytes=6 * GIB))
    )
    upgrade = plan_upgrade(["h1", "h2"], Constraints(seen))
    assert [[stay["guest"]["name"] for stay in wave.stays] for wave in upgrade.waves] == [["big"], ["too"]]
    assert upgrade.moves == 0
    assert upgrade.waves[0].stays[0]["refusals"][0]["code"] == "no_placement"


def test_seconds_are_those_of_all_waves():
    seen = cluster(host_with("h1", 8, domain("a", memory_bytes=GIB)), host_with("h2", 8))
    upgrade = plan_upgrade(["h1", "h2"], Constraints(seen))
    assert upgrade.seconds == sum(wave.seconds for wave in upgrade.waves) > 0
    assert uuid_of("a") in {step["guest"]["uuid"] for wave in upgrade.waves for step in wave.steps}


@pytest.mark.parametrize("seed", range(80))
def test_every_state_between_keeps_every_rule(seed, monkeypatch):
    monkeypatch.setattr(evacuation, "EXACT_TRIES", 500)
    monkeypatch.setattr(evacuation, "SEARCH_TRIES", 500)
    rng = random.Random(seed)
    seen = cluster(*random_cluster(seed, kinds=False))
    hosts = rng.sample(sorted(seen), rng.randint(2, len(seen)))
    rules = {"reserve_bytes": rng.choice([0, GIB // 2]), "vcpu_ratio": rng.choice([None, 2.0])}
    upgrade = plan_upgrade(hosts, Constraints(seen, **rules), at_once=rng.choice([1, 2]))
    assert sorted(host for wave in upgrade.waves for host in wave.hosts) == sorted(hosts)
    for dice in (None, rng):
        replayed(seen, upgrade, dice, **rules)
