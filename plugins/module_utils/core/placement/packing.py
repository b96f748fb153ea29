# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Exact packing: find a host for each unit, or prove that there is none.

The search is depth first, the largest units first. It is given up after a number of tries.

A host that is left with less memory than the smallest unit needs wastes that memory. The memory that may be wasted in
all is known: the free memory less the needed memory. This bound cuts off nearly all branches of a tight packing.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State

#: For each unit, the hosts it may go to.
Candidates = t.Callable[[int], t.Sequence[int]]


class Packed(t.NamedTuple):
    """The result of a packing: a host for each unit, or None. ``is_proven`` says that there is certainly no packing."""

    places: dict[int, int] | None
    is_proven: bool
    tries: int


def pack(state: State, units: t.Sequence[int], candidates: Candidates, most_tries: int) -> Packed:
    """Find a host for each unit among its candidates. All units are NOWHERE, before and afterwards.

    ``most_tries`` limits the placements that are tried.
    """
    search = _Search(state, units, candidates, most_tries)
    found = search.fill()
    places = {unit: state.where[unit] for unit in units} if found else None
    for unit in units if found else ():
        state.lift(unit)
    return Packed(places, not found and search.tries < most_tries, search.tries)


class _Search:
    def __init__(self, state: State, units: t.Sequence[int], candidates: Candidates, most_tries: int) -> None:
        self.state, self.most_tries, self.tries = state, most_tries, 0
        self.units = sorted(units, key=lambda unit: (-state.need[unit], unit))
        self.candidates = [tuple(candidates(unit)) for unit in self.units]
        self.hosts = sorted({host for hosts in self.candidates for host in hosts})
        need = sum(state.need[unit] for unit in self.units)
        self.slack = sum(max(0, state.free[host]) for host in self.hosts) - need
        #: from here on, the smallest need
        self.smallest = [state.need[unit] for unit in self.units]
        for place in range(len(self.smallest) - 2, -1, -1):
            self.smallest[place] = min(self.smallest[place], self.smallest[place + 1])
        self.alike = [self._is_like_the_one_before(place) for place in range(len(self.units))]

    def _is_like_the_one_before(self, place: int) -> bool:
        """Return whether two units are interchangeable. Such units are placed in the order of the hosts only."""
        if not place:
            return False
        one, other = (self.state.cluster.units[unit] for unit in self.units[place - 1 : place + 1])
        return (
            not one.apart
            and not other.apart
            and self.candidates[place] == self.candidates[place - 1]
            and ((one.need_bytes, one.vcpus, one.pages) == (other.need_bytes, other.vcpus, other.pages))
        )

    def fill(self) -> bool:
        """Place all units in their order. A unit that was placed in vain is lifted again."""
        untried: list[t.Iterator[int]] = []
        while len(untried) < len(self.units):
            untried.append(iter(self._hosts(len(untried))))
            while not self._place(len(untried) - 1, untried[-1]):
                untried.pop()
                if not untried:
                    return False
                self.state.lift(self.units[len(untried) - 1])
        return True

    def _hosts(self, place: int) -> list[int]:
        """Return the hosts that a unit may go to now, the fullest first; none if the rest cannot fit any more."""
        if self.slack < 0 or self._wasted(place) > self.slack:
            return []
        first = self.state.where[self.units[place - 1]] if self.alike[place] else -1
        return sorted((host for host in self.candidates[place] if host >= first), key=self.state.free.__getitem__)

    def _place(self, place: int, hosts: t.Iterator[int]) -> bool:
        """Put a unit on the next host that can take it."""
        state, unit = self.state, self.units[place]
        for host in hosts:
            if self.tries >= self.most_tries:
                return False
            if state.has_room(unit, host) and state.is_apart(unit, host):
                self.tries += 1
                state.drop(unit, host)
                return True
        return False

    def _wasted(self, place: int) -> int:
        smallest, free = self.smallest[place], self.state.free
        return sum(free[host] for host in self.hosts if 0 < free[host] < smallest)
