# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Give each goal to its planner."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import Solver
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import left_definitions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan_shape import GOALS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import ANY_TIME, Window
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import shut_off_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.infrastructure_remarks import (
    infrastructure_remarks,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.input_checks import (
    check_destinations,
    check_duplicates,
    check_hosts,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.postcopy_remarks import postcopy_remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.rebalance import plan_rebalance
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import (
    EMPTYING,
    PlanningResult,
    Request,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.restore import plan_restore
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.waves import upgrade_result


def make(
    request: Request, constraints: Constraints, *, window: Window = ANY_TIME, solver: Solver | None = None
) -> PlanningResult:
    """Plan for one goal, and say what of it the cluster itself depends on.

    The arguments and errors are those of ``plan_goal``.
    """
    made = plan_goal(request, constraints, window=window, solver=solver)
    placement = made.planned.placement
    remarks = [
        *infrastructure_remarks(request, constraints, placement),
        *postcopy_remarks(constraints, placement),
    ]
    return made._replace(planned=made.planned._replace(remarks=[*made.planned.remarks, *remarks]))


def plan_goal(
    request: Request, constraints: Constraints, *, window: Window = ANY_TIME, solver: Solver | None = None
) -> PlanningResult:
    """Plan for one goal.

    Args:
        wanted: the goal.
        constraints: what the plan must keep to; every host that may play a part is among its snapshots.
        window: the time and the slots there are.
        solver: an exact solver, for drains that the searches cannot decide.

    Raises:
        PlanError: for what is wrong with the whole cluster; what is wrong with one guest is in its stay.
    """
    if request.kind not in GOALS:
        raise PlanError("unknown_goal", f"there is no goal {request.kind}", f"choose one of {', '.join(GOALS)}")
    snapshots = constraints.snapshots
    if request.kind != "rebalance" or request.hosts:
        check_hosts(request.hosts, snapshots)
    check_duplicates(snapshots)
    if request.kind in EMPTYING:
        check_destinations(request.hosts, snapshots)
        planned = drain(
            request.hosts,
            constraints,
            window=window,
            may_move_others=request.may_move_others,
            spare=request.spare,
            solver=solver,
        )
        planned = planned._replace(remarks=[*planned.remarks, *left_definitions.remarks(request.hosts, snapshots)])
        return PlanningResult(planned, shut_off_guests.shut_off(request.hosts, snapshots), [])
    if request.kind == "restore":
        planned = plan_restore(request.hosts, constraints, request.left, window=window, spare=request.spare)
        planned = planned._replace(remarks=[*planned.remarks, *left_definitions.remarks(request.hosts, snapshots)])
        return PlanningResult(planned, [], [])
    if request.kind == "upgrade":
        return upgrade_result(request, constraints, window)
    planned = plan_rebalance(
        constraints,
        request.rules,
        hosts=request.hosts,
        weights=request.weights,
        in_cooldown=request.in_cooldown,
        window=window,
        spare=request.spare,
    )
    return PlanningResult(planned, [], [])
