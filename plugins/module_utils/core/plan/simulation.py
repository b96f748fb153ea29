# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Play the steps of a plan through as the executor will carry them out, on a clock of its own."""

from __future__ import annotations

import heapq
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import ROUNDING, Job, Slots, Timing


def any_shared(jobs: t.Sequence[Job], slots: Slots) -> bool:
    """Return whether any of the jobs may share something with another one."""
    most = max([slots.per_source, slots.per_destination, *slots.per_link.values()])
    return most > 1 and any(job.flow_s > 0 for job in jobs)


class Simulation:
    """What the executor will do, on its own clock. Of the jobs that can start, the first in the plan starts."""

    def __init__(self, jobs: t.Sequence[Job], slots: Slots) -> None:
        self.slots = slots
        self.place = {job.id: number for number, job in enumerate(jobs)}
        self.blocked = {job.id: {other for other in job.after if other in self.place} for job in jobs}
        self.queues: dict[str, list[Job]] = {}
        #: who may be able to start once something else has ended: by what it waits for
        self.woken_by: dict[tuple[str, str], set[str]] = {}
        self.freed_by: dict[str, list[Job]] = {}
        for job in jobs:
            self.queues.setdefault(job.source, []).append(job)
            for key, dummy in self._needs(job):
                self.woken_by.setdefault(key, set()).add(job.source)
            for other in self.blocked[job.id]:
                self.freed_by.setdefault(other, []).append(job)
        self.used: dict[tuple[str, str], int] = {}
        self.steps: dict[str, Timing] = {}

    def run(self) -> dict[str, Timing]:
        running: list[tuple[float, int, Job]] = []
        now, awake = 0.0, set(self.queues)
        while True:
            for job in self._startable(awake):
                heapq.heappush(running, (now + job.seconds, self.place[job.id], job))
                self.steps[job.id] = Timing(now, now + job.seconds)
            awake = set()
            if not running:
                awake = self._break_cycle()
                if not awake:
                    return self.steps
                continue
            now = running[0][0]
            while running and running[0][0] <= now:
                awake |= self._end(heapq.heappop(running)[2])

    def _break_cycle(self) -> set[str]:
        """Return the sources that may start where nothing runs: break a cycle of waiting jobs; none at the end."""
        rest = [job for queue in self.queues.values() for job in queue]
        if not rest:
            return set()
        # Steps that wait for each other in a ring, which only a plan edited by hand has: let the first go.
        first = min(rest, key=lambda job: self.place[job.id])
        self.blocked[first.id].clear()
        return {first.source}

    def _startable(self, awake: t.Collection[str]) -> list[Job]:
        started = []
        able = [job for source in awake for job in self.queues.get(source, ()) if not self.blocked[job.id]]
        for job in sorted(able, key=lambda job: self.place[job.id]):
            needs = self._needs(job)
            if all(self.used.get(key, 0) < most for key, most in needs):
                for key, dummy in needs:
                    self.used[key] = self.used.get(key, 0) + 1
                self.queues[job.source].remove(job)
                started.append(job)
        return started

    def _end(self, job: Job) -> set[str]:
        """Free the slots of a job. Return the sources that may be able to start another one."""
        awake = {job.source}
        for key, dummy in self._needs(job):
            self.used[key] -= 1
            awake |= self.woken_by[key]
        for other in self.freed_by.get(job.id, ()):
            self.blocked[other.id].discard(job.id)
            awake.add(other.source)
        return awake

    def _needs(self, job: Job) -> list[tuple[tuple[str, str], int]]:
        per_link = self.slots.per_link
        return [
            (("from", job.source), self.slots.per_source),
            (("to", job.destination), self.slots.per_destination),
            *((("over", link), per_link[link]) for link in job.links if link in per_link),
        ]


class SharedSimulation(Simulation):
    """The same where jobs share sources, destinations or links: the more share the busiest one, the slower each is."""

    def run(self) -> dict[str, Timing]:
        #: what is left of each job, as a share of it
        left: dict[str, float] = {}
        jobs: dict[str, Job] = {}
        now, awake = 0.0, set(self.queues)
        while True:
            for job in self._startable(awake):
                jobs[job.id], left[job.id] = job, 1.0
                self.steps[job.id] = Timing(now, now)
            awake = set()
            if not left:
                awake = self._break_cycle()
                if not awake:
                    return self.steps
                continue
            takes = {name: jobs[name].slowed(self._sharing(jobs[name])) for name in left}
            next_s = min(left[name] * takes[name] for name in left)
            now += next_s
            over = [name for name in left if left[name] * takes[name] <= next_s * (1 + ROUNDING)]
            left = {name: left[name] - next_s / takes[name] for name in left if name not in over}
            for name in over:
                self.steps[name] = Timing(self.steps[name].start_s, now)
                awake |= self._end(jobs[name])

    def _sharing(self, job: Job) -> int:
        return max(self.used[key] for key, dummy in self._needs(job))
