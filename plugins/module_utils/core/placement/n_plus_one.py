# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""N+1: if any one open host fails, can the other hosts run its guests?

The answer for a host is a packing of its guests into the free memory of the others. A packing that is found proves that
it can fail. If the simple way finds none, an exact packing with a limit is tried; so "no" may mean "not found".
"""

from __future__ import annotations

import heapq
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import Move
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.packing import pack

#: Hosts that the exact packing looks at: those with the most room.
MOST_HOSTS = 24
MOST_TRIES = 2_000


def unprotected(state: State) -> list[int]:
    """Return the open hosts whose guests would not all fit elsewhere if the host failed."""
    hosts = [host for host, is_open in enumerate(state.is_open) if is_open]
    return [host for host in hosts if not can_fail(state, host)]


def can_fail(state: State, failed: int) -> bool:
    """Return whether the guests of a host would fit elsewhere. The state is the same afterwards."""
    guests = sorted(state.on[failed], key=lambda unit: (-state.need[unit], unit))
    hosts = [host for host, is_open in enumerate(state.is_open) if is_open and host != failed]
    if sum(state.need[unit] for unit in guests) > sum(max(0, state.free[host]) for host in hosts):
        return False
    placed = _plainly(state, guests, hosts, failed)
    for unit in guests:
        state.move(unit, failed)
    if placed:
        return True
    for unit in guests:
        state.lift(unit)
    near = heapq.nlargest(MOST_HOSTS, hosts, key=state.free.__getitem__)

    def candidates(unit: int) -> list[int]:
        return [host for host in near if state.may_go(unit, host, failed)]

    found = pack(state, guests, candidates, MOST_TRIES)
    for unit in guests:
        state.drop(unit, failed)
    return found.places is not None


def _plainly(state: State, guests: t.Sequence[int], hosts: t.Sequence[int], failed: int) -> bool:
    """Place each unit, the largest first, on the host with the most free memory."""
    heap = [(-state.free[host], host) for host in hosts]
    heapq.heapify(heap)
    for unit in guests:
        aside, found = [], False
        while heap and not found:
            free, host = heapq.heappop(heap)
            if -free < state.need[unit]:
                heapq.heappush(heap, (free, host))
                break
            if state.has_room(unit, host) and state.is_apart(unit, host) and state.may_go(unit, host, failed):
                state.move(unit, host)
                free, found = -state.free[host], True
            aside.append((free, host))
        for item in aside:
            heapq.heappush(heap, item)
        if not found:
            return False
    return True


class NPlusOneGuard:
    """Keeps N+1 while guests move, among the hosts that are open in the state it is made from.

    A host that cannot fail at the start is not held against a move.
    """

    def __init__(self, state: State) -> None:
        self._is_open = list(state.is_open)
        self.broken = frozenset(unprotected(state))

    def allows(self, state: State, unit: int, destination: int) -> bool:
        """Return whether each host that can fail now still can after this move. The state is the same afterwards.

        The state may have fewer open hosts than those that could take guests after a failure.
        """
        source = state.where[unit]
        state.move(unit, destination)
        allowed = self._holds(state, destination)
        state.move(unit, source)
        return allowed

    def for_any_order(self, state: State, moves: t.Sequence[Move]) -> list[Move]:
        """Let moves wait for others so that N+1 holds in whatever order they end.

        A move may overtake the moves before it if N+1 holds while these keep memory at both of their ends. Otherwise it
        waits for all of them.

        Args:
            state: the cluster before the first move; it follows them.
            moves: each of them allowed, one after the other.
        """
        made: list[Move] = []
        awaited: tuple[int, ...] = ()
        loose: list[int] = []
        under_way = state.copy()
        for number, move in enumerate(moves):
            if loose and not self._joins(under_way, move):
                awaited, loose = tuple(loose), []
                under_way = state.copy()
            if not loose:
                under_way.arrive(move.unit, move.destination)
            state.move(move.unit, move.destination)
            loose.append(number)
            made.append(move._replace(after=tuple(sorted({*move.after, *awaited}))))
        return made

    def _joins(self, under_way: State, move: Move) -> bool:
        """Start a move beside others if that is permitted; if not, the state must not be used any more."""
        unit, destination = move.unit, move.destination
        if not (under_way.has_room(unit, destination) and under_way.is_apart(unit, destination)):
            return False
        under_way.arrive(unit, destination)
        return self._holds(under_way, destination)

    def _holds(self, state: State, first: int) -> bool:
        """Check ``first`` before the others: where guests arrive, N+1 fails first."""
        opened, state.is_open = state.is_open, self._is_open
        hosts = [first, *(host for host in range(len(state.is_open)) if host != first)]
        held = all(can_fail(state, host) for host in hosts if state.is_open[host] and host not in self.broken)
        state.is_open = opened
        return held
