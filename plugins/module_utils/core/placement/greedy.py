# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Lower the score of a cluster with single moves: each time the move that gains most for its cost.

In a large cluster, only the most loaded hosts are tried as sources and only the least loaded ones as destinations. If
they give no move, more hosts are tried.
"""

from __future__ import annotations

import heapq
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import IsAllowed
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.score import Score

#: Below this score hbal wants a gain to be worth it.
LOW_SCORE = 0.1
#: Up to so many hosts, all are asked for each move.
ASK_ALL = 40
#: In larger clusters: how many are asked, the fewest and the most.
NARROW, WIDE = 1, 48
#: After so many moves heats are computed anew.
REFRESH = 16


class Limits(t.NamedTuple):
    """What a rebalance must keep to.

    Attributes:
        min_gain: least gain in score of one move.
        least_share: least gain as a share of the two hosts' part of the score: with 0.01, a move in a cluster of 100
            hosts must lower the score by one part in 5000.
        low_gain: least gain below a score of 0.1; hbal has 0.01 here, and no share.
        most_moves: how many guests may move.
        most_bytes: how many bytes all moves may send.
        aim: a score that is good enough.
        cost_weight: 0 ranks moves by gain alone, 1 by gain per cost.
        least_rate: least gain for each unit of cost: below it, a move is not worth its disruption.
    """

    min_gain: float = 1e-6
    least_share: float = 0.01
    low_gain: float = 0.0
    most_moves: int | None = None
    most_bytes: int | None = None
    aim: float = 0.0
    cost_weight: float = 0.0
    least_rate: float = 0.0


#: hbal's own way, for comparison.
AS_HBAL = Limits(least_share=0.0, low_gain=0.01)


def fixed_units(state: State, fixed: t.Collection[int] = ()) -> list[bool]:
    """Return for each unit whether it must stay: it is pinned, it is on a closed host, or it is among ``fixed``."""
    found = [unit.is_pinned or not state.is_open[state.where[n]] for n, unit in enumerate(state.cluster.units)]
    for unit in fixed:
        found[unit] = True
    return found


def greedy_search(
    state: State,
    score: Score,
    limits: Limits,
    is_fixed: t.Sequence[bool],
    start: t.Sequence[int],
    is_allowed: IsAllowed | None = None,
) -> int:
    """Move units until no move is worth it, and return the number of moves. State and score are updated.

    A unit that has moved before may move again, or home, at no further cost: only its way from ``start`` counts.
    ``is_allowed`` is asked before each move whether the state after it is permitted (N+1).
    """
    sizes = [len(unit.guests) for unit in state.cluster.units]
    moved = sum(size for size, now, then in zip(sizes, state.where, start) if now != then)
    sent = sum(unit.move_bytes for unit, now, then in zip(state.cluster.units, state.where, start) if now != then)
    hosts = [host for host, is_open in enumerate(state.is_open) if is_open]
    narrow = NARROW if len(hosts) > ASK_ALL else len(hosts)
    width, made, gradient = narrow, 0, score.gradient()
    while score.value > limits.aim:
        found = _best(state, score, limits, is_fixed, start, _asked(gradient, hosts, width), (moved, sent), is_allowed)
        if found is None:
            if width >= min(WIDE, len(hosts)):
                break
            width *= 2 if width < 16 else 3
            gradient = score.gradient()
            continue
        unit, destination = found
        source = state.where[unit]
        state.move(unit, destination)
        score.note_move(unit, source, destination)
        made += 1
        facts = state.cluster.units[unit]
        away = (destination != start[unit]) - (source != start[unit])
        moved += away * sizes[unit]
        sent += away * facts.move_bytes
        if made % REFRESH == 0 or len(hosts) <= ASK_ALL:
            gradient, width = score.gradient(), narrow
        else:
            gradient[source], gradient[destination] = _between(gradient, source, destination)
    return made


def _between(gradient: t.Sequence[float], source: int, destination: int) -> tuple[float, float]:
    """Estimate the gradient of both hosts after a move: each goes a quarter of the way towards the other."""
    step = (gradient[source] - gradient[destination]) / 4
    return gradient[source] - step, gradient[destination] + step


def _asked(gradient: t.Sequence[float], hosts: t.Sequence[int], width: int) -> tuple[list[int], list[int]]:
    if width >= len(hosts) // 2:
        return list(hosts), list(hosts)
    return heapq.nlargest(width, hosts, key=gradient.__getitem__), heapq.nsmallest(
        width, hosts, key=gradient.__getitem__
    )


def _best(
    state: State,
    score: Score,
    limits: Limits,
    is_fixed: t.Sequence[bool],
    start: t.Sequence[int],
    asked: tuple[list[int], list[int]],
    used: tuple[int, int],
    is_allowed: IsAllowed | None,
) -> tuple[int, int] | None:
    """Return the move with the most gain for its cost, or None if no move is worth it."""
    sources, destinations = asked
    now, best, found = score.value, 0.0, None
    least = max(
        limits.min_gain,
        limits.low_gain if now < LOW_SCORE else 0.0,
        limits.least_share * now * 2 / max(1, sum(state.is_open)),
    )
    has_room, units = state.has_room, state.cluster.units
    for source in sources:
        # A copy: to answer, ``is_allowed`` takes guests from their hosts and puts them back.
        for unit in sorted(state.on[source]):
            facts = units[unit]
            is_new = source == start[unit]
            if is_fixed[unit] or (is_new and _is_too_much(limits, len(facts.guests), facts.move_bytes, used)):
                continue
            price = facts.cost**limits.cost_weight if limits.cost_weight and is_new else 1.0
            worth = max(least, limits.least_rate * facts.cost) if is_new else least
            able = [host for host in destinations if host != source and has_room(unit, host)]
            for destination, value in zip(able, score.after_each(unit, source, able)):
                gain = now - value
                if gain <= worth or gain / price <= best:
                    continue
                if not _may(state, unit, destination, start) or not (
                    is_allowed is None or is_allowed(state, unit, destination)
                ):
                    continue
                best, found = gain / price, (unit, destination)
    return found


def _may(state: State, unit: int, destination: int, start: t.Sequence[int]) -> bool:
    home = start[unit]
    return state.is_apart(unit, destination) and (
        (destination == home and state.is_open[home]) or state.may_go(unit, destination, home)
    )


def _is_too_much(limits: Limits, guests: int, size: int, used: tuple[int, int]) -> bool:
    moved, sent = used
    return (limits.most_moves is not None and moved + guests > limits.most_moves) or (
        limits.most_bytes is not None and sent + size > limits.most_bytes
    )
