# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import (
    Cluster,
    Compatibility,
    HostFacts,
    State,
    UnitFacts,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import order


def cluster(capacities, units, **options):
    hosts = [HostFacts(f"h{n}", size, size, 8.0) for n, size in enumerate(capacities)]
    made = [
        UnitFacts((f"g{n}",), unit[0], unit[1], unit[1] << 20, **(unit[2] if len(unit) > 2 else {}))
        for n, unit in enumerate(units)
    ]
    return Cluster(hosts, made, Compatibility(**options))


def by_cost(made):
    return lambda unit: (made.units[unit].cost, unit)


def told(ordered):
    return [(move.unit, move.source, move.destination, move.after) for move in ordered.moves]


def test_moves_that_have_room_wait_for_nothing():
    made = cluster([4, 4], [(0, 2), (0, 1)])
    ordered = order(State(made), {0: 1, 1: 1}, by_cost(made))
    assert told(ordered) == [(1, 0, 1, ()), (0, 0, 1, ())]


def test_a_move_waits_for_the_room_that_another_leaves():
    made = cluster([4, 4, 4], [(0, 4), (1, 3)])
    ordered = order(State(made), {0: 1, 1: 2}, by_cost(made))
    assert told(ordered) == [(1, 1, 2, ()), (0, 0, 1, (0,))]


def test_a_ring_is_broken_by_parking_the_cheapest():
    made = cluster([4, 4, 4], [(0, 4), (1, 3)])
    ordered = order(State(made), {0: 1, 1: 0}, by_cost(made))
    assert told(ordered) == [(1, 1, 2, ()), (0, 0, 1, (0,)), (1, 2, 0, (0, 1))]
    assert [move.parks for move in ordered.moves] == [True, False, False]


def test_a_ring_without_a_parking_place_is_left():
    made = cluster([4, 4], [(0, 4), (1, 3)])
    assert order(State(made), {0: 1, 1: 0}, by_cost(made)) == ([], (0, 1))


def test_a_bystander_is_parked_and_comes_back():
    """The two that swap fit nowhere else; the third does."""
    made = cluster([6, 5, 2], [(0, 3), (1, 3), (0, 2)])
    state = State(made)
    assert order(State(made), {0: 1, 1: 0}, by_cost(made)).left == (0, 1)
    ordered = order(state, {0: 1, 1: 0}, by_cost(made), parkable=[2])
    assert [(move.unit, move.destination, move.parks) for move in ordered.moves] == [
        (2, 2, True), (1, 0, False), (0, 1, False), (2, 0, False)
    ]  # fmt: skip
    assert state.where == [1, 0, 0]


def test_keep_apart_waits_for_the_other_to_leave():
    made = cluster([9, 9, 9], [(0, 1, {"apart": (7,)}), (1, 2, {"apart": (7,)})])
    ordered = order(State(made), {0: 1, 1: 2}, by_cost(made))
    assert told(ordered) == [(1, 1, 2, ()), (0, 0, 1, (0,))]


def sound(made, where):
    state = State(made, where)
    groups = [(where[n], group) for n, unit in enumerate(made.units) for group in unit.apart]
    return min(state.free) >= 0 and min(state.free_vcpus) >= 0 and len(groups) == len(set(groups))


@pytest.mark.parametrize("seed", range(200))
def test_any_order_that_keeps_to_the_waits_is_sound(seed):
    """Random permutations of full clusters, played in random orders that keep to ``after``, all states looked at."""
    rng = random.Random(seed)
    capacities = [rng.randint(6, 12) for dummy in range(rng.randint(3, 6))]
    hosts = [HostFacts(f"h{n}", size, size, 8.0, vcpu_limit=rng.randint(5, 9)) for n, size in enumerate(capacities)]

    def places(units):
        """A sound place for each, drawn at random, or None."""
        trial = State(Cluster(hosts, units, Compatibility()), [-1] * len(units))
        for number in sorted(range(len(units)), key=lambda n: -units[n].need_bytes):
            compatibility = [h for h in range(len(hosts)) if trial.has_room(number, h) and trial.is_apart(number, h)]
            if not compatibility:
                return None
            trial.drop(number, rng.choice(compatibility))
        return list(trial.where)

    units = [
        UnitFacts((f"g{n}",), 0, rng.randint(1, 5), 1, vcpus=rng.randint(0, 2), apart=rng.choice([(), (), (n % 2,)]))
        for n in range(rng.randint(4, 14))
    ]
    start, end = places(units), places(units)
    while start is None or end is None:
        units.pop()
        start, end = places(units), places(units)
    made = Cluster(hosts, [unit._replace(host=where) for unit, where in zip(units, start)], Compatibility())
    state = State(made)
    ordered = order(state, dict(enumerate(end)), by_cost(made))
    assert all(state.where[unit] == end[unit] for unit in range(len(units)) if unit not in ordered.left)
    for dummy in range(5):
        where, done = list(start), set()
        while len(done) < len(ordered.moves):
            able = [n for n, move in enumerate(ordered.moves) if n not in done and set(move.after) <= done]
            number = rng.choice(able)
            move = ordered.moves[number]
            assert where[move.unit] == move.source
            # A guest takes up room at both ends while it moves.
            during = Cluster(hosts, [*made.units, made.units[move.unit]._replace(apart=())], Compatibility())
            assert min(State(during, [*where, move.destination]).free) >= 0
            where[move.unit] = move.destination
            assert sound(made, where)
            done.add(number)


def test_the_random_orders_are_worth_their_name():
    """Among them are rings, waits and parkings, or the property test proves nothing."""
    waits = parks = 0
    for seed in range(60):
        rng = random.Random(seed)
        made = cluster([10] * 4, [(n % 3, rng.randint(2, 4)) for n in range(8)])
        places = {n: (made.units[n].host + 1) % 3 for n in range(8)}
        if min(State(made).free) < 0:
            continue
        ordered = order(State(made), places, by_cost(made))
        waits += sum(bool(move.after) for move in ordered.moves)
        parks += sum(move.parks for move in ordered.moves)
    assert waits > 20
    assert parks > 5
