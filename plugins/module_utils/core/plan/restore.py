# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Bring guests home, in an order in which each finds room: one home may only be free once another guest has left it."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement, Stay
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import n_plus_one, no_destination
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import SnapshotCluster, Terms
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import Move, Ordered, order
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.drain import covered, held
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.restore_claims import Left, Wish, restore
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import (
    ANY_TIME,
    Planned,
    Window,
    expectation,
    stays_of,
    steps_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed


def plan_restore(
    hosts: t.Sequence[str],
    terms: Terms,
    left: t.Iterable[Left] = (),
    *,
    window: Window = ANY_TIME,
    spare: str = "off",
) -> Planned:
    """Plan to bring guests home to these hosts.

    Guests whose homes wait for each other change places by way of a third host. Who cannot return stays where it is,
    with the reason; the others return all the same.

    Args:
        hosts: homes.
        terms: what the plan must keep to.
        left: guests that left these hosts earlier, for those whose metadata names no home (core/restore.py).
        window: the time there is.
        spare: N+1 after the plan: ``off``, ``warn`` (a remark) or ``require`` (who makes it worse stays away).
    """
    made = SnapshotCluster(terms)
    wishes = {wish.domain["uuid"]: wish for wish in restore(hosts, terms.snapshots, left)}
    wanted = sorted({made.units[uuid] for uuid in wishes})
    units = made.cluster.units
    torn = [unit for unit in wanted if _home(made, unit, wishes) is None]
    pinned = [unit for unit in wanted if unit not in torn and units[unit].is_pinned]
    places = {unit: made.hosts[_home(made, unit, wishes) or ""] for unit in wanted if unit not in torn + pinned}
    ordered = _ordered(made, places)
    risky: dict[int, list[Refusal]] = {}
    if spare == "require":
        ordered, risky = _safe(made, ordered, places)
    after = _after(made, ordered)
    lost = [unit for unit in places if after.where[unit] != places[unit] and unit not in risky]
    steps = steps_of(made, ordered.moves, functools.partial(_why, made, places, wishes))
    stays: list[Stay] = []
    for unit in wanted:
        if unit in torn:
            stays += stays_of(made, unit, functools.partial(_torn, made, unit, wishes))
        elif unit in pinned:
            stays += held(made, unit, [])
        elif unit in risky:
            stays += stays_of(made, unit, functools.partial(_risky, risky[unit]))
        elif unit in lost:
            stays += stays_of(made, unit, functools.partial(no_destination.at, made, after, unit, host=places[unit]))
    stays = [stay for stay in stays if stay["guest"]["uuid"] in wishes]
    return Planned(Placement(steps, stays), expectation(steps, terms.expected, window), covered(made, after, spare), {})


def _home(made: SnapshotCluster, unit: int, wishes: t.Mapping[str, Wish]) -> str | None:
    """The one home of all members; None where they do not agree."""
    homes = {wishes[domain["uuid"]].home if domain["uuid"] in wishes else None for domain in made.domains[unit]}
    return homes.pop() if len(homes) == 1 else None


def _ordered(made: SnapshotCluster, places: t.Mapping[int, int]) -> Ordered:
    """The shortest first; without those for which there is no room, whatever the order."""
    units = made.cluster.units
    while True:
        ordered = order(State(made.cluster), places, lambda unit: (units[unit].cost, unit))
        if not ordered.left:
            return ordered
        places = {unit: host for unit, host in places.items() if unit not in ordered.left}


def _safe(
    made: SnapshotCluster, ordered: Ordered, places: t.Mapping[int, int]
) -> tuple[Ordered, dict[int, list[Refusal]]]:
    """Without those, the last one first, whose return leaves a host uncovered that is covered now; each with why."""
    broken, risky = set(n_plus_one.uncovered(State(made.cluster))), dict[int, list[Refusal]]()
    while ordered.moves:
        after = _after(made, ordered)
        if broken.issuperset(n_plus_one.uncovered(after)):
            break
        unit = ordered.moves[-1].unit
        risky[unit] = covered(made, after, "require")
        going = {move.unit for move in ordered.moves}
        ordered = _ordered(made, {one: host for one, host in places.items() if one in going and one not in risky})
    return ordered, risky


def _risky(why: list[Refusal], dummy_member: int) -> list[Refusal]:
    return why


def _after(made: SnapshotCluster, ordered: Ordered) -> State:
    state = State(made.cluster)
    for move in ordered.moves:
        state.move(move.unit, move.destination)
    return state


def _why(made: SnapshotCluster, places: t.Mapping[int, int], wishes: t.Mapping[str, Wish], move: Move) -> str:
    if move.parks:
        return f"waits on {made.names[move.destination]} until there is room on {made.names[places[move.unit]]}"
    return wishes[made.domains[move.unit][0]["uuid"]].why


def _torn(made: SnapshotCluster, unit: int, wishes: t.Mapping[str, Wish], member: int) -> list[Refusal]:
    names = [domain["name"] for number, domain in enumerate(made.domains[unit]) if number != member]
    domain = made.domains[unit][member]
    wish = wishes.get(domain["uuid"])
    home = wish.home if wish else made.names[made.cluster.units[unit].host]
    return [
        refusal(
            "keep_together",
            f"{domain['name']} belongs on {home}, but is kept together with {listed(names)}, which does not",
            f"give them one home, or take {domain['name']} out of that group",
        )
    ]
