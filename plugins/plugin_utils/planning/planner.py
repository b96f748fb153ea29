# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: turn the options of migration_plan into a plan document.

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Goal, Off, Plan, Wave
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import stated
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Planned
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.forecast_planning import make_with_forecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.input_checks import by_host
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Wave as PlannedWave
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning import exact_solver
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning.plan_arguments import (
    Arguments,
    check_connect,
    constraints_of,
    forecasts_of,
    request_of,
    window_of,
)


class Result(t.NamedTuple):
    """A plan, and for a rolling upgrade the plan of each of its waves."""

    plan: Plan
    waves: list[dict[str, t.Any]]


def make_plan(arguments: Arguments, *, now: datetime.datetime, nonce: str) -> Result:
    """Turn the task's arguments into a plan."""
    if arguments["reserve_mib"] < 0:
        raise plans.PlanError("reserve", f"reserve_mib is {arguments['reserve_mib']}", "give 0 or more")
    run_intent = stated(arguments["intent"], whose="intent")
    snapshots = by_host(arguments["snapshots"])
    check_connect(arguments["connect"])
    window = window_of(arguments, snapshots)
    made = make_with_forecasts(
        request_of(arguments),
        constraints_of(arguments, snapshots, run_intent),
        forecasts_of(arguments, snapshots, window),
        window=window,
        solver=exact_solver.found() if arguments["solver"] == "auto" else None,
    )
    created_at = now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def document(hosts: t.Sequence[str], planned: Planned, off: list[Off], nonce: str, outline: list[Wave]) -> Plan:
        goal: Goal = {"kind": arguments["goal"], "hosts": list(hosts)}
        return plans.build(
            plan_id=plans.new_id(goal, created_at, nonce),
            goal=goal,
            created_at=created_at,
            intent=run_intent,
            snapshots=snapshots,
            connect=arguments["connect"],
            planned=planned,
            off=off,
            waves=outline,
        )

    outline = [_outline(wave) for wave in made.waves]
    whole = document(arguments["hosts"], made.planned, made.off, nonce, outline)
    waves = [
        {
            "hosts": wave.hosts,
            "plan": document(wave.hosts, wave.planned, [], f"{nonce}-{number}", []),
            "seconds": wave.planned.expected["seconds"],
        }
        for number, wave in enumerate(made.waves, 1)
    ]
    return Result(whole, waves)


def _outline(wave: PlannedWave) -> Wave:
    moves = [
        {"guest": step["guest"], "source": step["source"], "destination": step["destination"]}
        for step in wave.planned.placement.steps
    ]
    return {"hosts": wave.hosts, "seconds": wave.planned.expected["seconds"], "moves": moves}
