# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Rebalance a cluster at the least cost, in numbers.

1. greedy.py makes single moves while they help, whatever they cost (as hbal does), and swap.py goes a little further.
   The score that they reach, or a little above it, is the aim.
2. Another set of moves is searched that reaches the aim at less cost: by annealing.py or, in a very large cluster, by
   the cheapest moves first and swaps after them.
"""

from __future__ import annotations

import math
import random
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.annealing import Annealing
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.greedy import (
    AS_HBAL,
    Limits,
    fixed_units,
    greedy_search,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import IsAllowed
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.score import Score
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.swap import swap_search

#: Steps of the search for something cheaper: so many for each unit, within bounds.
TRIES_A_UNIT, FEWEST_TRIES, MOST_TRIES = 6_000, 10_000, 1_200_000
ROUNDS = 2
#: Where single moves end is luck: up to 2 % apart for one cluster. So exchanges go on by this share of the score. It
#: hardly costs a byte: from 2 % below to 2 % above, the least that must move differed by 3 % (five clusters, 10 million
#: tries each).
FURTHER = 0.01
#: Above so many units that may move, the search gives way to exchanges: pairs of hosts looked at, for each host.
MOST_SEARCHED = 3_000
PAIRS_A_HOST = 10
#: There, moves are ranked by gain over the root of their cost: by all of it, many small guests would move for little.
HALF_BY_COST = 0.5


class Rules(t.NamedTuple):
    """When and how far to rebalance.

    Attributes:
        limits: what moves and their costs must keep to.
        act_above: leave a cluster alone whose score is no higher.
        least_improvement: leave it alone unless the score gets lower by this share.
        slack: how far the score may be above what single moves reach, as a share, where that saves moves.
        seek_cheaper: search for cheaper moves to the same score. Not done where ``limits.most_bytes`` is set: then the
            best moves for their cost are made while bytes are left.
    """

    limits: Limits = Limits()
    act_above: float = 0.0
    least_improvement: float = 0.05
    slack: float = 0.009
    seek_cheaper: bool = True


USUAL_RULES = Rules()
#: What hbal would stop at, for comparison.
HBAL_RULES = Rules(AS_HBAL)


class Rebalanced(t.NamedTuple):
    """Where each moving unit goes, the score before and after, and the cost of all moves."""

    places: dict[int, int]
    before: float
    after: float
    cost: float


def rebalance(
    state: State,
    score_of: t.Callable[[State], Score],
    rules: Rules = USUAL_RULES,
    *,
    fixed: t.Collection[int] = (),
    is_allowed: IsAllowed | None = None,
) -> Rebalanced:
    """Find final places with a lower score. ``state`` is not changed.

    Args:
        state: the cluster as it is.
        score_of: makes the score to go by.
        rules: when and how far.
        fixed: units that must not move: those that moved a short while ago, for one.
        is_allowed: asked before each move whether the state after it is permitted; no cheaper set is looked for then.
    """
    start, before = list(state.where), score_of(state).value
    nothing = Rebalanced({}, before, before, 0.0)
    if before <= rules.act_above:
        return nothing
    trial = state.copy()
    score, is_fixed = score_of(trial), fixed_units(trial, fixed)
    counts = rules.limits.most_bytes is not None or rules.limits.most_moves is not None
    greedy_search(
        trial, score, rules.limits._replace(cost_weight=1.0) if counts else rules.limits, is_fixed, start, is_allowed
    )
    if trial.where == start and is_allowed is None and _is_unlimited(rules):
        rng = random.Random(1)  # noqa: S311 - the same plan every time
        swap_search(trial, score, is_fixed, start, rules.limits.aim, PAIRS_A_HOST * len(state.free), rng)
    where, after = list(trial.where), score.value
    if rules.seek_cheaper and is_allowed is None and rules.limits.most_bytes is None:
        where = _cheaper(state, trial, score, score_of, rules, is_fixed)
        after = score_of(_at(state, where)).value
    if before - after < rules.least_improvement * before:
        return nothing
    places = {unit: host for unit, host in enumerate(where) if host != start[unit]}
    return Rebalanced(places, before, after, math.fsum(state.cluster.units[unit].cost for unit in places))


def _cheaper(
    state: State,
    trial: State,
    score: Score,
    score_of: t.Callable[[State], Score],
    rules: Rules,
    is_fixed: t.Sequence[bool],
) -> list[int]:
    """Return places with about the score of ``trial`` at a lower cost; the places of ``trial`` if there are none."""
    rng = random.Random(1)  # noqa: S311 - the same plan every time
    loose = is_fixed.count(False)
    reached = max(score.value, rules.limits.aim)
    if loose <= MOST_SEARCHED and _is_unlimited(rules):
        reached = _further(state, trial, score, is_fixed, max((1 - FURTHER) * reached, rules.limits.aim), rng)
    aim = (1 + rules.slack) * reached
    if loose <= MOST_SEARCHED:
        tries = min(MOST_TRIES, max(FEWEST_TRIES, TRIES_A_UNIT * loose))
        found = []
        for dummy in range(ROUNDS if ROUNDS * tries <= MOST_TRIES else 1):
            again = trial.copy()
            search = Annealing(again, score_of(again), is_fixed, state.where, aim, rules.limits.most_moves)
            search.run(tries, rng)
            found.append(search.best)
        return min(found, key=lambda best: best[0])[1]
    other = state.copy()
    cheap = score_of(other)
    greedy_search(other, cheap, rules.limits._replace(cost_weight=HALF_BY_COST, aim=aim), is_fixed, state.where)
    if _is_unlimited(rules):
        swap_search(other, cheap, is_fixed, state.where, aim, PAIRS_A_HOST * len(state.free), rng)
    is_better = cheap.value <= aim and _spent(state, other.where) < _spent(state, trial.where)
    return list(other.where if is_better else trial.where)


def _further(
    state: State, trial: State, score: Score, is_fixed: t.Sequence[bool], aim: float, rng: random.Random
) -> float:
    """Continue with swaps down to ``aim``. Return the score that is reached, at least the aim."""
    swap_search(trial, score, is_fixed, state.where, aim, PAIRS_A_HOST * len(state.free), rng)
    return max(score.value, aim)


def _is_unlimited(rules: Rules) -> bool:
    """Return whether the rules limit neither moves nor costs; swaps do not count them."""
    return rules.limits.most_moves is None and rules.limits.most_bytes is None and not rules.limits.least_rate


def _spent(state: State, where: t.Sequence[int]) -> float:
    return math.fsum(unit.cost for unit, now, then in zip(state.cluster.units, where, state.where) if now != then)


def _at(state: State, where: t.Sequence[int]) -> State:
    made = state.copy()
    for unit, host in enumerate(where):
        if host != made.where[unit]:
            made.move(unit, host)
    return made


def by_rate(state: State, score: Score, places: t.Mapping[int, int]) -> t.Callable[[int], tuple[float, int]]:
    """Return a rank for the order of moves: the gain of a move alone for its cost, the most first."""
    now = score.value
    rates = {
        unit: (now - score.after(unit, state.where[unit], host)) / max(state.cluster.units[unit].cost, 1e-9)
        for unit, host in places.items()
    }
    return lambda unit: (-rates.get(unit, 0.0), unit)
