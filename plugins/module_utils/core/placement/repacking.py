# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Search places in a tight cluster by simulated annealing. On the way, hosts may be overfull, at a price.

The search changes final places. Moving a mover costs nothing. Each other unit costs what its move costs while it is not
at home. The search proves nothing, but it finds places where the exact search (ejection.py) takes too long.
"""

from __future__ import annotations

import math
import random
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.packing import Candidates

#: What a byte too much costs beside a byte of a usual move.
OVER_WEIGHT = 3.0
#: Temperatures at both ends, in costs of a usual move.
HOT, COLD = 0.5, 0.05


class Repacking:
    """One search. ``best`` is the cheapest permitted set of places, by unit, with its cost."""

    def __init__(self, state: State, movers: t.Sequence[int], others: t.Sequence[int], candidates: Candidates) -> None:
        """The movers are NOWHERE; they are dropped where most is free, which may be too little."""
        self.state = state
        units = state.cluster.units
        self.loose = [*movers, *others]
        self.costs = dict.fromkeys(movers, 0.0)
        self.costs.update((unit, units[unit].cost) for unit in others)
        self.home = {unit: state.where[unit] for unit in others}
        self.candidates = {unit: [*candidates(unit)] for unit in self.loose}
        self.moved: list[int] = []
        self._candidates = candidates
        costs = [cost for cost in self.costs.values() if cost > 0]
        self.usual_cost = sum(costs) / len(costs) if costs else 1.0
        self.usual_need = sum(state.need[unit] for unit in self.loose) / max(1, len(self.loose))
        self.best: tuple[float, dict[int, int]] | None = None
        #: What is overfull to begin with need not get better, and is nothing that a search could be blamed for.
        self.floor = [min(0, free) for free in state.free]
        self.spent = 0.0
        self.stuck = False
        for unit in sorted(movers, key=lambda unit: -state.need[unit]):
            hosts = [host for host in self.candidates[unit] if self._may_enter(unit, host)]
            if not hosts:
                self.stuck = True
                return
            state.drop(unit, max(hosts, key=state.free.__getitem__))

    def run(self, tries: int, rng: random.Random) -> int:
        """Try so many random steps. Return the number of steps; 0 if no start was found."""
        if self.stuck or not self.loose:
            return 0
        cooling, temperature = (COLD / HOT) ** (1 / max(1, tries)), HOT
        self._note()
        for dummy in range(tries):
            temperature *= cooling
            found = self._draw(rng)
            if found is None:
                continue
            unit, back, destination = found
            source = self.state.where[unit]
            worse = self._worse(unit, back, source, destination)
            if worse > 0 and rng.random() >= math.exp(-worse / temperature):
                continue
            if not self._go(unit, back, source, destination):
                continue
            self._note()
        return tries

    def _worse(self, unit: int, back: int | None, source: int, destination: int) -> float:
        """Return how much more a step costs, in costs of a usual move."""
        state, need = self.state, self.state.need
        net = need[unit] - (need[back] if back is not None else 0)
        here, there = state.free[source] - self.floor[source], state.free[destination] - self.floor[destination]
        over = max(0, -here - net) - max(0, -here) + max(0, net - there) - max(0, -there)
        cost = self._extra(unit, source, destination)
        if back is not None:
            cost += self._extra(back, destination, source)
        return OVER_WEIGHT * over / self.usual_need + cost / self.usual_cost

    def _extra(self, unit: int, source: int, destination: int) -> float:
        cost = self.costs[unit]
        if not cost:
            return 0.0
        home = self.home[unit]
        return cost * ((destination != home) - (source != home))

    def _draw(self, rng: random.Random) -> tuple[int, int | None, int] | None:
        state, dice = self.state, rng.random()
        unit = self.loose[int(rng.random() * len(self.loose))]
        if dice < 0.2 and self.moved:
            unit = self.moved[int(rng.random() * len(self.moved))]
            destination = self.home[unit]
        elif dice < 0.6:
            hosts = self.candidates[unit]
            destination = hosts[int(rng.random() * len(hosts))] if hosts else state.where[unit]
        else:
            other = self.loose[int(rng.random() * len(self.loose))]
            destination = state.where[other]
            return (unit, other, destination) if destination != state.where[unit] else None
        return (unit, None, destination) if destination != state.where[unit] else None

    def _go(self, unit: int, back: int | None, source: int, destination: int) -> bool:
        """Make the step, unless a rule other than free memory forbids it."""
        state = self.state
        state.lift(unit)
        if back is not None:
            state.lift(back)
        sound = self._may_be(unit, destination) and (back is None or self._may_be(back, source))
        state.drop(unit, destination if sound else source)
        if back is not None:
            state.drop(back, source if sound else destination)
        if sound:
            self._follow(unit, source, destination)
            if back is not None:
                self._follow(back, destination, source)
        return sound

    def _may_be(self, unit: int, host: int) -> bool:
        return (host == self.home.get(unit) or host in self.candidates[unit]) and self._may_enter(unit, host)

    def _may_enter(self, unit: int, host: int) -> bool:
        state = self.state
        if state.free_vcpus[host] < state.vcpus[unit] or not state.is_apart(unit, host):
            return False
        pages = state.cluster.units[unit].pages
        return not pages or all(state.free_pages.get((host, size), 0) >= count for size, count in pages)

    def _follow(self, unit: int, source: int, destination: int) -> None:
        self.spent += self._extra(unit, source, destination)
        if not self.costs[unit]:
            return
        home = self.home[unit]
        if source == home:
            self.moved.append(unit)
        elif destination == home:
            self.moved.remove(unit)

    def _note(self) -> None:
        """Keep the current places if they are permitted and the cheapest so far."""
        if self.best is not None and self.spent >= self.best[0] - 1e-9:
            return
        free = self.state.free
        if min(free) < 0 and any(left < 0 and not self._is_as_found(host) for host, left in enumerate(free)):
            return
        where = self.state.where
        places = {unit: where[unit] for unit in self.loose if where[unit] != self.home.get(unit)}
        self.best = (self.spent, places)

    def _is_as_found(self, host: int) -> bool:
        """Return whether a host is overfull only with what it had at the start. A unit that comes needs free memory."""
        return self.floor[host] < 0 and all(
            self.home.get(unit) == host for unit in self.state.on[host] if unit in self.costs
        )
