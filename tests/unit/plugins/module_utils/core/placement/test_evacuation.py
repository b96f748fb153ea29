# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import evacuation, n_plus_one
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import (
    NOWHERE,
    Cluster,
    Compatibility,
    HostFacts,
    State,
    UnitFacts,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.ejection import eject
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import CandidateHosts, evacuate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.packing import pack
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.repacking import Repacking
from bench.inputs import clusters


def cluster(capacities, units, closed=(), **options):
    """Hosts by their capacity; units as (host, size) or with more facts by name."""
    hosts = [HostFacts(f"h{n}", size, size, 8.0, is_open=n not in closed) for n, size in enumerate(capacities)]
    made = [
        UnitFacts((f"g{n}",), unit[0], unit[1], unit[1] << 20, **(unit[2] if len(unit) > 2 else {}))
        for n, unit in enumerate(units)
    ]
    return Cluster(hosts, made, Compatibility(**options))


def drained(made, host=0, **options):
    state = State(made)
    movers = sorted(state.on[host])
    others = [unit for unit, facts in enumerate(made.units) if facts.host != host and not facts.is_pinned]
    return state, evacuate(state, movers, others, **options)


def test_guests_are_spread():
    state, found = drained(cluster([8, 8, 8], [(0, 2), (0, 2), (0, 2), (0, 2)], closed=[0]))
    assert found.unplaced == ()
    assert [len(on) for on in state.on] == [0, 2, 2]


def test_sources_do_not_share_one_destination_that_could_take_all():
    made = cluster([4, 4, 100, 50], [(0, 2), (0, 2), (1, 2), (1, 2)], closed=[0, 1])
    state = State(made)
    evacuate(state, [0, 1, 2, 3])
    assert [len(on) for on in state.on] == [0, 0, 2, 2]


def test_what_does_not_fit_the_plain_way_is_packed():
    """Largest first to where most is free puts 5 and 4 apart, and then 3 has no place."""
    state, found = drained(cluster([12, 9, 8], [(0, 5), (0, 4), (0, 3), (0, 3), (0, 2)], closed=[0]))
    assert found.unplaced == ()
    assert (found.extra_cost, found.is_proven) == (0.0, True)
    assert state.free == [12, 0, 0]


def test_others_make_room_at_the_least_cost():
    state, found = drained(cluster([6, 8, 8], [(0, 6), (1, 1), (1, 2), (2, 3)], closed=[0]))
    assert found.places == {0: 1, 1: 2}
    assert (found.extra_cost, found.bound, found.is_proven) == (1.0, 1.0, True)
    assert min(state.free) >= 0


def test_pinned_guests_do_not_make_room():
    made = cluster([6, 8, 8], [(0, 6), (1, 1, {"is_pinned": True}), (1, 2), (2, 3)], closed=[0])
    dummy, found = drained(made)
    assert found.places == {0: 1, 2: 2}
    assert found.extra_cost == 2.0


def test_no_placement_is_proven():
    state, found = drained(cluster([8, 8, 8], [(0, 4), (0, 4), (1, 3), (2, 3), (1, 3)], closed=[0]))
    assert found.is_proven
    assert len(found.unplaced) == 1
    assert state.where[found.unplaced[0]] == 0


def test_a_solver_takes_the_seat_of_the_search(monkeypatch):
    monkeypatch.setattr(
        "ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation.EXACT_TRIES", 1
    )
    asked = []

    def solver(state, movers, others, candidates):
        asked.append((list(movers), list(others)))
        return {0: 2, 3: 1}

    dummy, found = drained(cluster([6, 8, 8], [(0, 6), (1, 1), (1, 2), (2, 3)], closed=[0]), solver=solver)
    assert asked == [([0], [1, 2, 3])]
    assert found.places == {0: 2, 3: 1}


@pytest.mark.parametrize("level", [0.93, 0.96, 0.99])
@pytest.mark.parametrize("seed", range(1, 21))
def test_tight_drains(level, seed):
    made = clusters.tight(level, seed)
    state, found = drained(made)
    assert found.unplaced == ()
    assert not state.on[0]
    assert min(state.free) >= 0
    assert found.extra_cost <= 1.5 * found.bound


def brute_force(made, movers, others):
    """The least cost of others that must move, over all places of all units; None where there is none."""
    best = None
    hosts = [n for n, host in enumerate(made.hosts) if host.is_open]
    for places in itertools.product(hosts, repeat=len(movers) + len(others)):
        state = State(made)
        for unit, host in zip([*movers, *others], places):
            state.lift(unit)
            state.drop(unit, host)
        apart = [(state.where[n], group) for n, unit in enumerate(made.units) for group in unit.apart]
        if min(state.free) < 0 or min(state.free_vcpus) < 0 or len(set(apart)) < len(apart):
            continue
        cost = sum(made.units[u].cost for u in others if state.where[u] != made.units[u].host)
        best = cost if best is None else min(best, cost)
    return best


@pytest.mark.parametrize("seed", range(60))
def test_the_least_extra_cost_is_found_or_that_there_is_no_place(seed):
    rng = random.Random(seed)
    sizes = [rng.randint(1, 6) for dummy in range(7)]
    units = []
    free = [9, 9, 9]
    for number, size in enumerate(sizes):
        compatibility = [host for host in range(3) if free[host] >= size] or [0]
        host = rng.choice(compatibility)
        free[host] -= size
        units.append((host, size, {"vcpus": rng.randint(1, 3), "apart": (number,) if rng.random() < 0.5 else ()}))
    hosts = [HostFacts(f"h{n}", 9, 9, 8.0, vcpu_limit=14, is_open=n > 0) for n in range(3)]
    made = Cluster(hosts, cluster([9, 9, 9], units).units, Compatibility())
    state, found = drained(made)
    movers = [n for n, unit in enumerate(made.units) if unit.host == 0]
    others = [n for n, unit in enumerate(made.units) if unit.host]
    least = brute_force(made, movers, others)
    assert bool(found.unplaced) == (least is None)
    assert found.is_proven
    if least is not None:
        assert found.extra_cost == least
    moved = {n for n, unit in enumerate(made.units) if state.where[n] != unit.host}
    assert moved == set(found.places)


def test_a_packing_that_is_given_up_is_no_proof():
    made = cluster([12, 9, 8], [(0, 5), (0, 4), (0, 3), (0, 3), (0, 2)], closed=[0])
    state = State(made)
    candidates = CandidateHosts(state, list(state.where))
    for unit in range(5):
        state.lift(unit)
    assert pack(state, range(5), candidates, 3)[:2] == (None, False)
    assert pack(state, range(5), candidates, 100).places is not None
    assert state.where == [NOWHERE] * 5


def test_a_packing_may_be_of_more_units_than_python_calls_deep():
    units = [(0, 2), *[(0, 1)] * 1500]
    state = State(cluster([1502, 702, 800], units, closed=[0]))
    candidates = CandidateHosts(state, list(state.where))
    for unit in range(len(units)):
        state.lift(unit)
    places = pack(state, range(len(units)), candidates, 100_000).places
    assert sorted(places.values()) == [1] * 701 + [2] * 800
    assert state.where == [NOWHERE] * len(units)


@pytest.mark.parametrize("barred", [1, 2])
def test_of_others_alike_in_size_the_one_moves_that_may_go_there(barred):
    """Two that differ in nothing but where they may go; one of them in the way is enough, if it is the right one."""
    made = cluster([5, 8, 3, 1], [(0, 5), (1, 3), (1, 3)], closed=[0], barred_guests=[(barred, 2)])
    dummy, found = drained(made)
    assert found.places == {0: 1, 3 - barred: 2}
    assert (found.extra_cost, found.is_proven) == (3.0, True)


def test_the_search_that_proves_nothing_finds_what_the_exact_one_finds():
    made = clusters.tight(0.99, 2)
    state = State(made)
    movers = sorted(state.on[0])
    others = [unit for unit, facts in enumerate(made.units) if facts.host]
    candidates = CandidateHosts(state, list(state.where))
    for unit in movers:
        state.lift(unit)
    exact = eject(state, movers, others, candidates, 100_000)
    search = Repacking(state.copy(), movers, others, candidates)
    search.run(100_000, random.Random(1))
    assert search.best is not None
    assert search.best[0] <= 1.5 * exact.bound


def test_a_mover_with_few_hosts_is_looked_at_where_it_may_go(monkeypatch):
    """Unit 0 may only go to host 1, which has less room than all others; for unit 1, one of the others must go."""
    monkeypatch.setattr(evacuation, "MOST_HOSTS", 5)
    units = [(0, 2), (0, 6), *((host, 4) for host in range(2, 12) for dummy in range(2))]
    made = cluster([8, 2, *[12] * 10], units, closed=[0], barred_guests=[(0, host) for host in range(2, 12)])
    dummy, found = drained(made)
    assert found.unplaced == ()
    assert found.places[0] == 1


def drained_by_search(monkeypatch, made):
    """Without what the exact search would find."""
    monkeypatch.setattr(evacuation, "EXACT_TRIES", 1)
    monkeypatch.setattr(evacuation, "SEARCH_TRIES", 2_000)
    return drained(made)


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_host_that_is_overfull_to_begin_with_is_no_reason_to_find_nothing(is_closed, monkeypatch):
    made = cluster([6, 8, 8, 4], [(0, 6), (1, 1), (1, 2), (2, 3), (3, 5)], closed=[0, *[3] * is_closed])
    state, found = drained_by_search(monkeypatch, made)
    assert found.unplaced == ()
    assert state.free[:3] == [6, 0, 4]
    assert state.on[3] == {4}


def test_nobody_comes_to_an_overfull_host_for_one_that_leaves_it(monkeypatch):
    """Host 2 would have three too much as before if one leaves and another comes, but no order does that."""
    made = cluster([5, 5, 7], [(0, 5), (2, 5), (2, 5)], closed=[0], barred_guests=[(0, 1)])
    state, found = drained_by_search(monkeypatch, made)
    assert found.unplaced == (0,)
    assert found.places == {}
    assert state.on[2] == {1, 2}


def test_only_tries_that_were_made_are_told(monkeypatch):
    """Its group is on both hosts, so the search cannot even begin."""
    units = [(0, 2, {"apart": (1,)}), (1, 2, {"apart": (1,)}), (2, 2, {"apart": (1,)})]
    dummy, found = drained_by_search(monkeypatch, cluster([8, 8, 8], units, closed=[0]))
    assert found.unplaced == (0,)
    assert not found.is_proven
    assert found.tries < 10


def test_n_plus_one():
    spare = State(cluster([8, 8, 8], [(0, 4), (1, 4), (2, 4)]))
    assert n_plus_one.unprotected(spare) == []
    full = State(cluster([8, 8, 8], [(0, 4), (0, 2), (1, 6), (2, 6)]))
    assert n_plus_one.unprotected(full) == [0, 1, 2]
    assert full.where == [0, 0, 1, 2]


def test_n_plus_one_needs_a_packing_that_the_plain_way_misses():
    """5, 4, 3, 3 and 2 fit into 9 and 8, but not the largest first to where most is free."""
    state = State(cluster([17, 9, 8], [(0, 5), (0, 4), (0, 3), (0, 3), (0, 2)]))
    assert n_plus_one.unprotected(state) == []


def test_a_move_must_leave_covered_what_is_covered():
    state = State(cluster([8, 8, 2], [(0, 4), (1, 4), (2, 1)]))
    guard = n_plus_one.NPlusOneGuard(state)
    assert guard.broken == frozenset()
    assert guard.allows(state, 0, 1)
    assert not guard.allows(state, 2, 1)
    assert state.where == [0, 1, 2]
