# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Plan to empty one host, several hosts or a whole rack at once. The guests go to all other hosts."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement, Stay
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import no_destination
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import (
    CandidateHosts,
    Evacuation,
    Solver,
    evacuate,
    spread,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import (
    Move,
    Ordered,
    joined,
    order,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import (
    ANY_TIME,
    Planned,
    Window,
    expectation,
    stays_of,
    steps_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.shared_refusals import (
    n_plus_one_remarks,
    stays_of_pinned,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes

#: Of how many other hosts it is told why they cannot take a guest that only one can.
HOSTS_TOLD = 2


def drain(
    hosts: t.Sequence[str],
    constraints: Constraints,
    *,
    window: Window = ANY_TIME,
    may_move_others: bool = True,
    spare: str = "off",
    solver: Solver | None = None,
) -> Planned:
    """Plan to empty these hosts.

    Args:
        hosts: names; none of them becomes a destination.
        constraints: what the plan must keep to.
        window: the time there is.
        may_move_others: guests elsewhere may move to make room.
        spare: N+1 after the plan: ``off``, ``warn`` (a remark) or ``require`` (no step, if it would break).
        solver: an exact solver to ask where the searches prove nothing.

    Returns:
        The plan's content. A guest that stays has reasons: its own, or which constraint binds and what would free it.
    """
    numbered = NumberedCluster(constraints, closing=hosts)
    state = State(numbered.cluster)
    numbers = [numbered.hosts[host] for host in hosts]
    units = [unit for number in numbers for unit in sorted(state.on[number])]
    movers = [unit for unit in units if not numbered.cluster.units[unit].is_pinned]
    others = []
    if may_move_others:
        facts = numbered.cluster.units
        others = [unit for unit in range(len(facts)) if not facts[unit].is_pinned and state.is_open[facts[unit].host]]
    found = evacuate(state, movers, others, solver=solver)
    ordered, found = ordered_moves(numbered, found, movers, others, solver)
    after = _after(numbered, ordered.moves)
    remarks = n_plus_one_remarks(numbered, after, spare)
    if spare == "require" and remarks:
        stays = [stay for unit in units for stay in stays_of_pinned(numbered, unit, remarks)]
        return Planned(Placement([], stays), expectation([], constraints.expected, window), remarks, {})
    steps = steps_of(
        numbered,
        ordered.moves,
        functools.partial(_why, numbered, State(numbered.cluster), after, found, frozenset(movers)),
    )
    why = functools.partial(
        no_destination.refusals, numbered, after, closing=hosts, found=found, may_move_others=may_move_others
    )
    stays = [stay for unit in units if unit not in found.places for stay in _stays(numbered, unit, why)]
    figures = {
        "extra_bytes": sum(numbered.cluster.units[unit].move_bytes for unit in set(found.places).difference(movers)),
        "extra_is_least": found.is_proven,
    }
    return Planned(Placement(steps, stays), expectation(steps, constraints.expected, window), remarks, figures)


def ordered_moves(
    numbered: NumberedCluster,
    found: Evacuation,
    movers: t.Sequence[int],
    others: t.Sequence[int],
    solver: Solver | None = None,
) -> tuple[Ordered, Evacuation]:
    """Order the moves to the places that were found. Return the moves and what they really reach.

    Others may step aside and come back if movers cannot pass each other. Movers that no order brings to their place are
    ``stuck``. For the rest, places are searched again, because others would make room for no one. Stuck movers come
    last, if there is free memory then.

    Others move first, while there is free memory; then guests whose move may fail, so that a drain fails early; then
    the shortest moves, so that the host is relieved early (SPT, Smith 1956). Guests on which the cluster depends go
    last.
    """
    units, must = numbered.cluster.units, set(movers)

    def rank(unit: int) -> tuple[bool, bool, bool, float, int]:
        return units[unit].goes_last, unit in must, not units[unit].is_risky, units[unit].cost, unit

    stuck: list[int] = []
    tries = found.tries
    while True:
        ordered = order(State(numbered.cluster), found.places, rank)
        if ordered.left:
            ordered = order(State(numbered.cluster), found.places, rank, others)
        lost = sorted(must.intersection(ordered.left), key=lambda unit: (-units[unit].need_bytes, unit))
        if not lost:
            break
        # The largest are the hardest to get past the others; half of them at once, as each search may take long.
        stuck += lost[: (len(lost) + 1) // 2]
        found = evacuate(State(numbered.cluster), [unit for unit in movers if unit not in stuck], others, solver=solver)
        tries += found.tries
    after = _after(numbered, ordered.moves)
    late = spread(after, stuck, CandidateHosts(after, list(after.where)))
    moves = ordered.moves
    if late:
        last = [Move(unit, units[unit].host, host) for unit, host in late.items()]
        moves = joined(State(numbered.cluster), [*moves, *last])
    moves = _without_parking_for_good(moves)
    places = {move.unit: after.where[move.unit] for move in moves if after.where[move.unit] != units[move.unit].host}
    stuck = [unit for unit in stuck if unit not in places]
    found = found._replace(
        places=places,
        unplaced=tuple(unit for unit in movers if unit not in places),
        is_proven=found.is_proven and not ordered.left and not stuck,
        tries=tries,
        stuck=tuple(stuck),
    )
    return Ordered(moves, ()), found


def _without_parking_for_good(moves: t.Sequence[Move]) -> list[Move]:
    """Others that cannot come back after all movers have left stay where they are."""
    last = {move.unit: number for number, move in enumerate(moves)}
    return [move._replace(parks=move.parks and last[move.unit] != number) for number, move in enumerate(moves)]


def _after(numbered: NumberedCluster, moves: t.Sequence[Move]) -> State:
    state = State(numbered.cluster)
    for move in moves:
        state.move(move.unit, move.destination)
    return state


def _is_only(before: State, move: Move) -> bool:
    """Return whether no other host could take the unit, even if nothing else moved."""
    able = (host for host in range(len(before.free)) if before.can_take(move.unit, host))
    return next(able, None) == move.destination and next(able, None) is None


def _why_not_others(numbered: NumberedCluster, before: State, move: Move) -> str:
    """In brackets, why the first of the other open hosts cannot; empty where there is none."""
    ends = (move.source, move.destination)
    others = [host for host in range(len(before.free)) if before.is_open[host] and host not in ends]
    reasons = [
        refused["reason"]
        for host in others[:HOSTS_TOLD]
        for refused in no_destination.refusals_of_host(numbered, before, move.unit, 0, host)[:1]
    ]
    if not reasons:
        return ""
    more = f"; and so on for {len(others) - HOSTS_TOLD} more" if len(others) > HOSTS_TOLD else ""
    return f" ({'; '.join(reasons)}{more})"


def _why(
    numbered: NumberedCluster, before: State, after: State, found: Evacuation, movers: t.Collection[int], move: Move
) -> str:
    there = numbered.names[move.destination]
    if move.parks:
        target = found.places.get(move.unit, move.source)
        return f"waits on {there} until there is room on {numbered.names[target]}"
    if move.unit not in movers:
        waiting = [unit for unit, host in found.places.items() if host == numbered.cluster.units[move.unit].host]
        if waiting:
            first = max(waiting, key=lambda unit: (after.need[unit], -unit))
            return f"makes room on {numbered.names[move.source]} for {numbered.cluster.name_of(first)}"
    if _is_only(before, move):
        return f"{there} is the only host that can take it{_why_not_others(numbered, before, move)}"
    return f"{there} has room for it ({human_bytes(after.free[move.destination])} left at the end)"


def _stays(numbered: NumberedCluster, unit: int, why: t.Callable[[int, int], list[Refusal]]) -> list[Stay]:
    if numbered.cluster.units[unit].is_pinned:
        return stays_of_pinned(numbered, unit, [])
    return stays_of(numbered, unit, functools.partial(why, unit))
