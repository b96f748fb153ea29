# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Plan a rebalance: the moves that even a cluster out, the ones that gain most for their cost first."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import n_plus_one, score
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import SnapshotCluster, Terms
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import Move, Ordered, order
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.rebalancing import (
    USUAL_RULES,
    Rules,
    by_rate,
    rebalance,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.drain import covered
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import (
    ANY_TIME,
    Planned,
    Window,
    expectation,
    steps_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed

#: "This is balanced" and "something is moving already" are answers, not failures.
BALANCED, IN_MOTION = "balanced", "in_motion"


def plan_rebalance(
    terms: Terms,
    rules: Rules = USUAL_RULES,
    *,
    hosts: t.Collection[str] = (),
    weights: t.Mapping[str, float] | None = None,
    resting: t.Collection[str] = (),
    window: Window = ANY_TIME,
    spare: str = "off",
) -> Planned:
    """Plan to even out the open hosts by our own score.

    Args:
        terms: what the plan must keep to.
        rules: when to act, how far, how many moves, at what cost.
        hosts: only these give and take guests; empty: all do.
        weights: of memory, cpu, count and pressure in the score; None: ``score.WEIGHTS``.
        resting: UUIDs of guests that moved a short while ago and stay this time.
        window: the time there is.
        spare: N+1: ``off``, ``warn`` (a remark), ``require`` (no move makes it worse).

    Returns:
        The plan's content; ``figures`` has the scores before and after and what moves. A remark says why there is
        nothing to do, if there is nothing.
    """
    made = SnapshotCluster(terms)
    whole = State(made.cluster)
    state = _taking_part(made, whole, hosts)
    score_of = functools.partial(score.kvmops, weights=weights)
    before = score_of(state)
    moving = _moving(terms)
    if moving:
        return _nothing(before.value, [_in_motion(moving)], terms, window)
    rests = [made.units[uuid] for uuid in resting if uuid in made.units]
    still = [*rests, *(unit for unit, facts in enumerate(made.cluster.units) if facts.together is not None)]
    # Guests of a host that fails start on any open host, whoever takes part in the rebalance.
    cover = n_plus_one.Cover(whole) if spare == "require" else None
    found = rebalance(state, score_of, rules, still=still, safe=cover.allows if cover else None)
    ordered = _ordered(state, before, found.places, cover)
    after = state.copy()
    for move in ordered.moves:
        after.move(move.unit, move.destination)
        whole.move(move.unit, move.destination)
    if not ordered.moves or not _is_worth_it(rules, before.value, score_of(after).value):
        return _nothing(before.value, [_balanced(before.value, len(rests))], terms, window)
    places = {unit: after.where[unit] for unit in found.places if after.where[unit] != state.where[unit]}
    steps = steps_of(made, ordered.moves, functools.partial(_why, made, before, places))
    units = made.cluster.units
    figures = {
        "score_before": round(before.value, 6),
        "score_after": round(score_of(after).value, 6),
        "guests": sum(len(units[unit].guests) for unit in places),
        "bytes": sum(units[move.unit].move_bytes for move in ordered.moves),
    }
    return Planned(
        Placement(steps, []), expectation(steps, terms.expected, window), covered(made, whole, spare), figures
    )


def _taking_part(made: SnapshotCluster, whole: State, hosts: t.Collection[str]) -> State:
    """The cluster with only these hosts open; with all that are, if none is named."""
    state = whole.copy()
    if hosts:
        state.is_open = [is_open and name in hosts for name, is_open in zip(made.names, whole.is_open)]
    return state


def _ordered(state: State, before: score.Score, places: t.Mapping[int, int], cover: n_plus_one.Cover | None) -> Ordered:
    """In the order of what they gain for their cost. Who gets to its place by no order stays."""
    rank = by_rate(state, before, places)
    while True:
        ordered = order(state.copy(), places, rank, safe=cover.allows if cover else None)
        if not ordered.left:
            break
        places = {unit: host for unit, host in places.items() if unit not in ordered.left}
    return ordered._replace(moves=cover.for_any_order(state.copy(), ordered.moves)) if cover else ordered


def _is_worth_it(rules: Rules, before: float, after: float) -> bool:
    """Is it enough even without those that stay because no order brings them to their place?"""
    return before - after >= rules.least_improvement * before - 1e-9


def _why(made: SnapshotCluster, before: score.Score, places: t.Mapping[int, int], move: Move) -> str:
    if move.parks:
        target = made.names[places.get(move.unit, move.source)]
        return f"waits on {made.names[move.destination]} until there is room on {target}"
    home = made.cluster.units[move.unit].host
    gain = before.value - before.after(move.unit, home, move.destination)
    size = human_bytes(made.cluster.units[move.unit].move_bytes)
    if gain > 0:
        return f"lowers the score by {gain:.4f} for {size}"
    return f"makes an exchange with {made.names[move.destination]} possible, for {size}"


def _moving(terms: Terms) -> list[str]:
    return sorted(
        domain["name"]
        for snapshot in terms.snapshots.values()
        for domain in snapshot.get("domains") or []
        if not is_off(domain) and "migration" in str((domain.get("job") or {}).get("operation") or "")
    )


def _in_motion(moving: list[str]) -> Refusal:
    return refusal(
        IN_MOTION,
        f"{listed(moving)} {'is' if len(moving) == 1 else 'are'} being migrated, and nobody knows what will be then",
        "wait until that is over, then plan again",
    )


def _balanced(value: float, rests: int) -> Refusal:
    lately = f" ({rests} that moved a short while ago {'rests' if rests == 1 else 'rest'})" if rests else ""
    return refusal(
        BALANCED,
        f"the score is {value:.4f}, and no move that is allowed makes it enough better{lately}",
        "nothing is to be done; lower act_above or least_improvement to have more done",
    )


def _nothing(value: float, remarks: list[Refusal], terms: Terms, window: Window) -> Planned:
    figures = {"score_before": round(value, 6), "score_after": round(value, 6), "guests": 0, "bytes": 0}
    return Planned(Placement([], []), expectation([], terms.expected, window), remarks, figures)
