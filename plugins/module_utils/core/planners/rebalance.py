# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Plan a rebalance: the moves that lower the score. Those that lower it most for their cost come first."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import n_plus_one, score
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import Move, Ordered, order
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.rebalancing import (
    USUAL_RULES,
    Rules,
    by_rate,
    rebalance,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import (
    ANY_TIME,
    Planned,
    Window,
    expectation,
    steps_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.shared_refusals import n_plus_one_remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed

#: "This is balanced" and "something is moving already" are answers, not failures.
BALANCED, IN_MOTION = "balanced", "in_motion"


def plan_rebalance(
    constraints: Constraints,
    rules: Rules = USUAL_RULES,
    *,
    hosts: t.Collection[str] = (),
    weights: t.Mapping[str, float] | None = None,
    in_cooldown: t.Collection[str] = (),
    window: Window = ANY_TIME,
    spare: str = "off",
) -> Planned:
    """Plan to lower the score of the open hosts.

    Args:
        constraints: what the plan must keep to.
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
    numbered = NumberedCluster(constraints)
    whole = State(numbered.cluster)
    state = _taking_part(numbered, whole, hosts)
    score_of = functools.partial(score.kvmops, weights=weights)
    before = score_of(state)
    moving = _moving(constraints)
    if moving:
        return _nothing(before.value, [_in_motion(moving)], constraints, window)
    cooling_down = [numbered.units[uuid] for uuid in in_cooldown if uuid in numbered.units]
    fixed = [*cooling_down, *(unit for unit, facts in enumerate(numbered.cluster.units) if facts.together is not None)]
    # Guests of a host that fails start on any open host, whoever takes part in the rebalance.
    guard = n_plus_one.NPlusOneGuard(whole) if spare == "require" else None
    found = rebalance(state, score_of, rules, fixed=fixed, is_allowed=guard.allows if guard else None)
    ordered = _ordered(state, before, found.places, guard)
    after = state.copy()
    for move in ordered.moves:
        after.move(move.unit, move.destination)
        whole.move(move.unit, move.destination)
    if not ordered.moves or not _is_worth_it(rules, before.value, score_of(after).value):
        return _nothing(before.value, [_balanced(before.value, len(cooling_down))], constraints, window)
    places = {unit: after.where[unit] for unit in found.places if after.where[unit] != state.where[unit]}
    steps = steps_of(numbered, ordered.moves, functools.partial(_why, numbered, before, places))
    units = numbered.cluster.units
    figures = {
        "score_before": round(before.value, 6),
        "score_after": round(score_of(after).value, 6),
        "guests": sum(len(units[unit].guests) for unit in places),
        "bytes": sum(units[move.unit].move_bytes for move in ordered.moves),
    }
    return Planned(
        Placement(steps, []),
        expectation(steps, constraints.expected, window),
        n_plus_one_remarks(numbered, whole, spare),
        figures,
    )


def _taking_part(numbered: NumberedCluster, whole: State, hosts: t.Collection[str]) -> State:
    """Return the state with only these hosts open; with all open hosts if none is named."""
    state = whole.copy()
    if hosts:
        state.is_open = [is_open and name in hosts for name, is_open in zip(numbered.names, whole.is_open)]
    return state


def _ordered(
    state: State, before: score.Score, places: t.Mapping[int, int], guard: n_plus_one.NPlusOneGuard | None
) -> Ordered:
    """In the order of what they gain for their cost. Who gets to its place by no order stays."""
    rank = by_rate(state, before, places)
    while True:
        ordered = order(state.copy(), places, rank, is_allowed=guard.allows if guard else None)
        if not ordered.left:
            break
        places = {unit: host for unit, host in places.items() if unit not in ordered.left}
    return ordered._replace(moves=guard.for_any_order(state.copy(), ordered.moves)) if guard else ordered


def _is_worth_it(rules: Rules, before: float, after: float) -> bool:
    """Return whether the improvement is enough, without the units that no order brings to their place."""
    return before - after >= rules.least_improvement * before - 1e-9


def _why(numbered: NumberedCluster, before: score.Score, places: t.Mapping[int, int], move: Move) -> str:
    if move.parks:
        target = numbered.names[places.get(move.unit, move.source)]
        return f"waits on {numbered.names[move.destination]} until there is room on {target}"
    home = numbered.cluster.units[move.unit].host
    gain = before.value - before.after(move.unit, home, move.destination)
    size = human_bytes(numbered.cluster.units[move.unit].move_bytes)
    if gain > 0:
        return f"lowers the score by {gain:.4f} for {size}"
    return f"makes a swap with {numbered.names[move.destination]} possible, for {size}"


def _moving(constraints: Constraints) -> list[str]:
    return sorted(
        domain["name"]
        for snapshot in constraints.snapshots.values()
        for domain in snapshot.get("domains") or []
        if not is_off(domain) and "migration" in str((domain.get("job") or {}).get("operation") or "")
    )


def _in_motion(moving: list[str]) -> Refusal:
    return refusal(
        IN_MOTION,
        f"{listed(moving)} {'is' if len(moving) == 1 else 'are'} being migrated, so the cluster is about to change",
        "wait until that is over, then plan again",
    )


def _balanced(value: float, count: int) -> Refusal:
    lately = f" ({count} in {'its' if count == 1 else 'their'} cool-down)" if count else ""
    return refusal(
        BALANCED,
        f"the score is {value:.4f}, and no allowed move improves it enough{lately}",
        "there is nothing to do; to do more, lower act_above or least_improvement",
    )


def _nothing(value: float, remarks: list[Refusal], constraints: Constraints, window: Window) -> Planned:
    figures = {"score_before": round(value, 6), "score_after": round(value, 6), "guests": 0, "bytes": 0}
    return Planned(Placement([], []), expectation([], constraints.expected, window), remarks, figures)
