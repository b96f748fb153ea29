# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Search for cheaper moves that reach the same score, by simulated annealing.

The search (Kirkpatrick et al., Science 220, 1983) changes final places. It starts from moves that reach the score. A
step does one of these: it moves a unit home, it moves a unit elsewhere, it swaps two units, or it sends home a unit
that moved and moves another one of the same host instead. A score above the aim is allowed on the way, at a price. The
order of the moves, and whether each state between them is permitted, is computed in move_order.py.
"""

from __future__ import annotations

import math
import random
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.score import Score

#: What a score of twice the aim costs, where 1 is the cost of the moves at the start.
OVER_WEIGHT = 1.0
#: Temperatures at both ends, in the same unit.
HOT, COLD = 0.03, 0.0002
#: Of the steps of moved units, how many let another go in their stead.
IN_STEAD = 0.5


class Annealing:
    """One search. ``best`` has the cheapest places found so far whose score is not above the aim, with their cost."""

    def __init__(
        self,
        state: State,
        score: Score,
        is_fixed: t.Sequence[bool],
        start: t.Sequence[int],
        aim: float,
        most_moves: int | None = None,
    ) -> None:
        """``state`` and ``score`` are worked on; ``start`` is where the units really are."""
        self.state, self.score, self.start, self.aim = state, score, start, aim
        self.costs = [unit.cost for unit in state.cluster.units]
        self._is_fixed = is_fixed
        self.loose = [unit for unit, still in enumerate(is_fixed) if not still]
        self.hosts = [host for host, is_open in enumerate(state.is_open) if is_open]
        self.moved = [unit for unit in self.loose if state.where[unit] != start[unit]]
        self._place_in_moved = {unit: place for place, unit in enumerate(self.moved)}
        self.spent = math.fsum(self.costs[unit] for unit in self.moved)
        self._at_start = max(self.spent, 1e-9)
        self._most_moves = len(self.loose) if most_moves is None else max(most_moves, len(self.moved))
        self.best = (self.spent, list(state.where)) if score.value <= aim else (math.inf, list(state.where))

    def run(self, tries: int, rng: random.Random) -> None:
        """Try so many random steps."""
        if not self.moved or len(self.hosts) < 2:
            return
        price = self._price(self.score.value, self.spent)
        cooling = (COLD / HOT) ** (1 / max(1, tries))
        temperature = HOT
        for dummy in range(tries):
            temperature *= cooling
            found = self._draw(rng)
            if found is None:
                continue
            unit, back, destination = found
            source = self.state.where[unit]
            value = self.score.after(unit, source, destination, back)
            spent = self.spent + self._extra(unit, source, destination)
            if back is not None:
                spent += self._extra(back, destination, source)
            changed = self._price(value, spent)
            if changed > price and rng.random() >= math.exp((price - changed) / temperature):
                continue
            if self._is_one_too_many(unit, back) or not self._is_sound(unit, back, source, destination):
                continue
            self._go(unit, destination)
            if back is not None:
                self._go(back, source)
            price, self.spent = changed, spent
            if value <= self.aim and spent < self.best[0] - 1e-9:
                self.best = (spent, list(self.state.where))

    def _price(self, value: float, spent: float) -> float:
        over = max(0.0, value - self.aim) / max(self.aim, 1e-9)
        return spent / self._at_start + OVER_WEIGHT * over

    def _extra(self, unit: int, source: int, destination: int) -> float:
        home = self.start[unit]
        return self.costs[unit] * ((destination != home) - (source != home))

    def _draw(self, rng: random.Random) -> tuple[int, int | None, int] | None:
        """Draw a random step: a unit, the unit that goes back in a swap (or None), and the destination."""
        where, dice = self.state.where, rng.random()
        if self.moved and dice < 0.6:
            unit = self.moved[int(rng.random() * len(self.moved))]
            if rng.random() < IN_STEAD:
                return self._draw_in_stead(unit, rng)
        else:
            unit = self.loose[int(rng.random() * len(self.loose))]
        if dice < 0.2:
            destination = self.start[unit]
        elif dice < 0.3 or dice >= 0.8:
            destination = self.hosts[int(rng.random() * len(self.hosts))]
        else:
            other = self.loose[int(rng.random() * len(self.loose))]
            destination = where[other]
            return (unit, other, destination) if destination != where[unit] else None
        return (unit, None, destination) if destination != where[unit] else None

    def _draw_in_stead(self, unit: int, rng: random.Random) -> tuple[int, int | None, int] | None:
        """Draw a step that sends a moved unit home, and sends a unit from there to where it was."""
        home = self.start[unit]
        there = [other for other in self.state.on[home] if not self._is_fixed[other]]
        return (unit, there[int(rng.random() * len(there))], home) if there else None

    def _is_one_too_many(self, unit: int, back: int | None) -> bool:
        new = sum(one is not None and self.state.where[one] == self.start[one] for one in (unit, back))
        return len(self.moved) + new > self._most_moves

    def _is_sound(self, unit: int, back: int | None, source: int, destination: int) -> bool:
        """Return whether both units may be where the step takes them, with enough memory and CPUs for both."""
        state = self.state
        if back is None:
            return state.has_room(unit, destination) and self._may(unit, destination)
        for one, host, other in ((unit, destination, back), (back, source, unit)):
            if state.free[host] + state.need[other] < state.need[one]:
                return False
            if state.free_vcpus[host] + state.vcpus[other] < state.vcpus[one]:
                return False
        if state.cluster.units[unit].pages or state.cluster.units[back].pages:
            return False
        return self._may(unit, destination, back) and self._may(back, source, unit)

    def _may(self, unit: int, host: int, leaves: int | None = None) -> bool:
        """Return whether a unit may be on a host in the end, if the unit ``leaves`` goes away."""
        state, home = self.state, self.start[unit]
        groups = state.cluster.units[unit].apart
        if groups and not state.is_apart(unit, host):
            return False
        if leaves is not None and groups and set(groups) & set(state.cluster.units[leaves].apart):
            return False
        return host == home or state.may_go(unit, host, home)

    def _go(self, unit: int, destination: int) -> None:
        source, home = self.state.where[unit], self.start[unit]
        self.state.move(unit, destination)
        self.score.note_move(unit, source, destination)
        if source == home and destination != home:
            self._place_in_moved[unit] = len(self.moved)
            self.moved.append(unit)
        elif destination == home and source != home:
            place, last = self._place_in_moved.pop(unit), self.moved.pop()
            if last != unit:
                self.moved[place] = last
                self._place_in_moved[last] = place
