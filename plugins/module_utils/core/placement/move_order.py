# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Order the moves so that each state between them is permitted, and say which moves wait for which.

If each move waits for those that it names, no host is overfull and no keep-apart group shares a host, whatever the
order in which moves end. If guests wait for each other in a cycle, the cheapest one waits on a third host.
"""

from __future__ import annotations

import heapq
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State

#: Is the state after this move to this host permitted? The state is left as it was.
IsAllowed = t.Callable[[State, int, int], bool]


class Move(t.NamedTuple):
    """One move. ``after`` has the numbers of the moves that must end before it. ``parks``: the unit moves on later."""

    unit: int
    source: int
    destination: int
    after: tuple[int, ...] = ()
    parks: bool = False


class Ordered(t.NamedTuple):
    """The moves in their order, and the units that no order brings to their destination."""

    moves: list[Move]
    left: tuple[int, ...]


def order(
    state: State,
    places: t.Mapping[int, int],
    rank: t.Callable[[int], t.Any],
    parkable: t.Collection[int] = (),
    is_allowed: IsAllowed | None = None,
) -> Ordered:
    """Order the moves of units to ``places``. The state is updated.

    Args:
        state: the cluster before the first move.
        places: destination by unit.
        rank: units of lower rank go first, as far as there is room.
        parkable: units that may be moved out of the way and back, where parking those that move does not help.
        is_allowed: asked before each move whether the state after it is permitted (N+1). A move that is refused is
            asked for again after all others.
    """
    return _Ordering(state, places, rank, parkable, is_allowed).run()


def joined(state: State, moves: t.Iterable[Move]) -> list[Move]:
    """Compute anew what each move waits for, for moves that were ordered in parts. ``state`` is before the first
    move.
    """
    waits = _Waits(state)
    return [
        move._replace(after=waits.note(number, move.unit, move.source, move.destination))
        for number, move in enumerate(moves)
    ]


class _Ordering:
    def __init__(
        self,
        state: State,
        places: t.Mapping[int, int],
        rank: t.Callable[[int], t.Any],
        parkable: t.Collection[int],
        is_allowed: IsAllowed | None,
    ) -> None:
        self.state = state
        self.pending = {unit: host for unit, host in places.items() if state.where[unit] != host}
        self.rank = rank
        self.is_allowed = is_allowed
        self.not_allowed: list[int] = []
        self.parkable = [unit for unit in parkable if unit not in self.pending]
        self.parked: set[int] = set()
        self.aside: set[int] = set()
        self.moves: list[Move] = []
        self.ready = [((False, rank(unit)), unit) for unit in self.pending]
        heapq.heapify(self.ready)
        self.waiting: dict[int, list[int]] = {}
        self.waits = _Waits(state)

    def run(self) -> Ordered:
        asked = 0
        while self.pending:
            if self.ready:
                dummy, unit = heapq.heappop(self.ready)
                destination = self.pending[unit]
                if not self.state.can_take(unit, destination):
                    self.waiting.setdefault(destination, []).append(unit)
                elif not self._is_allowed(unit, destination):
                    self.not_allowed.append(unit)
                else:
                    del self.pending[unit]
                    self._move(unit, destination)
            elif self.not_allowed and len(self.moves) > asked:
                asked = len(self.moves)
                for unit in self.not_allowed:
                    heapq.heappush(self.ready, ((unit in self.aside, self.rank(unit)), unit))
                self.not_allowed = []
            elif not self._park():
                break
        return Ordered(self.moves, tuple(sorted(self.pending)))

    def _move(self, unit: int, destination: int, *, parks: bool = False) -> None:
        source = self.state.where[unit]
        after = self.waits.note(len(self.moves), unit, source, destination)
        self.moves.append(Move(unit, source, destination, after, parks))
        self.state.move(unit, destination)
        for other in self.waiting.pop(source, ()):
            # Who was only in the way goes back after those that it was in the way of.
            heapq.heappush(self.ready, ((other in self.aside, self.rank(other)), other))

    def _is_allowed(self, unit: int, destination: int) -> bool:
        return self.is_allowed is None or self.is_allowed(self.state, unit, destination)

    def _park(self) -> bool:
        """Move one unit out of the way of others: the cheapest that waits, otherwise one that may be parked."""
        wanted = {host for host, units in self.waiting.items() if units}
        stuck = [unit for unit in self.pending if self.state.where[unit] in wanted]
        bystanders = [unit for unit in self.parkable if self.state.where[unit] in wanted]
        for units in (stuck, bystanders):
            for unit in sorted(units, key=lambda one: (self.state.cluster.units[one].cost, one)):
                host = None if unit in self.parked else self._parking_place(unit, wanted)
                if host is None:
                    continue
                self.parked.add(unit)
                home = self.state.where[unit]
                target = self.pending.setdefault(unit, home)
                self._move(unit, host, parks=True)
                for queue in (*self.waiting.values(), self.not_allowed):
                    if unit in queue:
                        queue.remove(unit)
                if target == home:
                    self.aside.add(unit)
                heapq.heappush(self.ready, ((target == home, self.rank(unit)), unit))
                return True
        return False

    def _parking_place(self, unit: int, wanted: t.Collection[int]) -> int | None:
        state = self.state
        target = self.pending.get(unit, state.where[unit])
        hosts = [
            host
            for host in range(len(state.free))
            if host != target
            and state.can_take(unit, host)
            and state.may_go(unit, target, host)
            and self._is_allowed(unit, host)
        ]
        return max(hosts, key=lambda host: (host not in wanted, state.free[host], -host), default=None)


class _Waits:
    """Which earlier departures each arrival waits for.

    An arrival waits for the first departures from its host that make room for itself and for *all* arrivals before it,
    whether or not these have happened. So it may overtake each move that it does not wait for.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._room = [list(state.free), list(state.free_vcpus)]
        self._pages = dict(state.free_pages)
        self._left: dict[int, list[tuple[int, int]]] = {}
        self._counted: dict[int, int] = {}
        self._last: dict[int, int] = {}

    def note(self, number: int, unit: int, source: int, destination: int) -> tuple[int, ...]:
        """Return the numbers of the moves that move ``number`` waits for."""
        self._take(unit, destination, 1)
        left, counted = self._left.get(destination, []), self._counted.get(destination, 0)
        while counted < len(left) and self._is_short(destination, unit):
            self._take(left[counted][1], destination, -1)
            counted += 1
        self._counted[destination] = counted
        after = {move for move, dummy in left[:counted]}
        after.update(move for move, other in left[counted:] if self._are_apart(unit, other))
        if unit in self._last:
            after.add(self._last[unit])
        self._last[unit] = number
        self._left.setdefault(source, []).append((number, unit))
        return tuple(sorted(after))

    def _take(self, unit: int, host: int, sign: int) -> None:
        self._room[0][host] -= sign * self.state.need[unit]
        self._room[1][host] -= sign * self.state.vcpus[unit]
        for size, count in self.state.cluster.units[unit].pages:
            self._pages[host, size] = self._pages.get((host, size), 0) - sign * count

    def _is_short(self, host: int, unit: int) -> bool:
        pages = self.state.cluster.units[unit].pages
        return (
            self._room[0][host] < 0
            or self._room[1][host] < 0
            or any(self._pages.get((host, size), 0) < 0 for size, dummy in pages)
        )

    def _are_apart(self, unit: int, other: int) -> bool:
        units = self.state.cluster.units
        return bool(set(units[unit].apart) & set(units[other].apart))
