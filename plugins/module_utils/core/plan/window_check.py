# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Does a plan fit into the time that there is for it? If not: which guests must be left out?"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import ONE_AT_A_TIME, Job, Slots
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.schedule import Schedule, schedule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds, listed


class Verdict(t.NamedTuple):
    """Does the plan fit? ``code`` is fits, fits_without (these guests) or does_not_fit. ``reason`` is a sentence."""

    code: str
    without: tuple[str, ...]
    reason: str


def verdict(jobs: t.Sequence[Job], window_s: float, slots: Slots = ONE_AT_A_TIME) -> Verdict:
    """Compare a plan with the time that there is for it.

    If it does not fit, guests are left out, the longest first, until the rest fits; guests that others wait for are
    left out with these. If more than half of the guests must be left out, the plan does not fit.
    """
    whole = schedule(jobs, slots)
    took, has = human_seconds(whole.total_s), human_seconds(window_s)
    if whole.total_s <= window_s:
        return Verdict("fits", (), f"it takes {took} of the {has} available")
    out = _left_out(jobs, window_s, slots)
    guests = tuple(sorted({job.guest for job in jobs if job.id in out}))
    everyone = len({job.guest for job in jobs})
    if out and len(guests) * 2 <= everyone:
        rest = schedule([job for job in jobs if job.id not in out], slots).total_s
        reason = (
            f"it takes {took} and {has} are available; without {listed(list(guests))} it takes {human_seconds(rest)}"
        )
        return Verdict("fits_without", guests, reason)
    why = f"{whole.bound_why}, and {has} are available"
    if whole.bound_s <= window_s:
        why = f"it takes {took} and {has} are available; {whole.bound_why} at the least"
    return Verdict("does_not_fit", guests, why)


def _left_out(jobs: t.Sequence[Job], window_s: float, slots: Slots) -> set[str]:
    """Return the ids to leave out so that the rest fits: the longest first, then those that fit after all come back."""
    out: set[str] = set()
    while True:
        rest = [job for job in jobs if job.id not in out]
        whole = schedule(rest, slots)
        if not rest or whole.total_s <= window_s:
            break
        out |= _with_dependants(_worst(rest, whole, window_s), jobs)
    for job in sorted(jobs, key=lambda job: (job.seconds, job.id)):
        if job.id not in out or not set(job.after).isdisjoint(out):
            continue
        if schedule([other for other in jobs if other.id not in out or other.id == job.id], slots).total_s <= window_s:
            out.discard(job.id)
    return out


def _worst(jobs: t.Sequence[Job], whole: Schedule, window_s: float) -> Job:
    """Return the step to leave out next, on the hosts that are late."""
    late = {job.source for job in jobs if whole.steps[job.id].end_s > window_s}
    over = whole.total_s - window_s
    near = [job for job in jobs if job.source in late] or list(jobs)
    enough = [job for job in near if job.seconds >= over]
    if enough:
        return min(enough, key=lambda job: (job.seconds, job.id))
    return max(near, key=lambda job: (job.seconds, job.id))


def _with_dependants(job: Job, jobs: t.Sequence[Job]) -> set[str]:
    """Return the step, all steps that wait for it, and all steps of their guests."""
    out = {job.id}
    while True:
        guests = {other.guest for other in jobs if other.id in out}
        more = {other.id for other in jobs if other.guest in guests or not out.isdisjoint(other.after)} | out
        if more == out:
            return out
        out = more
