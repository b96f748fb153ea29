# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reads a migration's statistics, asks the control, and carries out its reactions. The call
# that migrates may be one of this process, or of a run that died.

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.observation import Observation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    NotAskedError,
    SerialCalls,
    UnansweredError,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.disk_counter import DiskCounter

#: When libvirt has refused a reaction, the next one comes after this long, counted from when libvirt was asked.
TRY_AGAIN_S = 5.0
#: Statistics come within milliseconds, unless the guest's QEMU hangs.
ANSWER_S = 2.0
#: A change waits for other calls on the guest. libvirt itself refuses it after 30 s.
DONE_S = 35.0


class Watcher(t.Protocol):
    """Who is told what happens during a migration."""

    def sampled(self, sample: Sample, total_bytes: int) -> None:
        """New statistics."""

    def reacted(self, reaction: Reaction) -> None:
        """A reaction of the control, before it is carried out."""

    def transferred(self) -> None:
        """The guest's memory is transferred. The link is free for the next guest."""


def sample_of(statistics: t.Mapping[str, t.Any], at_s: float, disk_sent_bytes: int = 0) -> Sample:
    """libvirt's job statistics as the control takes them.

    Args:
        statistics: the job's.
        at_s: seconds since it was started.
        disk_sent_bytes: what was sent of its disks.
    """
    # Once memory is sent, libvirt looks at disks no more: the figure is that of an earlier moment.
    disks_left = 0 if statistics.get("memory_processed", 0) else int(statistics.get("disk_remaining", 0))
    return Sample(
        at_s=at_s,
        iteration=int(statistics.get("memory_iteration", 0)),
        remaining_bytes=int(statistics.get("memory_remaining", 0)),
        processed_bytes=int(statistics.get("memory_processed", 0)),
        bytes_per_s=int(statistics.get("memory_bps", 0)),
        disk_remaining_bytes=disks_left,
        delta_pages=int(statistics.get("compression_pages", 0)),
        whole_pages=int(statistics.get("compression_overflow", 0)) + int(statistics.get("compression_cache_misses", 0)),
        disk_total_bytes=int(statistics.get("disk_total", 0)),
        disk_sent_bytes=disk_sent_bytes,
    )


class ControlLoop:
    """Controls one migration. Each call of L(run_once) is one turn.

    Args:
        find: gives the guest's ``virDomain`` at the source; raises libvirtError or VirtError when it cannot.
        control: decides.
        watcher: is told.
        interrupted: when set, the migration is aborted, unless post-copy has begun.
        clock: monotonic seconds.
        started: when the migration began, on that clock.
        disks: counts what is sent of disks; None where only libvirt's own figure is known, which counts holes as well.

    Attributes:
        abort_reaction: the reaction that aborted it, once libvirt has taken that, or may have; or that left it to
            itself.
        abort_wanted_at: when that was. While libvirt refuses the abort: when it was first wanted. None: it is not.
        speed_before: the guest's cap on its rate in MiB/s before the first change, which would hold for its next move;
            None when nothing was changed.
        downtime_before: its limit on the downtime in milliseconds before the first change, in the same way.
        suspended: whether the guest was stopped so that the migration can finish.
        maybe_postcopy: whether post-copy has begun, or may have. From then on an abort would lose the guest.
        memory_bytes, disk_bytes: the last figures seen of what was sent.
        observation: what the samples teach for the next move.
    """

    def __init__(
        self,
        find: t.Callable[[], t.Any],
        control: Control,
        watcher: Watcher,
        interrupted: threading.Event,
        started: float,
        clock: t.Callable[[], float] = time.monotonic,
        disks: DiskCounter | None = None,
    ) -> None:
        self._find = find
        self._control = control
        self._watcher = watcher
        self._interrupted = interrupted
        self._started = started
        self._clock = clock
        self._disks = disks
        self._last = Sample(0.0, 0, 0, 0, 0)
        self._told_s = 0.0
        self._not_before = 0.0
        #: One call of each kind may hang. So no other call keeps an abort from being asked for.
        self._figures, self._changes, self._abort = SerialCalls(), SerialCalls(), SerialCalls()
        self.abort_reaction: Reaction | None = None
        self.abort_wanted_at: float | None = None
        self.speed_before: int | None = None
        self.downtime_before: int | None = None
        self.suspended = False
        self.maybe_postcopy = False
        self.memory_bytes = 0
        self.disk_bytes = 0
        self.observation = Observation()

    @property
    def is_ending(self) -> bool:
        """Whether somebody wants it to end. Then it is not awaited as long as it lasts."""
        if self.is_left:
            return True
        wanted = self.abort_reaction is not None or self.abort_wanted_at is not None
        return not self.maybe_postcopy and (wanted or self._interrupted.is_set())

    @property
    def is_left(self) -> bool:
        """Whether it is left to itself, as it does not end and cannot be aborted."""
        return self.abort_reaction is not None and self.abort_reaction.action == "leave"

    def run_once(self) -> None:
        """Read the statistics and react to them. A deadline holds also where there are no statistics."""
        sample, total = self._sample()
        if sample:
            # A late answer has an old time. The control must not see time go backwards.
            sample = dataclasses.replace(sample, at_s=max(sample.at_s, self._told_s))
            self._last = sample
            self.observation.add(sample)
            self._watcher.sampled(sample, total)
        else:
            sample = dataclasses.replace(self._last, at_s=self._clock() - self._started)
        self._told_s = sample.at_s
        reaction = self._reaction(sample)
        if reaction:
            self._watcher.reacted(reaction)
            self._carry_out(reaction)

    def _sample(self) -> tuple[Sample | None, int]:
        try:
            job, at = self._figures.within(ANSWER_S, lambda: (self._find().jobStats(0), self._clock()), any_answer=True)
        except (virt.libvirt.libvirtError, virt.VirtError, UnansweredError, NotAskedError):
            # The guest has just left, or the daemon has ended, or QEMU hangs. Both sides will say which.
            return None, 0
        if job.get("type") != virt.libvirt.VIR_DOMAIN_JOB_UNBOUNDED:
            return None, 0
        self.memory_bytes = max(self.memory_bytes, int(job.get("memory_processed", 0)))
        disk_bytes = self._disks.look(job) if self._disks else int(job.get("disk_processed", 0))
        self.disk_bytes = max(self.disk_bytes, disk_bytes)
        return sample_of(job, at - self._started, self.disk_bytes), int(job.get("memory_total", 0))

    def _reaction(self, sample: Sample) -> Reaction | None:
        if self.abort_reaction or self._clock() < self._not_before:
            return None
        if self._interrupted.is_set() and not self.maybe_postcopy:
            return Reaction("abort", "interrupted", code="interrupted", remedy="start it again when you are ready")
        reaction = self._control.react(sample)
        if reaction and reaction.action == "abort" and self.maybe_postcopy:
            return None
        return reaction

    def _carry_out(self, reaction: Reaction) -> None:
        if reaction.action == "leave":
            self.abort_reaction = reaction
            return
        asked_at, before = self._clock(), (self.maybe_postcopy, self.suspended)
        # QEMU may switch long before an event says so. An abort in between would lose the guest.
        self.maybe_postcopy = self.maybe_postcopy or reaction.action == "start_postcopy"
        self.suspended = self.suspended or reaction.action == "suspend"
        aborts = reaction.action == "abort"
        if aborts and self.abort_wanted_at is None:
            self.abort_wanted_at = asked_at
        try:
            # Without an answer nobody knows whether it was done. What follows must be right in both cases.
            with contextlib.suppress(UnansweredError):
                (self._abort if aborts else self._changes).within(DONE_S, lambda: self._do(reaction))
        except (virt.libvirt.libvirtError, virt.VirtError, NotAskedError):
            # Most often the migration has just ended, and the call says how. Otherwise, such as for post-copy that was
            # asked for too early, the control may want it again.
            self.maybe_postcopy, self.suspended = before
            self._not_before = asked_at + TRY_AGAIN_S
            self._control.not_done(reaction)
            return
        if aborts:
            self.abort_reaction, self.abort_wanted_at = reaction, asked_at

    def _do(self, reaction: Reaction) -> None:
        domain = self._find()
        if reaction.action == "raise_downtime":
            if self.downtime_before is None:
                self.downtime_before = domain.migrateGetMaxDowntime(0)
            domain.migrateSetMaxDowntime(reaction.downtime_ms, 0)
        elif reaction.action == "change_speed":
            if self.speed_before is None:
                self.speed_before = domain.migrateGetMaxSpeed(0)
            domain.migrateSetMaxSpeed(reaction.speed_mib_s, 0)
        elif reaction.action == "start_postcopy":
            domain.migrateStartPostCopy(0)
        elif reaction.action == "suspend":
            domain.suspend()
        elif reaction.action == "abort":
            domain.abortJob()
