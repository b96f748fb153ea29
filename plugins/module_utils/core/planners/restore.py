# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Plan the moves that bring guests home, in an order in which each guest finds free memory.

One home may have no free memory until another guest has left it.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement, Stay
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import n_plus_one, no_destination
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import Move, Ordered, order
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import (
    ANY_TIME,
    Planned,
    Window,
    expectation,
    stays_of,
    steps_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.restore_claims import (
    HomeReturn,
    LeftGuest,
    home_returns,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.shared_refusals import (
    n_plus_one_remarks,
    stays_of_pinned,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed


def plan_restore(
    hosts: t.Sequence[str],
    constraints: Constraints,
    left: t.Iterable[LeftGuest] = (),
    *,
    window: Window = ANY_TIME,
    spare: str = "off",
) -> Planned:
    """Plan to bring guests home to these hosts.

    Guests whose homes wait for each other change places by way of a third host. Who cannot return stays where it is,
    with the reason; the others return all the same.

    Args:
        hosts: homes.
        constraints: what the plan must keep to.
        left: guests that left these hosts earlier, for those whose metadata names no home (core/restore.py).
        window: the time there is.
        spare: N+1 after the plan: ``off``, ``warn`` (a remark) or ``require`` (who makes it worse stays away).
    """
    numbered = NumberedCluster(constraints)
    returns = {
        home_return.domain["uuid"]: home_return for home_return in home_returns(hosts, constraints.snapshots, left)
    }
    wanted = sorted({numbered.units[uuid] for uuid in returns})
    units = numbered.cluster.units
    split = [unit for unit in wanted if _home(numbered, unit, returns) is None]
    pinned = [unit for unit in wanted if unit not in split and units[unit].is_pinned]
    places = {
        unit: numbered.hosts[_home(numbered, unit, returns) or ""] for unit in wanted if unit not in split + pinned
    }
    ordered = _ordered(numbered, places)
    unprotecting: dict[int, list[Refusal]] = {}
    if spare == "require":
        ordered, unprotecting = _keep_n_plus_one(numbered, ordered, places)
    after = _after(numbered, ordered)
    lost = [unit for unit in places if after.where[unit] != places[unit] and unit not in unprotecting]
    steps = steps_of(numbered, ordered.moves, functools.partial(_why, numbered, places, returns))
    stays: list[Stay] = []
    for unit in wanted:
        if unit in split:
            stays += stays_of(numbered, unit, functools.partial(_split_home, numbered, unit, returns))
        elif unit in pinned:
            stays += stays_of_pinned(numbered, unit, [])
        elif unit in unprotecting:
            stays += stays_of(numbered, unit, functools.partial(_same_refusals, unprotecting[unit]))
        elif unit in lost:
            stays += stays_of(
                numbered,
                unit,
                functools.partial(no_destination.refusals_of_host, numbered, after, unit, host=places[unit]),
            )
    stays = [stay for stay in stays if stay["guest"]["uuid"] in returns]
    return Planned(
        Placement(steps, stays),
        expectation(steps, constraints.expected, window),
        n_plus_one_remarks(numbered, after, spare),
        {},
    )


def _home(numbered: NumberedCluster, unit: int, returns: t.Mapping[str, HomeReturn]) -> str | None:
    """Return the one home of all members; None if they have different homes."""
    homes = {returns[domain["uuid"]].home if domain["uuid"] in returns else None for domain in numbered.domains[unit]}
    return homes.pop() if len(homes) == 1 else None


def _ordered(numbered: NumberedCluster, places: t.Mapping[int, int]) -> Ordered:
    """Order the moves, the shortest first, without units that find no free memory in any order."""
    units = numbered.cluster.units
    while True:
        ordered = order(State(numbered.cluster), places, lambda unit: (units[unit].goes_last, units[unit].cost, unit))
        if not ordered.left:
            return ordered
        places = {unit: host for unit, host in places.items() if unit not in ordered.left}


def _keep_n_plus_one(
    numbered: NumberedCluster, ordered: Ordered, places: t.Mapping[int, int]
) -> tuple[Ordered, dict[int, list[Refusal]]]:
    """Leave out returns, the last first, while they break N+1 for a host; return the moves and the refusals."""
    broken, unprotecting = set(n_plus_one.unprotected(State(numbered.cluster))), dict[int, list[Refusal]]()
    while ordered.moves:
        after = _after(numbered, ordered)
        if broken.issuperset(n_plus_one.unprotected(after)):
            break
        unit = ordered.moves[-1].unit
        unprotecting[unit] = n_plus_one_remarks(numbered, after, "require")
        going = {move.unit for move in ordered.moves}
        ordered = _ordered(
            numbered, {one: host for one, host in places.items() if one in going and one not in unprotecting}
        )
    return ordered, unprotecting


def _same_refusals(why: list[Refusal], dummy_member: int) -> list[Refusal]:
    return why


def _after(numbered: NumberedCluster, ordered: Ordered) -> State:
    state = State(numbered.cluster)
    for move in ordered.moves:
        state.move(move.unit, move.destination)
    return state


def _why(
    numbered: NumberedCluster, places: t.Mapping[int, int], returns: t.Mapping[str, HomeReturn], move: Move
) -> str:
    if move.parks:
        return f"waits on {numbered.names[move.destination]} until there is room on {numbered.names[places[move.unit]]}"
    return returns[numbered.domains[move.unit][0]["uuid"]].why


def _split_home(
    numbered: NumberedCluster, unit: int, returns: t.Mapping[str, HomeReturn], member: int
) -> list[Refusal]:
    names = [domain["name"] for number, domain in enumerate(numbered.domains[unit]) if number != member]
    domain = numbered.domains[unit][member]
    home_return = returns.get(domain["uuid"])
    home = home_return.home if home_return else numbered.names[numbered.cluster.units[unit].host]
    return [
        refusal(
            "keep_together",
            f"{domain['name']} belongs on {home}, but is kept together with {listed(names)}, which does not",
            f"give them one home, or take {domain['name']} out of that group",
        )
    ]
