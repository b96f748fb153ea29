# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""When each step of a plan starts and ends, when all are over, and whether that fits a window.

The steps of a source run in the plan's order, each as soon as those it waits for are over and source, destination and
links have a slot free: what the executor does. Where several run at once they share what they go over, so while a step
fills the link it gets on as much slower as there are others. The bound is what no order could beat: the busiest source,
destination or link with its slots all taken, what it has to carry in all, the longest step, the longest chain of steps
that wait for each other (Graham 1966; for one slot each, open shop by Gonzalez and Sahni, J. ACM 23, 1976).
"""

from __future__ import annotations

import heapq
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds, listed

#: What a move takes apart from sending memory: set-up, switch-over, looking that it went well.
SETUP_S = 2.0
#: Half of what 10 Gbit/s carry: nobody asked the link. Where interfaces say more, the same share of what they do.
USUAL_BYTES_PER_S = 600_000_000
USUAL_SHARE = 0.5


class Job(t.NamedTuple):
    """One step as the schedule sees it.

    Attributes:
        id: of the step.
        guest, source, destination: names.
        seconds: what it takes where ``at_once`` moves share what it goes over.
        after: ids of other jobs.
        links: the shared ones it crosses.
        flow_s: of its seconds, those in which it fills its share; the rest depends on nobody.
        at_once: moves that its seconds were reckoned with, itself among them.
    """

    id: str
    guest: str
    source: str
    destination: str
    seconds: float
    after: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    flow_s: float = 0.0
    at_once: int = 1

    def slowed(self, sharing: int) -> float:
        """Its seconds where so many moves share what it goes over, itself among them."""
        return self.seconds + self.flow_s * (sharing / self.at_once - 1)


class Slots(t.NamedTuple):
    """How many moves may run at once: from a host, to a host, over a link."""

    per_source: int = 1
    per_destination: int = 1
    per_link: t.Mapping[str, int] = {}

    def at_once(self, *, leaving: int, senders: int, receivers: int, links: t.Iterable[str] = ()) -> int:
        """The most moves that may share what one of them goes over, itself among them.

        Args:
            leaving: guests that may leave its source.
            senders: hosts that guests leave.
            receivers: hosts that they go to.
            links: the shared ones that it crosses.
        """
        everyone = min(self.per_source * max(1, senders), self.per_destination * max(1, receivers))
        each = min(self.per_source, max(1, leaving), everyone)
        others = [self.per_destination, *(self.per_link[link] for link in links if link in self.per_link)]
        return max(each, *(min(most, everyone) for most in others))


ONE_AT_A_TIME = Slots()
#: What ends within such a share of the same time ends together.
ROUNDING = 1e-9


class Timing(t.NamedTuple):
    start_s: float
    end_s: float


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


class Verdict(t.NamedTuple):
    """Does it fit? ``code`` is fits, fits_without (these guests) or does_not_fit; ``reason`` says it in a sentence."""

    code: str
    without: tuple[str, ...]
    reason: str


def plain_seconds(move_bytes: int, bytes_per_s: float | None = None) -> float:
    """What a move takes when nobody forecast it: memory over bandwidth, and set-up. No more than a guess.

    >>> plain_seconds(6_000_000_000), plain_seconds(6_000_000_000, 100e6)
    (12.0, 62.0)
    """
    return move_bytes / (bytes_per_s or USUAL_BYTES_PER_S) + SETUP_S


def schedule(jobs: t.Sequence[Job], slots: Slots = ONE_AT_A_TIME) -> Schedule:
    """Play the jobs through. Those that wait for a job that is not among them do not wait for it."""
    steps = (_SharedSimulation if _do_share(jobs, slots) else _Simulation)(jobs, slots).run()
    total = max((timing.end_s for timing in steps.values()), default=0.0)
    bound, why = lower_bound(jobs, slots)
    return Schedule(steps, total, bound, why, total / bound - 1 if bound > 0 else 0.0)


def verdict(jobs: t.Sequence[Job], window_s: float, slots: Slots = ONE_AT_A_TIME) -> Verdict:
    """Hold a plan against the time there is for it.

    What is left out, if that makes it fit, is as few guests as a search from the longest on finds; guests that others
    wait for are left out with these. More than half of the guests is no answer.
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


def lower_bound(jobs: t.Sequence[Job], slots: Slots = ONE_AT_A_TIME) -> tuple[float, str]:
    """Seconds that no order can beat, and why."""
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
    """The longest chain of steps that wait for each other."""
    ends: dict[str, float] = {}
    for job in _in_order(jobs):
        ends[job.id] = job.slowed(1) + max((ends.get(other, 0.0) for other in job.after), default=0.0)
    return max(ends.values(), default=0.0)


def _in_order(jobs: t.Sequence[Job]) -> list[Job]:
    """Each after those it waits for. Plans are written so; a plan edited by hand may not be."""
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


def _do_share(jobs: t.Sequence[Job], slots: Slots) -> bool:
    """Whether any of them may share something with another one."""
    most = max([slots.per_source, slots.per_destination, *slots.per_link.values()])
    return most > 1 and any(job.flow_s > 0 for job in jobs)


class _Simulation:
    """What the executor will do, on a clock of its own. Of jobs that could start, the first in the plan does."""

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
        """Who may be able to start where nothing runs; nobody at the end."""
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
        """Free what a job used; return the sources that may be able to start another."""
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


class _SharedSimulation(_Simulation):
    """The same where jobs share sources, destinations or links: each gets on the slower the more there are on the
    busiest of those that it goes over.
    """

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


def _left_out(jobs: t.Sequence[Job], window_s: float, slots: Slots) -> set[str]:
    """Ids to leave out so that the rest fits: the longest first, then back in what fits after all."""
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
    """Of the host that is late the longest: the step that overruns least is enough, if one is."""
    late = {job.source for job in jobs if whole.steps[job.id].end_s > window_s}
    over = whole.total_s - window_s
    near = [job for job in jobs if job.source in late] or list(jobs)
    enough = [job for job in near if job.seconds >= over]
    if enough:
        return min(enough, key=lambda job: (job.seconds, job.id))
    return max(near, key=lambda job: (job.seconds, job.id))


def _with_dependants(job: Job, jobs: t.Sequence[Job]) -> set[str]:
    """The step, every step that waits for it, and all steps of the guests of these: a guest moves whole or not."""
    out = {job.id}
    while True:
        guests = {other.guest for other in jobs if other.id in out}
        more = {other.id for other in jobs if other.guest in guests or not out.isdisjoint(other.after)} | out
        if more == out:
            return out
        out = more
