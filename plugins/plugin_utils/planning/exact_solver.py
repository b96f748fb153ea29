# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the exact solver of ortools (CP-SAT) for tight drains, if the controller has it.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import NO_LIMIT, State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import CandidateHosts, Solver

try:
    from ortools.sat.python import cp_model
except ImportError:
    cp_model = None

#: What a plan may wait for a proof.
LIMIT_S = 20.0
#: Whether a unit is on a host in the end.
Choices = t.Mapping[tuple[int, int], t.Any]
#: Costs are whole numbers to the solver: thousandths of a second, or of a MiB.
PARTS = 1000


def found() -> Solver | None:
    """The solver, or None where the library is not there."""
    return None if cp_model is None else solve


def solve(
    state: State, movers: t.Sequence[int], others: t.Sequence[int], candidates: CandidateHosts
) -> t.Mapping[int, int] | None:
    """Where movers go and others make room, at the least cost there is; None where that was not proven in time.

    Memory, virtual CPUs, huge pages and keep-apart groups are kept in the end; the order of the moves is found later.

    Args:
        state: where everything else is; movers are nowhere.
        movers: units that must find a host.
        others: units that may move to make room.
        candidates: the hosts each may go to.
    """
    model = cp_model.CpModel()
    at: dict[tuple[int, int], t.Any] = {}
    for unit in movers:
        at.update({(unit, host): model.new_bool_var("") for host in candidates(unit)})
    for unit in others:
        at.update({(unit, host): model.new_bool_var("") for host in (*candidates(unit), state.where[unit])})
    for unit in (*movers, *others):
        model.add_exactly_one(chosen for (one, _host), chosen in at.items() if one == unit)
    _keep_to_room(model, state, others, at)
    _keep_apart(model, state, at)
    costs = {unit: round(PARTS * state.cluster.units[unit].cost) for unit in others}
    model.minimize(
        sum(costs[unit] * at[unit, host] for unit, host in at if unit in costs and host != state.where[unit])
    )
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = LIMIT_S
    # The same plan every time, whatever else the controller does.
    solver.parameters.num_workers = 1
    if solver.solve(model) != cp_model.OPTIMAL:
        return None
    must = set(movers)
    places = {unit: host for (unit, host), chosen in at.items() if solver.value(chosen)}
    return {unit: host for unit, host in places.items() if unit in must or host != state.where[unit]}


def _keep_to_room(model: t.Any, state: State, others: t.Sequence[int], at: Choices) -> None:
    """What each host can take is what is free there and what others that are there now leave behind.

    A host that is overfull already keeps whom it has, but takes no one.
    """
    sizes = sorted({size for unit, _host in at for size, _count in state.cluster.units[unit].pages})
    for host in sorted({host for _unit, host in at}):
        here = [unit for unit in others if state.where[unit] == host]
        coming = {unit: chosen for (unit, there), chosen in at.items() if there == host}
        arriving = [chosen for unit, chosen in coming.items() if unit not in here]
        for free, needs in _rooms(state, host, coming, sizes):
            if sum(needs.values()) <= (room := free + sum(needs[unit] for unit in here)):
                continue
            fits = sum(needs[unit] * chosen for unit, chosen in coming.items()) <= room
            for chosen in arriving if free < 0 else [None]:
                kept = model.add(fits)
                if chosen is not None:
                    kept.only_enforce_if(chosen)


def _rooms(
    state: State, host: int, units: t.Iterable[int], sizes: t.Sequence[int]
) -> t.Iterator[tuple[int, dict[int, int]]]:
    """What is free of each kind of room, and what each unit needs of it."""
    yield state.free[host], {unit: state.need[unit] for unit in units}
    if state.cluster.hosts[host].vcpu_limit != NO_LIMIT:
        yield state.free_vcpus[host], {unit: state.vcpus[unit] for unit in units}
    for size in sizes:
        pages = {unit: dict(state.cluster.units[unit].pages).get(size, 0) for unit in units}
        yield state.free_pages.get((host, size), 0), pages


def _keep_apart(model: t.Any, state: State, at: Choices) -> None:
    """No one comes to where another of its group is or comes to; two that share a host already may stay."""
    units = state.cluster.units
    loose = {unit for unit, _host in at}
    members: dict[tuple[int, int], list[tuple[int, t.Any]]] = {}
    for host, on in enumerate(state.on):
        for unit in on - loose:
            for group in units[unit].apart:
                members.setdefault((host, group), []).append((unit, None))
    for (unit, host), chosen in at.items():
        for group in units[unit].apart:
            members.setdefault((host, group), []).append((unit, chosen))
    for (host, _group), found in members.items():
        for unit, chosen in found:
            if chosen is None or state.where[unit] == host:
                continue
            for other, there in found:
                if other != unit:
                    model.add_implication(chosen, chosen.negated() if there is None else there.negated())
