# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Compute when each step of a plan starts and ends, and how far the plan is above the lower bound.

The steps of a source run in the plan's order. A step starts when the steps that it waits for have ended, and when its
source, its destination and its links each have a free slot. The executor does the same. Steps that run at the same time
share links: a step that fills a link takes longer, the more other steps use that link.

No order of steps is faster than the lower bound. The bound is the largest of: the busiest source, destination or link
with all its slots in use; the bytes that it carries; the longest step; the longest chain of steps that wait for each
other (Graham 1966; with one slot each, open shop by Gonzalez and Sahni, J. ACM 23, 1976).
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import ONE_AT_A_TIME, Job, Slots, Timing
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.simulation import (
    SharedSimulation,
    Simulation,
    any_shared,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds


class Schedule(t.NamedTuple):
    """When what happens.

    Attributes:
        steps: start and end of each step, in seconds from the start of the plan.
        total_s: end of the last.
        bound_s: no order takes less.
        bound_why: what that is, as a sentence.
        distance: how far the total is above the bound (0.05: 5 %).
    """

    steps: dict[str, Timing]
    total_s: float
    bound_s: float
    bound_why: str
    distance: float


def schedule(jobs: t.Sequence[Job], slots: Slots = ONE_AT_A_TIME) -> Schedule:
    """Play the jobs through. A job does not wait for a job that is not in the list."""
    steps = (SharedSimulation if any_shared(jobs, slots) else Simulation)(jobs, slots).run()
    total = max((timing.end_s for timing in steps.values()), default=0.0)
    bound, why = lower_bound(jobs, slots)
    return Schedule(steps, total, bound, why, total / bound - 1 if bound > 0 else 0.0)


def lower_bound(jobs: t.Sequence[Job], slots: Slots = ONE_AT_A_TIME) -> tuple[float, str]:
    """Return the seconds that no order can beat, and why."""
    busy: dict[tuple[str, str], float] = {}
    carried: dict[tuple[str, str], float] = {}
    for job in jobs:
        for key in (("from", job.source), ("to", job.destination), *(("over", link) for link in job.links)):
            busy[key] = busy.get(key, 0.0) + job.slowed(1)
            carried[key] = carried.get(key, 0.0) + job.flow_s / job.at_once
    width = {"from": slots.per_source, "to": slots.per_destination}
    found = []
    for (way, name), seconds in busy.items():
        limited = way != "over" or name in slots.per_link
        least = seconds / width.get(way, slots.per_link.get(name, len(jobs)))
        found.append((max(least, carried[way, name] if limited else 0.0), f"the moves {way} {name} take"))
    found += [(job.slowed(1), f"{job.guest} alone takes") for job in jobs]
    found += [(_chain(jobs), "steps that wait for each other take")]
    seconds, what = max(found, key=lambda item: item[0])
    return seconds, f"{what} {human_seconds(seconds)}"


def _chain(jobs: t.Sequence[Job]) -> float:
    """Return the seconds of the longest chain of steps that wait for each other."""
    ends: dict[str, float] = {}
    for job in _in_order(jobs):
        ends[job.id] = job.slowed(1) + max((ends.get(other, 0.0) for other in job.after), default=0.0)
    return max(ends.values(), default=0.0)


def _in_order(jobs: t.Sequence[Job]) -> list[Job]:
    """Sort jobs after those that they wait for. A plan that was edited by hand may have another order."""
    waiting = {job.id: set(job.after) for job in jobs}
    known = set(waiting)
    done: set[str] = set()
    ordered: list[Job] = []
    rest = list(jobs)
    while rest:
        now = [job for job in rest if (waiting[job.id] & known) <= done] or rest
        ordered += now
        done.update(job.id for job in now)
        rest = [job for job in rest if job.id not in done]
    return ordered
