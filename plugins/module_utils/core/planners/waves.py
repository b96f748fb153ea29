# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A rolling upgrade as plans: one for each wave, and one for the whole."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import left_definitions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Planned, Window, expectation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import shut_off_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import PlanningResult, Request, Wave
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.upgrade import Upgrade, plan_upgrade
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds


def upgrade_result(request: Request, constraints: Constraints, window: Window) -> PlanningResult:
    """Return all waves, each as a plan. The whole has the steps of the first wave and the stays of all."""
    ordered = plan_upgrade(request.hosts, constraints, at_once=request.at_once, window=window, spare=request.spare)
    if ordered.n_plus_one_remarks and request.spare == "require":
        raise PlanError(**ordered.n_plus_one_remarks[0])
    any_time = window._replace(window_s=None)
    waves = [
        Wave(
            wave.hosts,
            Planned(Placement(wave.steps, wave.stays), expectation(wave.steps, constraints.expected, any_time), [], {}),
        )
        for wave in ordered.waves
    ]
    figures = {
        "moves": ordered.moves,
        "guests": ordered.guests,
        "moves_per_guest": round(ordered.moves_per_guest, 4),
        "seconds": round(ordered.seconds, 1),
    }
    stays = [stay for wave in ordered.waves for stay in wave.stays]
    first = waves[0].planned
    left = left_definitions.remarks(request.hosts, constraints.snapshots)
    remarks = [*ordered.n_plus_one_remarks, *_too_long(ordered, window), *left]
    planned = Planned(Placement(first.placement.steps, stays), first.expected, remarks, figures)
    return PlanningResult(planned, shut_off_guests.shut_off(request.hosts, constraints.snapshots), waves)


def _too_long(ordered: Upgrade, window: Window) -> list[Refusal]:
    """Return a remark if the moves alone take longer than the window. Upgrades and reboots are not forecast."""
    if window.window_s is None or ordered.seconds <= window.window_s:
        return []
    return [
        refusal(
            "does_not_fit",
            f"the moves alone take {human_seconds(ordered.seconds)} of {human_seconds(window.window_s)}",
            "upgrade fewer hosts in this window; the next run continues where this one ends",
        )
    ]
