# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Lower the score of a large cluster with swaps, where no single move helps any more.

Two hosts whose loads deviate in opposite directions are compared. Of all pairs of their guests, the pair that gains
most for its cost is swapped.
"""

from __future__ import annotations

import math
import random
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.score import Score

#: Hosts drawn to find the most opposite of.
DRAWN = 12


def swap_search(
    state: State,
    score: Score,
    is_fixed: t.Sequence[bool],
    start: t.Sequence[int],
    aim: float,
    rounds: int,
    rng: random.Random,
) -> None:
    """Compare so many pairs of hosts, or stop when the score is down to the aim. State and score are updated."""
    hosts = [host for host, is_open in enumerate(state.is_open) if is_open]
    if len(hosts) < 2:
        return
    for dummy in range(rounds):
        if score.value <= aim:
            return
        one, other = _opposites(score, hosts, rng)
        found = _best_pair(state, score, is_fixed, start, one, other)
        if found is None:
            continue
        for unit, source, destination in ((found[0], one, other), (found[1], other, one)):
            state.move(unit, destination)
            score.note_move(unit, source, destination)


def _opposites(score: Score, hosts: t.Sequence[int], rng: random.Random) -> tuple[int, int]:
    """Return the most deviating of a few hosts, and the one of a few others whose loads deviate most differently."""
    drawn = [hosts[int(rng.random() * len(hosts))] for dummy in range(DRAWN)]
    scales = [1 / max(deviation, 1e-9) for deviation in score.deviations()]

    def likeness(host: int, to: int) -> float:
        return math.fsum(levels[host] * levels[to] * scale for levels, scale in zip(score.levels, scales))

    one = max(drawn[: DRAWN // 3], key=lambda host: likeness(host, host))
    others = [host for host in drawn if host != one] or [host for host in hosts if host != one]
    return one, min(others, key=lambda host: likeness(host, one))


def _best_pair(
    state: State, score: Score, is_fixed: t.Sequence[bool], start: t.Sequence[int], one: int, other: int
) -> tuple[int, int] | None:
    """Return the pair of units with the most gain for its cost. A unit that moves already costs nothing more."""
    now, best, found = score.value, 0.0, None
    units, need, after = state.cluster.units, state.need, score.after
    theirs = [
        unit for unit in state.on[other] if not is_fixed[unit] and not units[unit].apart and not units[unit].pages
    ]
    for unit in state.on[one]:
        facts = units[unit]
        if is_fixed[unit] or facts.apart or facts.pages or not _may(state, unit, other, start):
            continue
        most = need[unit] + state.free[one]
        least = need[unit] - state.free[other]
        own = facts.cost if start[unit] == one else 0.0
        for back in theirs:
            if not least <= need[back] <= most:
                continue
            gain = now - after(unit, one, other, back)
            if gain <= 1e-9:
                continue
            rate = gain / (own + (units[back].cost if start[back] == other else 0.0) + 1e-3)
            if rate <= best or not _may(state, back, one, start) or not _have_cpus(state, unit, back):
                continue
            best, found = rate, (unit, back)
    return found


def _may(state: State, unit: int, host: int, start: t.Sequence[int]) -> bool:
    return host == start[unit] or state.may_go(unit, host, start[unit])


def _have_cpus(state: State, unit: int, back: int) -> bool:
    net = state.vcpus[unit] - state.vcpus[back]
    return state.free_vcpus[state.where[back]] >= net and state.free_vcpus[state.where[unit]] >= -net
