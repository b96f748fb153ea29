# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import evacuation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints, Expected
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import Slots
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Window
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import drain as drain_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import memory_demand
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.path_refusals import refusals_by_path
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
from ansible_collections.kvmops.cluster.tests.unit.call_count import calls_of
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.planners.replaying import (
    Replay,
    check_companions,
    play,
)
from bench.inputs import clusters


def drained(hosts, *snapshots, window=None, **options):
    constraints = {key: options.pop(key) for key in list(options) if key in Constraints._fields}
    extra = {"window": window} if window else {}
    return drain(hosts, Constraints(cluster(*snapshots), **constraints), **extra, **options)


def moves(planned):
    return [(step["guest"]["name"], step["source"], step["destination"]) for step in planned.placement.steps]


def stays(planned):
    return {stay["guest"]["name"]: [r["code"] for r in stay["refusals"]] for stay in planned.placement.stays}


def host_with(name, gib, *guests, **changes):
    """A host with so many GiB for guests, of which these take their part."""
    free = int(gib * GIB) - sum(memory_demand.need_bytes(guest) for guest in guests)
    return snapshot(name, *guests, free_bytes=free, **changes)


def test_a_step_says_all_that_the_executor_needs():
    guest = domain("web1", intent={"max_downtime_ms": "200"})
    planned = drained(["h1"], snapshot("h1", guest), snapshot("h2"))
    (step,) = planned.placement.steps
    assert step["intent"]["max_downtime_ms"] == 200
    assert {key: step[key] for key in step if key != "intent"} == {
        "id": "s001",
        "guest": {"name": "web1", "uuid": uuid_of("web1")},
        "source": "h1",
        "destination": "h2",
        "memory_bytes": 512 * MIB,
        "reason": "h2 is the only host that can take it",
        "strategy": None,
        "forecast": None,
        "after": [],
    }
    assert planned.placement.stays == []


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (None, "h2 will have 0 free huge pages of 1 GiB, but web1 needs 1; likewise for h3"),
        ([0], "NUMA cell 0 of h2 has 0 free huge pages of 1 GiB, but web1 needs 1 there (numatune)"),
    ],
)
def test_mixed_pages_go_where_each_size_is_free(cells, reason):
    told = [{"bytes": GIB, "page_bytes": size, "host_cells": cells} for size in (2 * MIB, GIB, None)]
    guest = domain("web1", memory_bytes=3 * GIB, hugepage_bytes=GIB, memory_parts=told)
    hosts = {name: snapshot(name, free_bytes=2 * GIB) for name in ("h1", "h2", "h3", "h4")}
    hosts["h1"]["domains"] = [guest]
    for name, small, large in (("h2", 512, 0), ("h3", 511, 1), ("h4", 512, 1)):
        sizes = {2 * MIB: small, GIB: large}
        pages = [{"size_bytes": size, "free": free} for size, free in sizes.items()]
        hosts[name]["capacity"]["cells"][0]["pages"] = pages
    assert moves(drained(["h1"], *hosts.values())) == [("web1", "h1", "h4")]
    del hosts["h4"]
    (stay,) = drained(["h1"], *hosts.values()).placement.stays
    assert stay["refusals"][0]["reason"] == reason


def test_the_shortest_first_and_those_that_may_fail_before_all():
    guests = [domain("long"), domain("short"), domain("risky")]
    expected = {
        uuid_of("long"): Expected(seconds=50),
        uuid_of("short"): Expected(seconds=5),
        uuid_of("risky"): Expected(seconds=20, is_risky=True),
    }
    planned = drained(["h1"], snapshot("h1", *guests), snapshot("h2"), expected=expected)
    assert [name for name, *dummy in moves(planned)] == ["risky", "short", "long"]
    assert planned.expected["steps"] == {
        "s001": {"start_s": 0.0, "end_s": 20.0},
        "s002": {"start_s": 20.0, "end_s": 25.0},
        "s003": {"start_s": 25.0, "end_s": 75.0},
    }
    assert planned.expected["guessed"] == []


def test_guests_without_a_forecast_are_guessed_and_named():
    planned = drained(
        ["h1"], snapshot("h1", domain("a", memory_bytes=GIB)), snapshot("h2"), window=Window(stated={"h2": GIB})
    )
    assert planned.expected["seconds"] == 3.0
    assert planned.expected["guessed"] == ["a"]


def test_the_window():
    guests = [domain(name) for name in ("a", "b", "c")]
    expected = {uuid_of("a"): Expected(10), uuid_of("b"): Expected(10), uuid_of("c"): Expected(100)}
    planned = drained(["h1"], snapshot("h1", *guests), snapshot("h2"), expected=expected, window=Window(window_s=60))
    assert planned.expected["fits_window"] is False
    assert planned.expected["verdict"] == "fits_without"
    assert planned.expected["without"] == ["c"]
    assert planned.expected["bound_s"] == planned.expected["seconds"] == 120


def test_others_make_room_and_go_first():
    planned = drained(
        ["h1"],
        host_with("h1", 9, domain("big", memory_bytes=6 * GIB)),
        host_with("h2", 7, domain("small", memory_bytes=GIB)),
        host_with("h3", 4),
    )
    assert moves(planned) == [("small", "h2", "h3"), ("big", "h1", "h2")]
    assert planned.placement.steps[0]["reason"] == "makes room on h2 for big"
    assert planned.placement.steps[1]["after"] == ["s001"]
    assert planned.figures == {"extra_bytes": GIB, "extra_is_least": True}


def test_who_is_only_in_the_way_steps_aside_and_comes_back(monkeypatch):
    """Two others must change places, as the search would have it; they fit nowhere else, but the third does."""
    hosts = [
        host_with("h1", 9, domain("mover")),
        host_with("h2", 6.8, domain("a", memory_bytes=3 * GIB), domain("c", memory_bytes=2 * GIB)),
        host_with("h3", 5.6, domain("b", memory_bytes=3 * GIB)),
        host_with("h4", 2.8),
    ]

    def found(state, movers, others, **dummy):
        units = {unit: state.cluster.name_of(unit) for unit in range(len(state.where))}
        by_name = {name: unit for unit, name in units.items()}
        return evacuation.Evacuation({by_name["a"]: 2, by_name["b"]: 1, by_name["mover"]: 2}, ())

    monkeypatch.setattr(drain_plan, "evacuate", found)
    planned = drained(["h1"], *hosts)
    assert stays(planned) == {}
    assert [move for move in moves(planned) if move[0] == "c"] == [("c", "h2", "h4"), ("c", "h4", "h2")]
    reasons = [step["reason"] for step in planned.placement.steps if step["guest"]["name"] == "c"]
    assert reasons[0] == "waits on h4 until there is room on h2"
    play(Replay(cluster(*hosts), closed=["h1"]), planned.placement.steps)


def test_who_no_order_brings_to_its_place_stays_and_no_other_moves_for_it():
    """There is a place for the mover once large and tiny have changed hosts, but small cannot step aside for both."""
    old = snapshot("h1", domain("tiny", memory_bytes=256 * MIB, vcpus=1), free_bytes=6 * GIB)
    old["emulators"][0]["machines"] = ["pc-q35-7.2"]
    planned = drained(
        ["h2"],
        snapshot(
            "h0",
            domain("large", memory_bytes=6 * GIB, vcpus=1),
            domain("small", memory_bytes=256 * MIB, vcpus=1),
            free_bytes=0,
        ),
        old,
        snapshot("h2", domain("mover", memory_bytes=3 * GIB, vcpus=1, machine="pc-q35-10.0"), free_bytes=2 * GIB),
    )
    assert moves(planned) == []
    assert stays(planned) == {"mover": ["memory", "machine_type", "waits_in_a_ring"]}
    assert planned.figures == {"extra_bytes": 0, "extra_is_least": False}


def in_turn(monkeypatch, first):
    """Have this found at first, by name, and thereafter what is found indeed."""
    search, asked = evacuation.evacuate, []

    def found(state, movers, others=(), **options):
        numbers = {state.cluster.name_of(unit): unit for unit in range(len(state.where))}
        hosts = {host.name: number for number, host in enumerate(state.cluster.hosts)}
        asked.append([state.cluster.name_of(unit) for unit in movers])
        if len(asked) > 1:
            return search(state, movers, others, **options)
        return evacuation.Evacuation({numbers[guest]: hosts[host] for guest, host in first.items()}, ())

    monkeypatch.setattr(drain_plan, "evacuate", found)
    return asked


def test_places_are_searched_anew_without_the_largest_that_is_stuck(monkeypatch):
    """What was found sends both movers to where two others would have to change places, which nobody has room for."""
    asked = in_turn(monkeypatch, {"big": "h2", "less": "h2", "a": "h3", "b": "h2"})
    hosts = [
        host_with("h1", 14, domain("big", memory_bytes=7 * GIB), domain("less", memory_bytes=2 * GIB)),
        host_with("h2", 7.2, domain("a", memory_bytes=7 * GIB)),
        host_with("h3", 7.2, domain("b", memory_bytes=6 * GIB)),
        host_with("h4", 2.5),
    ]
    planned = drained(["h1"], *hosts)
    assert asked == [["big", "less"], ["less"]]
    assert moves(planned) == [("less", "h1", "h4")]
    assert stays(planned) == {"big": ["memory", "waits_in_a_ring"]}


def test_who_is_stuck_takes_what_room_is_left(monkeypatch):
    in_turn(monkeypatch, {"big": "h2", "less": "h2", "a": "h3", "b": "h2"})
    hosts = [
        host_with("h1", 14, domain("big", memory_bytes=4 * GIB), domain("less", memory_bytes=2 * GIB)),
        host_with("h2", 7.2, domain("a", memory_bytes=7 * GIB)),
        host_with("h3", 7.2, domain("b", memory_bytes=6 * GIB)),
        host_with("h4", 6.5),
    ]
    planned = drained(["h1"], *hosts)
    assert moves(planned) == [("less", "h1", "h4"), ("big", "h1", "h4")]
    assert stays(planned) == {}
    play(Replay(cluster(*hosts), closed=["h1"]), planned.placement.steps)


def test_others_stay_where_they_are_unless_they_may_move():
    planned = drained(
        ["h1"],
        host_with("h1", 9, domain("big", memory_bytes=6 * GIB)),
        host_with("h2", 7, domain("small", memory_bytes=GIB)),
        host_with("h3", 4),
        may_move_others=False,
    )
    assert moves(planned) == []
    assert stays(planned) == {"big": ["memory", "no_placement"]}
    answer = planned.placement.stays[0]["refusals"][-1]
    assert answer["reason"].endswith("unless other guests move to make room")
    assert answer["remedy"].startswith("permit other guests to move (may_move_others), or shut small down on h2")


def test_no_host_is_to_be_opened_again_that_could_not_take_the_guest_then():
    other_cpu = host_with("h3", 64, maintenance=record("cordoned"))
    other_cpu["emulators"][0]["cpu_models_usable"] = ["Skylake-Server"]
    blind = host_with("h4", 64)
    blind["capacity"]["available_bytes"] = None
    planned = drained(
        ["h1"], host_with("h1", 9, domain("big", memory_bytes=8 * GIB)), host_with("h2", 4), other_cpu, blind
    )
    assert "open h" not in planned.placement.stays[0]["refusals"][-1]["remedy"]


def test_releases_are_named_and_an_unknown_one_is_not_called_older():
    def release(qemu):
        return {"libvirt": "11.3.0", "qemu": qemu, "binding": None, "kernel": None}

    here = snapshot("h1", domain("a"), versions=release("10.0.13"))
    hosts = [here, snapshot("h2", versions=release(None)), snapshot("h3", versions=release("9.2.0"))]
    unknown = drained(["h1"], *hosts).placement.stays[0]["refusals"][0]
    assert unknown["code"] == "older_hypervisor"
    assert unknown["reason"].startswith("h2 did not report its QEMU version, so it may be older than the 10.0.13 on h1")
    older = drained(["h1"], here, hosts[2]).placement.stays[0]["refusals"][0]
    assert older["reason"] == "h3 runs an older QEMU than the host of a (9.2.0; h1 runs 10.0.13)"


def test_the_binding_constraint_and_what_would_free_it():
    planned = drained(
        ["h1"],
        host_with("h1", 9, domain("big", memory_bytes=8 * GIB)),
        host_with("h2", 9, domain("tiny", memory_bytes=512 * MIB), domain("mid", memory_bytes=4 * GIB)),
        host_with("h3", 4),
        host_with("h4", 20, maintenance=record("cordoned")),
    )
    (stay,) = planned.placement.stays
    memory, cordoned, answer = stay["refusals"]
    assert memory["reason"] == ("h2 will have room for 4.3 GiB of guests, but big needs 8.1 GiB; likewise for h3")
    assert cordoned["code"] == "cordoned"
    assert answer["code"] == "no_placement"
    assert answer["remedy"].startswith("open h4 again (it has room for it), or shut mid down on h2, or give h2 3.")


def test_virtual_cpus_and_older_hypervisors_bind_too():
    older = {"libvirt": "11.3.0", "qemu": "9.2.0", "binding": None, "kernel": None}
    hosts = [
        snapshot("h1", domain("a", vcpus=8)),
        snapshot("h2", domain("b", vcpus=12)),
        snapshot("h3", versions=older),
    ]
    assert stays(drained(["h1"], *hosts, vcpu_ratio=1)) == {"a": ["vcpus", "older_hypervisor", "no_placement"]}
    assert moves(drained(["h1"], *hosts, vcpu_ratio=1, may_downgrade=True)) == [("a", "h1", "h3")]
    assert moves(drained(["h1"], *hosts)) == [("a", "h1", "h2")]


def test_a_reason_says_what_speaks_for_the_destination():
    hosts = [snapshot("h1", domain("web1")), snapshot("h2"), snapshot("h3")]
    assert drained(["h1"], *hosts).placement.steps[0]["reason"] == "h2 has room for it (31.4 GiB left at the end)"
    hosts[1] = snapshot("h2", free_bytes=0)
    only = "h3 is the only host that can take it"
    full = f"{only} (h2 will have room for 0 B of guests, but web1 needs 594 MiB)"
    assert drained(["h1"], *hosts).placement.steps[0]["reason"] == full
    # Who is told of two hosts can guess the rest.
    hosts += [snapshot(name, free_bytes=0) for name in ("h4", "h5")]
    told = drained(["h1"], *hosts).placement.steps[0]["reason"]
    assert told.startswith(f"{only} (h2 will have room for 0 B of guests, but web1 needs 594 MiB; h4 will have")
    assert told.endswith("; and so on for 1 more)")


def test_awkward_names():
    planned = drained(["h1"], snapshot("h1", *map(domain, AWKWARD_NAMES)), snapshot("h2"), snapshot("h3"))
    assert sorted(name for name, *_hosts in moves(planned)) == sorted(AWKWARD_NAMES)


def test_the_order_of_the_input_does_not_matter():
    guests, hosts = [domain(f"g{number}") for number in range(6)], [snapshot("h2"), snapshot("h3")]
    planned = drained(["h1"], snapshot("h1", *guests), *hosts)
    assert drained(["h1"], *hosts[::-1], snapshot("h1", *guests[::-1])) == planned


def test_reasons_of_its_own_and_of_companions():
    stuck = domain("gpu", together="x", blockers=[{"code": "hostdev", "reason": "a GPU", "remedy": "detach it"}])
    planned = drained(
        ["h1"],
        snapshot(
            "h1", stuck, domain("app", together="x"), domain("left"), domain("odd", intent={"max_downtime_ms": "x"})
        ),
        snapshot("h2"),
        excluded=[uuid_of("left")],
    )
    assert stays(planned) == {"gpu": ["hostdev"], "app": ["keep_together"], "left": ["excluded"], "odd": ["intent"]}


def test_companions_go_to_where_the_others_of_their_group_are():
    planned = drained(
        ["h1"],
        snapshot("h1", domain("db", together="app"), domain("app", together="app")),
        snapshot("h2", domain("cache", together="app"), free_bytes=10 * GIB),
        snapshot("h3", free_bytes=60 * GIB),
    )
    assert moves(planned) == [("app", "h1", "h2"), ("db", "h1", "h2")]


def test_paths_are_respected():
    cpu = {"code": "cpu", "reason": "h3 lacks avx512f", "remedy": "choose another host"}
    broken = {"check": "ports", "ok": False, "code": "ports_filtered", "reason": "no answer", "remedy": "open them"}
    paths = refusals_by_path([
        path("h1", "h2", ok=False, checks=[broken]),
        path("h1", "h3", guests=[{"name": "web1", "uuid": uuid_of("web1"), "refusals": [cpu]}]),
    ])  # fmt: skip
    hosts = [snapshot("h1", domain("web1"), domain("web2")), snapshot("h2"), snapshot("h3")]
    planned = drained(["h1"], *hosts, paths=paths)
    assert moves(planned) == [("web2", "h1", "h3")]
    # Each host has something against it; that others might move is no matter then.
    assert sorted(stays(planned)["web1"]) == ["cpu", "ports_filtered"]


def test_several_hosts_at_once_and_never_into_one_of_them():
    planned = drained(
        ["h1", "h2"],
        snapshot("h1", domain("a"), domain("b")),
        snapshot("h2", domain("c"), domain("d")),
        snapshot("h3"),
        snapshot("h4"),
        window=Window(slots=Slots(per_destination=1)),
    )
    assert {destination for dummy, dummy2, destination in moves(planned)} == {"h3", "h4"}
    assert planned.expected["above_bound"] == 0


def test_n_plus_one():
    hosts = [
        host_with("h1", 8, domain("a", memory_bytes=2 * GIB)),
        host_with("h2", 8, domain("b", memory_bytes=4 * GIB)),
        host_with("h3", 8, domain("c", memory_bytes=4 * GIB)),
    ]
    assert len(moves(drained(["h1"], *hosts, spare="off"))) == 1
    warned = drained(["h1"], *hosts, spare="warn")
    assert len(moves(warned)) == 1
    assert warned.remarks[0]["code"] == "n_plus_one"
    required = drained(["h1"], *hosts, spare="require")
    assert moves(required) == []
    assert stays(required) == {"a": ["n_plus_one"]}


def test_guests_without_a_forecast_among_others_with_one_take_as_long_for_their_memory():
    """2 GiB were forecast to take 20 s, so that 1 GiB without a forecast costs less than 15 s."""
    guests = [
        domain("known", memory_bytes=2 * GIB),
        domain("mid", memory_bytes=2 * GIB),
        domain("new", memory_bytes=GIB),
    ]
    expected = {uuid_of("known"): Expected(seconds=25), uuid_of("mid"): Expected(seconds=15)}
    planned = drained(["h1"], snapshot("h1", *guests), snapshot("h2"), expected=expected)
    assert [name for name, *dummy in moves(planned)] == ["new", "mid", "known"]
    assert planned.expected["guessed"] == ["new"]


@pytest.mark.parametrize("capacity", [0, None])
def test_a_host_that_reports_no_memory_is_no_destination(capacity):
    odd = snapshot("h2")
    odd["capacity"]["memory_bytes"] = capacity
    assert stays(drained(["h1"], snapshot("h1", domain("a")), odd)) == {"a": ["memory_unknown", "no_placement"]}


def test_a_host_that_does_not_know_its_memory_is_no_destination():
    blind = snapshot("h2")
    blind["capacity"]["available_bytes"] = None
    assert stays(drained(["h1"], snapshot("h1", domain("a")), blind)) == {"a": ["memory_unknown", "no_placement"]}


def test_a_name_that_the_destination_has_for_something_else():
    other = domain("a", uuid=uuid_of("another a"), state="shutoff")
    planned = drained(["h1"], snapshot("h1", domain("a")), snapshot("h2", other), snapshot("h3"))
    assert moves(planned) == [("a", "h1", "h3")]


@pytest.fixture
def briefly(monkeypatch):
    """Give hopeless cases up soon: rules are looked at here, not what is found."""
    monkeypatch.setattr(evacuation, "EXACT_TRIES", 2000)
    monkeypatch.setattr(evacuation, "SEARCH_TRIES", 2000)


def random_cluster(seed, *, kinds=True):
    """Hosts that are nearly full, with guests of every size, in groups of both kinds."""
    rng = random.Random(seed)
    hosts = []
    for number in range(rng.randint(3, 7)):
        guests = [random_guest(rng, f"g{number}-{index}", number) for index in range(rng.randint(0, 8))]
        host = snapshot(f"h{number}", *guests, free_bytes=rng.choice([2, 4, 6, 12]) * GIB)
        host["capacity"]["cells"][0]["pages"][1]["free"] = rng.choice([0, 600, 2000])
        host["maintenance"] = record(rng.choice(["active"] * 5 + ["cordoned"]))
        if kinds and rng.random() < 0.3:
            host["emulators"][0]["machines"] = ["pc-q35-7.2"]
        if kinds and rng.random() < 0.2:
            host["versions"] = {**host["versions"], "qemu": "10.1.2"}
        hosts.append(host)
    return hosts


def random_guest(rng, name, number):
    memory = rng.choice([256 * MIB, 512 * MIB, GIB, 3 * GIB, 6 * GIB])
    made = domain(
        name,
        memory_bytes=memory,
        vcpus=rng.randint(1, 4),
        apart=rng.choice([None, None, None, f"a{rng.randint(0, 9)}"]),
        together=rng.choice([None, None, None, f"t{number}", "t"]),
        hugepage_bytes=rng.choice([None, None, None, 2 * MIB]),
        state=rng.choice(["running"] * 8 + ["shutoff", "paused"]),
        machine=rng.choice(["pc-q35-7.2", "pc-q35-7.2", "pc-q35-10.0"]),
        balloon={"rss_bytes": rng.choice([None, memory, memory // 2])},
    )
    if made["hugepage_bytes"] and rng.random() < 0.5:
        half = {"bytes": memory // 2, "host_cells": rng.choice([None, [0]])}
        made["memory_parts"] = [{**half, "page_bytes": 2 * MIB}, {**half, "page_bytes": None}]
    return made


@pytest.mark.parametrize("seed", range(150))
@pytest.mark.usefixtures("briefly")
def test_every_state_between_keeps_every_rule(seed):
    rng = random.Random(-seed - 1)
    snapshots = random_cluster(seed)
    seen = cluster(*snapshots)
    hosts = rng.sample(sorted(seen), rng.randint(1, max(1, len(seen) // 2)))
    rules = {"reserve_bytes": rng.choice([0, 512 * MIB]), "vcpu_ratio": rng.choice([None, 1.0, 2.0])}
    planned = drained(hosts, *snapshots, **rules)
    steps = planned.placement.steps
    for dice in (None, rng, rng, rng):
        ended = play(Replay(seen, closed=hosts, **rules), steps, dice)
    check_companions(seen, ended)
    active = {guest["uuid"] for host in hosts for guest in seen[host]["domains"] if not is_off(guest)}
    gone = {uuid for uuid in active if ended.where[uuid] not in hosts}
    assert {stay["guest"]["uuid"] for stay in planned.placement.stays} == active - gone
    assert all(stay["refusals"] for stay in planned.placement.stays)


@pytest.mark.usefixtures("briefly")
def test_the_random_clusters_are_worth_their_name():
    codes, moved, waits, extra = set(), 0, 0, 0
    for seed in range(100):
        planned = drained(["h0"], *random_cluster(seed))
        moved += len(planned.placement.steps)
        waits += sum(bool(step["after"]) for step in planned.placement.steps)
        extra += bool(planned.figures["extra_bytes"])
        codes |= {r["code"] for stay in planned.placement.stays for r in stay["refusals"]}
    assert moved > 100
    assert waits > 10
    assert extra > 5
    assert codes >= {"memory", "keep_apart", "keep_together", "paused", "cordoned", "machine_type", "no_placement"}


def test_a_drain_of_one_of_three_hundred_hosts_takes_not_much_more_than_ten_times_one_of_thirty():
    """Function calls, for 6,000 guests and for 600: they are the same on a busy machine and on a quiet one."""
    calls = []
    for hosts in (30, 300):
        seen = clusters.snapshots(clusters.cluster(clusters.Shape(hosts=hosts, guests=20 * hosts, seed=3)))
        found = []
        calls.append(calls_of(lambda seen=seen, found=found: found.append(drain(["h0015"], Constraints(seen)))))
        assert found[0].placement.stays == []
    few, many = calls
    assert few < many < 15 * few


def test_the_core_needs_no_solver():
    """Where ortools is not installed, nothing here asks for it."""
    core = Path(importlib.util.find_spec(drain.__module__).origin).parent
    assert not [file.name for file in core.glob("*.py") if "import ortools" in file.read_text("utf-8")]
