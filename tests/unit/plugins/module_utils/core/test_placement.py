# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import compatibility, goals, room
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import group_of, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.paths import refusals_by_path
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import place
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    MIB,
    cluster,
    domain,
    path,
    record,
    snapshot,
    uuid_of,
)


def drained(hosts, *snapshots, intent=None, **options):
    seen = cluster(*snapshots)
    return place(goals.drain(hosts, seen), seen, intent or {}, **options)


def moves(placement):
    return [(step["guest"]["name"], step["destination"]) for step in placement.steps]


def stays(placement):
    return {stay["guest"]["name"]: [r["code"] for r in stay["refusals"]] for stay in placement.stays}


def test_the_largest_goes_first_and_each_to_where_most_stays_free():
    placement = drained(
        ["h1"],
        snapshot("h1", domain("small", memory_bytes=GIB), domain("large", memory_bytes=8 * GIB)),
        snapshot("h2", free_bytes=20 * GIB),
        snapshot("h3", free_bytes=16 * GIB),
    )
    assert moves(placement) == [("large", "h2"), ("small", "h3")]
    assert [step["id"] for step in placement.steps] == ["s001", "s002"]
    assert placement.steps[0]["reason"] == "h2 keeps the most memory free (11.9 GiB after the move)"
    assert placement.stays == []


def test_a_step_says_all_that_the_executor_needs():
    guest = domain("web1", intent={"max_downtime_ms": "200"})
    (step,) = drained(["h1"], snapshot("h1", guest), snapshot("h2"), intent={"deadline_s": 60}).steps
    assert step == {
        "id": "s001",
        "guest": {"name": "web1", "uuid": uuid_of("web1")},
        "source": "h1",
        "destination": "h2",
        "memory_bytes": 512 * MIB,
        "intent": {
            "max_downtime_ms": 200,
            "max_slowdown_pct": None,
            "deadline_s": 60,
            "allow_postcopy": False,
            "allow_suspend": False,
            "allow_shutdown": False,
            "allow_storage_copy": False,
            "bandwidth_mib_s": None,
            "encryption": "required",
        },
        "reason": "h2 is the only host that can take it",
        "strategy": None,
        "forecast": None,
        "after": [],
    }


def test_the_most_constrained_goes_before_the_larger():
    """The large guest would take the only place that the picky one can have."""
    placement = drained(
        ["h1"],
        snapshot("h1", domain("large", memory_bytes=4 * GIB), domain("picky", memory_bytes=3 * GIB, machine="new")),
        with_machine(snapshot("h2", free_bytes=5 * GIB), "new"),
        snapshot("h3", free_bytes=int(4.5 * GIB)),
    )
    assert moves(placement) == [("picky", "h2"), ("large", "h3")]


def with_machine(host, machine):
    host["emulators"][0]["machines"].append(machine)
    return host


def test_room_that_guests_leave_behind_is_not_counted_on():
    """Two hosts are emptied at once: neither is a destination, whatever room it gets."""
    placement = drained(
        ["h1", "h2"],
        snapshot("h1", domain("a", memory_bytes=3 * GIB)),
        snapshot("h2", domain("b", memory_bytes=3 * GIB)),
        snapshot("h3", free_bytes=4 * GIB),
    )
    assert moves(placement) == [("a", "h3")]
    assert stays(placement) == {"b": ["memory"]}


def test_the_reserve_is_kept():
    hosts = [snapshot("h1", domain("a", memory_bytes=GIB)), snapshot("h2", free_bytes=2 * GIB)]
    assert moves(drained(["h1"], *hosts, reserve_bytes=512 * MIB)) == [("a", "h2")]
    assert stays(drained(["h1"], *hosts, reserve_bytes=GIB)) == {"a": ["memory"]}


def test_huge_pages_run_out_too():
    def host(pages):
        made = snapshot("h2", free_bytes=20 * GIB)
        made["capacity"]["cells"][0]["pages"][1]["free"] = pages
        return made

    guests = [domain(name, hugepage_bytes=2 * MIB) for name in ("a", "b")]
    assert stays(drained(["h1"], snapshot("h1", *guests), host(512))) == {}
    assert stays(drained(["h1"], snapshot("h1", *guests), host(511))) == {"b": ["huge_pages"]}


def test_guests_are_kept_apart_from_those_there_and_from_those_to_come():
    placement = drained(
        ["h1"],
        snapshot("h1", domain("web1", apart="web"), domain("web2", apart="web"), domain("web3", apart="web")),
        snapshot("h2", domain("web4", apart="web"), free_bytes=60 * GIB),
        snapshot("h3"),
        snapshot("h4"),
    )
    assert moves(placement) == [("web1", "h3"), ("web2", "h4")]
    assert stays(placement) == {"web3": ["keep_apart"] * 3}
    assert placement.stays[0]["refusals"][0] == {
        "code": "keep_apart",
        "reason": "h2 runs or will run web4, from which web3 is kept apart (group web)",
        "remedy": "add a host that runs no guest of group web, or take web3 out of that group",
    }


def test_a_guest_that_is_off_keeps_no_one_apart():
    off = domain("web2", apart="web", state="shutoff")
    placement = drained(["h1"], snapshot("h1", domain("web1", apart="web")), snapshot("h2", off))
    assert moves(placement) == [("web1", "h2")]


def test_companions_go_to_one_host_even_if_another_has_more_room():
    placement = drained(
        ["h1"],
        snapshot("h1", domain("db", together="app"), domain("app", together="app"), domain("solo")),
        snapshot("h2", domain("cache", together="app"), free_bytes=10 * GIB),
        snapshot("h3", free_bytes=60 * GIB),
    )
    assert dict(moves(placement)) == {"db": "h2", "app": "h2", "solo": "h3"}
    assert placement.steps[0]["reason"] == "h2 has cache of its keep-together group app"


def test_companions_that_do_not_fit_together_stay_together():
    guests = [domain("app", together="x", memory_bytes=3 * GIB), domain("db", together="x", memory_bytes=3 * GIB)]
    placement = drained(
        ["h1"], snapshot("h1", *guests), snapshot("h2", free_bytes=4 * GIB), snapshot("h3", free_bytes=5 * GIB)
    )
    assert placement.steps == []
    assert stays(placement) == {"app": ["keep_together"] * 2, "db": ["keep_together"] * 2}
    assert placement.stays[0]["refusals"][0]["reason"] == (
        "app is kept together with db, and h2 has room for 932 MiB of guests, but db needs 3.1 GiB "
        "(92 MiB of it for QEMU itself)"
    )


def test_a_torn_group_is_not_held_up_by_its_other_half():
    """Half of the group is on each of two hosts that are emptied, and no host can take both halves."""
    placement = drained(
        ["h1", "h2"],
        snapshot("h1", domain("app", together="x", memory_bytes=3 * GIB)),
        snapshot("h2", domain("db", together="x", memory_bytes=3 * GIB)),
        snapshot("h3", free_bytes=4 * GIB),
        snapshot("h4", free_bytes=4 * GIB),
    )
    assert dict(moves(placement)) == {"app": "h3", "db": "h4"}


def test_a_guest_does_not_leave_a_companion_that_cannot_go():
    stuck = domain("db", together="x", blockers=[{"code": "hostdev", "reason": "a GPU", "remedy": "detach it"}])
    placement = drained(["h1"], snapshot("h1", domain("app", together="x"), stuck), snapshot("h2"))
    assert placement.steps == []
    assert placement.stays[0]["refusals"] == [
        {
            "code": "keep_together",
            "reason": "app is kept together with db (group x), which does not leave h1",
            "remedy": "let db move too, or take app out of that group",
        }
    ]
    assert stays(placement)["db"] == ["hostdev"]


def test_groups_that_contradict_each_other():
    guests = [domain(name, together="x", apart="y") for name in ("app", "db")]
    placement = drained(["h1"], snapshot("h1", *guests), snapshot("h2"), snapshot("h3"))
    assert stays(placement) == {"app": ["groups_contradict"], "db": ["groups_contradict"]}
    assert placement.stays[0]["refusals"][0]["remedy"] == "take it out of one of the two groups"


def test_what_keeps_a_guest_is_told_once_and_what_each_destination_says_for_each():
    guests = [
        domain("gpu", blockers=[{"code": "hostdev", "reason": "a GPU", "remedy": "detach it"}]),
        domain("big", memory_bytes=100 * GIB),
    ]
    placement = drained(["h1"], snapshot("h1", *guests), snapshot("h2"), snapshot("h3", maintenance=record("cordoned")))
    assert stays(placement) == {"gpu": ["hostdev"], "big": ["memory", "cordoned"]}
    assert [
        r["reason"][:3] for stay in placement.stays if stay["guest"]["name"] == "big" for r in stay["refusals"]
    ] == [
        "h2 ",
        "h3 ",
    ]


def test_many_destinations_are_told_by_cause():
    big = domain("big", memory_bytes=100 * GIB)
    hosts = [snapshot(f"h{number}") for number in range(2, 8)]
    placement = drained(["h1"], snapshot("h1", big), *hosts, snapshot("h9", maintenance=record("cordoned")))
    memory, cordoned = placement.stays[0]["refusals"]
    assert memory["code"] == "memory"
    assert memory["reason"] == (
        "h2 has room for 32 GiB of guests, but big needs 100 GiB (480 MiB of it for QEMU itself); "
        "much the same for h3, h4, h5 and 2 more"
    )
    assert cordoned["reason"] == "h9 is cordoned"


def test_a_reason_that_is_the_same_everywhere_is_told_once():
    local = domain("db", disks=[{"target": "vda", "source": "/img/db", "shared": False}])
    hosts = [snapshot(f"h{number}") for number in range(2, 8)]
    (refused,) = drained(["h1"], snapshot("h1", local), *hosts).stays[0]["refusals"]
    assert refused["reason"] == "disk vda (/img/db) is on local storage"


def test_no_other_host():
    placement = drained(["h1"], snapshot("h1", domain()))
    assert placement.stays[0]["refusals"][0]["reason"] == "there is no other host for web1"


def test_paths_are_respected():
    broken = path(
        "h1",
        "h2",
        ok=False,
        checks=[
            {"check": "ports", "ok": False, "code": "ports_filtered", "reason": "no answer", "remedy": "open them"}
        ],
    )
    cpu = {"code": "cpu", "reason": "h3 lacks avx512f", "remedy": "choose another host"}
    picky = path("h1", "h3", guests=[{"name": "web1", "uuid": uuid_of("web1"), "refusals": [cpu]}])
    placement = drained(
        ["h1"],
        snapshot("h1", domain("web1"), domain("web2")),
        snapshot("h2"),
        snapshot("h3"),
        paths=refusals_by_path([broken, picky]),
    )
    assert moves(placement) == [("web2", "h3")]
    assert placement.stays[0]["refusals"] == [
        {"code": "ports_filtered", "reason": "no answer", "remedy": "open them"},
        cpu,
    ]


def test_excluded_guests_stay():
    placement = drained(
        ["h1"], snapshot("h1", domain("web1"), domain("web2")), snapshot("h2"), excluded=[uuid_of("web1")]
    )
    assert moves(placement) == [("web2", "h2")]
    assert placement.stays[0]["refusals"] == [
        {
            "code": "excluded",
            "reason": "web1 is left out on request",
            "remedy": "drop it from the exclusion to move it",
        }
    ]


def test_a_guest_with_nonsense_in_its_metadata_stays_and_hinders_no_one():
    guests = [domain("bad", intent={"max_downtime_ms": "soon"}), domain("good")]
    placement = drained(["h1"], snapshot("h1", *guests), snapshot("h2"))
    assert moves(placement) == [("good", "h2")]
    assert placement.stays[0]["refusals"] == [
        {
            "code": "intent",
            "reason": "metadata of bad: max_downtime_ms must be a whole number from 1 to 2000000 (milliseconds), "
            "not 'soon'",
            "remedy": "correct the kvmops:intent element in the guest's metadata",
        }
    ]


def test_awkward_names():
    placement = drained(["h1"], snapshot("h1", *map(domain, AWKWARD_NAMES)), snapshot("h2"), snapshot("h3"))
    assert sorted(name for name, _host in moves(placement)) == sorted(AWKWARD_NAMES)


def test_ties_are_broken_by_name_and_the_order_of_the_input_does_not_matter():
    guests = [domain(f"g{number}") for number in range(6)]
    hosts = [snapshot("h2"), snapshot("h3")]
    expected = drained(["h1"], snapshot("h1", *guests), *hosts)
    assert moves(expected) == [("g0", "h2"), ("g1", "h3"), ("g2", "h2"), ("g3", "h3"), ("g4", "h2"), ("g5", "h3")]
    assert drained(["h1"], *hosts[::-1], snapshot("h1", *guests[::-1])) == expected


def random_cluster(seed):
    """Hosts that are nearly full, with guests of every size, in groups of both kinds."""
    rng = random.Random(seed)
    hosts = []
    for number in range(rng.randint(2, 7)):
        guests = []
        for index in range(rng.randint(0, 8)):
            memory = rng.choice([256 * MIB, 512 * MIB, GIB, 3 * GIB, 6 * GIB])
            guests.append(
                domain(
                    f"g{number}-{index}",
                    memory_bytes=memory,
                    apart=rng.choice([None, None, "a", "b"]),
                    together=rng.choice([None, None, None, f"t{number}", "t"]),
                    hugepage_bytes=rng.choice([None, None, None, 2 * MIB]),
                    state=rng.choice(["running"] * 6 + ["shutoff", "paused"]),
                    machine=rng.choice(["pc-q35-7.2", "pc-q35-7.2", "pc-q35-10.0"]),
                    balloon={"rss_bytes": rng.choice([None, memory, memory // 2])},
                )
            )
        host = snapshot(f"h{number}", *guests, free_bytes=rng.choice([2, 6, 12, 24]) * GIB)
        host["capacity"]["cells"][0]["pages"][1]["free"] = rng.choice([0, 200, 2000])
        host["maintenance"] = record(rng.choice(["active"] * 5 + ["cordoned"]))
        if rng.random() < 0.3:
            host["emulators"][0]["machines"] = ["pc-q35-7.2"]
        hosts.append(host)
    return hosts


@pytest.mark.parametrize("seed", range(150))
def test_no_intermediate_state_breaks_a_rule(seed):
    """Whatever subset of the steps has been carried out when a run stops."""
    rng = random.Random(-seed - 1)
    snapshots = random_cluster(seed)
    seen = cluster(*snapshots)
    sources = rng.sample(sorted(seen), rng.randint(1, max(1, len(seen) // 2)))
    reserve = rng.choice([0, 512 * MIB])
    placement = drained(sources, *snapshots, reserve_bytes=reserve)

    guests = {guest["uuid"]: guest for host in snapshots for guest in host["domains"]}
    active = {guest["uuid"] for host in sources for guest in seen[host]["domains"] if not is_off(guest)}
    told = [item["guest"]["uuid"] for item in [*placement.steps, *placement.stays]]
    assert sorted(told) == sorted(active), "every active guest moves or stays, once"
    assert all(stay["refusals"] for stay in placement.stays)

    for _attempt in range(5):
        done = rng.sample(placement.steps, rng.randint(0, len(placement.steps)))
        check_state(seen, sources, guests, done, reserve)
    check_state(seen, sources, guests, placement.steps, reserve)
    check_companions(seen, sources, placement)


def check_state(seen, sources, guests, done, reserve):
    for host, was in seen.items():
        come = [guests[step["guest"]["uuid"]] for step in done if step["destination"] == host]
        if not come:
            continue
        assert host not in sources
        left = room.room_of(was)
        for guest in come:
            assert compatibility.arriving(guest, seen[home_of(seen, guest)], was, {"encryption": "required"}) == []
            left = room.after_taking(left, guest)
        assert left.memory_bytes >= reserve
        assert all(free >= 0 for free in left.huge_pages.values())
        for guest in come:
            group = group_of(guest, "apart")
            there = [other for other in was["domains"] if not is_off(other)] + come
            fellows = [other for other in there if group and group_of(other, "apart") == group]
            assert len(fellows) <= 1, f"{guest['name']} is not alone on {host}"


def check_companions(seen, sources, placement):
    """Companions that shared a host before share one afterwards."""
    went = {step["guest"]["uuid"]: step["destination"] for step in placement.steps}
    for host in sources:
        together = {}
        for guest in seen[host]["domains"]:
            if group_of(guest, "together") and not is_off(guest):
                together.setdefault(group_of(guest, "together"), set()).add(went.get(guest["uuid"], host))
        assert all(len(places) == 1 for places in together.values()), together


def home_of(seen, guest):
    return next(host for host, was in seen.items() if guest in was["domains"])


def test_the_random_clusters_are_worth_their_name():
    """Among them are moves and stays of every kind, or the property test proves nothing."""
    codes, count = set(), 0
    for seed in range(150):
        placement = drained(["h0"], *random_cluster(seed))
        count += len(placement.steps)
        codes |= {r["code"] for stay in placement.stays for r in stay["refusals"]}
    assert count > 100
    assert codes >= {"memory", "huge_pages", "keep_apart", "keep_together", "groups_contradict"}
    assert codes >= {"paused", "cordoned", "machine_type"}
