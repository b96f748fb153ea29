# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Make room by moving other guests: find the cheapest set of others that must move.

Sets of others are tried from the cheapest on, each with an exact packing (packing.py). So the first set that works is
the cheapest one, if no packing before it was given up. If all sets fail, there is no such set.
"""

from __future__ import annotations

import heapq
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.packing import Candidates, pack

#: Placements tried for one set of others before it is given up.
TRIES_A_SET = 2_000


class Ejection(t.NamedTuple):
    """A host for each mover and for each unit that makes room; None if no set of others works.

    ``is_proven``: there is no cheaper result, or none at all. ``bound``: moving others for less does not make room.
    """

    places: dict[int, int] | None
    is_proven: bool
    tries: int
    bound: float


def eject(
    state: State, movers: t.Sequence[int], others: t.Sequence[int], candidates: Candidates, most_tries: int
) -> Ejection:
    """Place the movers, which are NOWHERE, and move others at the least cost to make room.

    Args:
        state: where everything else is; it is left as it was.
        movers: units that must find a host.
        others: units that may move to make room.
        candidates: the hosts each may go to.
        most_tries: bounds all placements that are looked at.
    """
    tries, is_proven, bound = 0, True, 0.0
    for chosen in _cheapest_first(state, others, candidates):
        bound = math.fsum(state.cluster.units[unit].cost for unit in chosen) if is_proven else bound
        homes = {unit: state.where[unit] for unit in chosen}
        for unit in chosen:
            state.lift(unit)
        found = pack(state, [*movers, *chosen], candidates, min(TRIES_A_SET, most_tries - tries))
        for unit in chosen:
            state.drop(unit, homes[unit])
        tries += found.tries + 1
        if found.places is not None:
            return Ejection(found.places, is_proven, tries, bound)
        is_proven = is_proven and found.is_proven
        if tries >= most_tries:
            return Ejection(None, False, tries, bound)
    return Ejection(None, is_proven, tries, bound)


def _cheapest_first(state: State, others: t.Sequence[int], candidates: Candidates) -> t.Iterator[tuple[int, ...]]:
    """Yield sets of others by their cost, the empty set first. Of equivalent sets only one is yielded.

    Each set follows from exactly one other that costs no more: add one unit of its dearest kind (or of the next kind,
    if that is used up), or replace its last unit by one of the next kind.
    """
    kinds = _kinds(state, others, candidates)
    costs = [state.cluster.units[kind[0]].cost for kind in kinds]
    yield ()
    heap: list[tuple[float, tuple[int, ...]]] = [(costs[0], (0,))] if kinds else []
    while heap:
        cost, chosen = heapq.heappop(heap)
        counts: dict[int, int] = {}
        for kind in chosen:
            counts[kind] = counts.get(kind, 0) + 1
        yield tuple(unit for kind, count in counts.items() for unit in kinds[kind][:count])
        last = chosen[-1]
        more = last if counts[last] < len(kinds[last]) else last + 1
        if more < len(kinds):
            heapq.heappush(heap, (cost + costs[more], (*chosen, more)))
        if last + 1 < len(kinds):
            heapq.heappush(heap, (cost - costs[last] + costs[last + 1], (*chosen[:-1], last + 1)))


def _kinds(state: State, others: t.Sequence[int], candidates: Candidates) -> list[list[int]]:
    """Group others that are equivalent, by cost. A unit in a keep-apart group is equivalent to no other."""
    kinds: dict[tuple[t.Any, ...], list[int]] = {}
    for unit in sorted(others):
        facts = state.cluster.units[unit]
        itself = unit if facts.apart else -1
        hosts = tuple(candidates(unit))
        key = (facts.cost, state.where[unit], facts.need_bytes, facts.vcpus, hosts, facts.pages, itself)
        kinds.setdefault(key, []).append(unit)
    return sorted(kinds.values(), key=lambda kind: (state.cluster.units[kind[0]].cost, kind[0]))
