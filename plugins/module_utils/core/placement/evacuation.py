# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find destinations for the guests of hosts that are to be empty, in numbers.

1. Place one guest after the other. Guests with the fewest candidate hosts come first, then the largest. They are spread
   so that no destination receives more than the busiest source sends.
2. If guests are left: an exact packing, which also moves other guests, the cheapest first (ejection.py).
3. If that gives up: the exact solver, if there is one; then a search that proves nothing (repacking.py).
4. If that finds nothing either: place as many as possible, and say that the rest has no place.
"""

from __future__ import annotations

import math
import random
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import NOWHERE, State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.ejection import eject
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.repacking import Repacking

#: An exact solver may take this seat: same arguments as ``_searched``, places or nothing.
Solver = t.Callable[[State, t.Sequence[int], t.Sequence[int], "CandidateHosts"], t.Optional[t.Mapping[int, int]]]

#: Hosts that the searches look at: those with the most room. More would not help, and take long.
MOST_HOSTS = 40
#: Of those that a mover may go to: so many at least, as far as there are, be there more room elsewhere or not.
LEAST_CANDIDATES = 8
EXACT_TRIES = 100_000
SEARCH_TRIES = 200_000
SEARCH_ROUNDS = 3


class Evacuation(t.NamedTuple):
    """What was found.

    Attributes:
        places: where each unit goes: the movers that have a place, and others that make room for them.
        unplaced: movers without a place.
        extra_cost: what moving others costs.
        bound: the others cannot be moved for less.
        is_proven: ``extra_cost`` is the least there is; or, of unplaced ones, that there is no place for all.
        tries: placements and steps looked at.
        stuck: of the unplaced ones, those that have a place which no order of moves brings them to.
    """

    places: dict[int, int]
    unplaced: tuple[int, ...]
    extra_cost: float = 0.0
    bound: float = 0.0
    is_proven: bool = True
    tries: int = 0
    stuck: tuple[int, ...] = ()


class CandidateHosts:
    """The hosts that each unit may go to from its home. Free memory and groups are not considered."""

    def __init__(self, state: State, homes: t.Sequence[int], hosts: t.Sequence[int] | None = None) -> None:
        self._state, self._homes = state, homes
        self._hosts = range(len(state.free)) if hosts is None else hosts
        self._known: dict[tuple[int, int, int], tuple[int, ...]] = {}
        self._barred = {unit for unit, dummy in state.cluster.compatibility.barred_guests}

    def __call__(self, unit: int) -> tuple[int, ...]:
        """Numbers of hosts, in order."""
        home = self._homes[unit]
        # Units of one kind and one home differ in nothing that is asked here, unless one of them is barred somewhere.
        key = (home, self._state.cluster.units[unit].guest_class, unit if unit in self._barred else -1)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tuple(h for h in self._hosts if self._state.may_go(unit, h, home))
        return found


def evacuate(
    state: State, movers: t.Sequence[int], others: t.Sequence[int] = (), *, solver: Solver | None = None
) -> Evacuation:
    """Find hosts for the movers. In the end, ``state`` has each unit on its host.

    ``others`` may move to make room. Hosts that are to be empty are closed, so no unit goes there.
    """
    homes = list(state.where)
    candidates = CandidateHosts(state, homes)
    at_most = _most_room(state, others)
    able = [unit for unit in movers if _may_ever_fit(state, unit, candidates(unit), at_most)]
    hopeless = sorted(set(movers) - set(able))
    plain = spread(state, able, candidates)
    if len(plain) == len(able):
        return Evacuation(plain, tuple(hopeless), tries=len(able))
    for unit in able:
        state.lift(unit)
    found = _search(state, able, others, homes, solver)
    for unit in able:
        if state.where[unit] == NOWHERE:
            state.drop(unit, homes[unit])
    if found.places:
        for unit, host in found.places.items():
            state.move(unit, host)
        return found._replace(unplaced=tuple(hopeless))
    most = spread(state, sorted(able, key=lambda unit: state.need[unit]), candidates, tightest=True)
    kept = most if len(most) > len(plain) else plain
    for unit in able:
        state.move(unit, kept.get(unit, homes[unit]))
    return found._replace(places=kept, unplaced=tuple(u for u in movers if u not in kept))


def spread(
    state: State, movers: t.Sequence[int], candidates: CandidateHosts, *, tightest: bool = False
) -> dict[int, int]:
    """Place units one after the other on the host with the most free memory, while no destination is a bottleneck.

    With equal links, a destination is no bottleneck if it receives no more than the busiest source sends (open shop,
    Gonzalez and Sahni 1976). ``tightest`` keeps the given order and takes the host that is left the fullest. The state
    is updated; a unit without a host stays where it is.
    """
    units = state.cluster.units
    sent: dict[int, float] = {}
    for unit in movers:
        sent[state.where[unit]] = sent.get(state.where[unit], 0.0) + units[unit].cost
    fair = max(sent.values(), default=0.0)
    received: dict[int, float] = {}
    places: dict[int, int] = {}
    order = movers if tightest else sorted(movers, key=lambda unit: (len(candidates(unit)), -state.need[unit], unit))
    for unit in order:
        hosts = [host for host in candidates(unit) if state.has_room(unit, host) and state.is_apart(unit, host)]
        if not hosts:
            continue
        cost = units[unit].cost
        near = _companions(state, unit) if units[unit].together is not None else set()
        hosts = [host for host in hosts if host in near] or hosts
        if tightest:
            host = min(hosts, key=lambda h: (state.free[h], h))
        else:
            host = min(hosts, key=lambda h: (max(0.0, received.get(h, 0.0) + cost - fair), -state.free[h], h))
        received[host] = received.get(host, 0.0) + cost
        state.move(unit, host)
        places[unit] = host
    return places


def _companions(state: State, unit: int) -> set[int]:
    """Return the hosts with other parts of a keep-together group, so that a split group comes together."""
    units = state.cluster.units
    group = units[unit].together
    return {state.where[n] for n, facts in enumerate(units) if facts.together == group and n != unit}


def _most_room(state: State, others: t.Sequence[int]) -> tuple[list[int], list[int]]:
    """Return free memory and virtual CPUs of each host as if all others had left it."""
    free, vcpus = list(state.free), list(state.free_vcpus)
    for unit in others:
        free[state.where[unit]] += state.need[unit]
        vcpus[state.where[unit]] += state.vcpus[unit]
    return free, vcpus


def _may_ever_fit(state: State, unit: int, hosts: t.Sequence[int], most: tuple[list[int], list[int]]) -> bool:
    free, vcpus = most
    return any(free[host] >= state.need[unit] and vcpus[host] >= state.vcpus[unit] for host in hosts)


def _search(
    state: State, movers: t.Sequence[int], others: t.Sequence[int], homes: t.Sequence[int], solver: Solver | None
) -> Evacuation:
    """Search with the exact methods, the solver and the annealing. The state is the same afterwards."""
    hosts = _search_hosts(state, movers, CandidateHosts(state, homes))
    near = set(hosts)
    if sum(state.need[unit] for unit in movers) > sum(
        max(0, left) for left, open_ in zip(state.free, state.is_open) if open_
    ):
        # Whatever moves among these hosts, what is free of all of them remains the same.
        return Evacuation({}, ())
    candidates = CandidateHosts(state, homes, hosts)
    nearby = [unit for unit in others if state.where[unit] in near and candidates(unit)]
    exact = eject(state, movers, nearby, candidates, EXACT_TRIES)
    is_whole = len(hosts) == sum(state.is_open)
    if exact.places is not None or exact.is_proven:
        places = exact.places or {}
        return Evacuation(
            places, (), _extra(state, places, movers), exact.bound, exact.is_proven and is_whole, exact.tries
        )
    bound = exact.bound if is_whole else 0.0
    solved = solver(state, movers, nearby, candidates) if solver else None
    if solved is not None:
        cost = _extra(state, solved, movers)
        return Evacuation(dict(solved), (), cost, cost if is_whole else 0.0, is_whole, exact.tries)
    best: tuple[float, dict[int, int]] | None = None
    tries = exact.tries
    for number in range(SEARCH_ROUNDS):
        search = Repacking(state.copy(), movers, nearby, candidates)
        tries += search.run(SEARCH_TRIES, random.Random(number))  # noqa: S311 - the same plan every time
        if search.best is not None and (best is None or search.best[0] < best[0]):
            best = search.best
        if best is not None and best[0] <= bound:
            break
    if best is None:
        return Evacuation({}, (), 0.0, bound, False, tries)
    return Evacuation(best[1], (), best[0], bound, best[0] <= bound, tries)


def _search_hosts(state: State, movers: t.Sequence[int], candidates: CandidateHosts) -> list[int]:
    """Return the hosts with the most free memory, and more where a mover has few candidates."""
    hosts = [host for host, is_open in enumerate(state.is_open) if is_open]
    found = set(_roomiest(state, hosts, MOST_HOSTS))
    if len(found) < len(hosts):
        for able in dict.fromkeys(candidates(unit) for unit in movers):
            if len(found.intersection(able)) < LEAST_CANDIDATES:
                found.update(_roomiest(state, able, LEAST_CANDIDATES))
    return sorted(found)


def _roomiest(state: State, hosts: t.Sequence[int], most: int) -> list[int]:
    return sorted(hosts, key=lambda host: -state.free[host])[:most]


def _extra(state: State, places: t.Mapping[int, int], movers: t.Sequence[int]) -> float:
    must = set(movers)
    return math.fsum(state.cluster.units[unit].cost for unit in places if unit not in must)
