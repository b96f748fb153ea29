# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Plan with forecasts: forecast who moves, plan, and forecast again whom the plan has chosen besides."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot, Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import Solver
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import ANY_TIME, Window
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.guest_costs import GuestCosts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import PlanForecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.planning import make
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import (
    EMPTYING,
    PlanningResult,
    Request,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.restore_claims import home_returns

#: A plan is made so often with forecasts of those that it has chosen; then all are forecast that were measured.
MOST_ROUNDS = 4


def make_with_forecasts(
    request: Request,
    constraints: Constraints,
    forecasts: PlanForecasts | None,
    *,
    window: Window = ANY_TIME,
    solver: Solver | None = None,
) -> PlanningResult:
    """Plan for one goal with a forecast of each move.

    Guests that surely move are forecast first. If the plan chooses others that cannot move as intended, these are
    forecast and the plan is made again; once also if some take much longer than estimated. Without forecasts nothing is
    forecast.

    Raises:
        PlanError: as ``make``.
    """
    if forecasts is None:
        return make(request, constraints, window=window, solver=solver)
    guest_costs = GuestCosts(constraints, forecasts, closing=request.hosts if request.kind in EMPTYING else ())
    guest_costs.ask(_sure_to_move(request, constraints.snapshots))
    for number in range(MOST_ROUNDS):
        result = make(request, guest_costs.constraints, window=window, solver=solver)
        steps = _steps(result)
        refused = guest_costs.newly_refused(steps)
        if not refused and (number or not guest_costs.much_longer(steps)):
            return result
        guest_costs.ask([*refused, *guest_costs.much_longer(steps)])
    guest_costs.ask_all()
    return make(request, guest_costs.constraints, window=window, solver=solver)


def _steps(result: PlanningResult) -> list[Step]:
    """All steps of a plan; those of the first wave are those of the plan."""
    return [
        *result.planned.placement.steps,
        *(step for wave in result.waves[1:] for step in wave.planned.placement.steps),
    ]


def _sure_to_move(request: Request, snapshots: t.Mapping[str, Snapshot]) -> list[str]:
    """Return UUIDs of guests that move whatever the plan is."""
    if request.kind in EMPTYING:
        return [domain["uuid"] for host in request.hosts for domain in snapshots.get(host, {}).get("domains") or []]
    if request.kind == "restore":
        return [home_return.domain["uuid"] for home_return in home_returns(request.hosts, snapshots, request.left)]
    return []
