# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: makes libvirt's call that migrates a guest. Obeys the decision and the control.

from __future__ import annotations

import contextlib
import queue
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.observation import Observation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.events import Event, EventStream
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.control_loop import ControlLoop, Watcher
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.disk_counter import DiskCounter
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding

#: Without events the statistics are read this often.
POLL_S = 0.25
#: After an abort libvirt has to end the call: measured 0.3 s. After this long both sides are asked without its end.
ABORT_TIMEOUT_S = 60.0
#: The final statistics do not come with the call's answer. They may come a moment later.
LATE_STATISTICS_S = 1.0


class MigrationJob:
    """One guest's migration from this host to another.

    Args:
        domain: the guest's ``virDomain`` here.
        connect_uri: the destination's URI for the source's libvirtd.
        decision: how to move it.
        source_events, destination_events: event streams of both connections.
        clock: monotonic seconds.
        before: done right before libvirt is called; where it raises, libvirt is not called.
    """

    def __init__(
        self,
        domain: t.Any,
        connect_uri: str,
        decision: Decision,
        source_events: EventStream,
        destination_events: EventStream,
        clock: t.Callable[[], float] = time.monotonic,
        before: t.Callable[[], None] = lambda: None,
    ) -> None:
        self._domain = domain
        self._uuid = domain.UUIDString()
        self._connect_uri = connect_uri
        self._decision = decision
        self.source_events = source_events
        #: The events of the destination, and above those of the source, from the start.
        self.destination_events = destination_events
        self._clock = clock
        self._before = before
        # One queue for all that may wake the loop: events are handled at once and in their order.
        self._inbox: queue.SimpleQueue[tuple[str, Event | None]] = queue.SimpleQueue()
        self._ending = MigrationEnding()
        self._transferred = False
        self._control_loop: ControlLoop | None = None
        #: What its samples teach, so far.
        self.observation = Observation()

    def run(self, control: Control, watcher: Watcher, interrupted: threading.Event) -> MigrationEnding:
        """Move the guest; returns how the call ended. What became of the guest, both sides must say.

        Args:
            control: decides in flight.
            watcher: is told what happens.
            interrupted: when set, the job is aborted (unless post-copy has begun: then that would lose the guest).
        """
        started, decision = self._clock(), self._decision
        disks = DiskCounter(self._domain.name(), decision.copy_bytes, decision.copy_capacity_bytes)
        control_loop = ControlLoop(
            lambda: self._domain, control, watcher, interrupted, started, self._clock, disks=disks
        )
        self.observation = control_loop.observation
        self._control_loop = control_loop
        thread = threading.Thread(target=self._call, name=f"migrate-{self._uuid}", daemon=True)
        limited = self._downtime_limit(decision.downtime_ms)
        with disks, self._listening(), limited, self._rate_given_back(control_loop):
            thread.start()
            self._watch(thread, control_loop, watcher)
            ended = self._clock()
            self._ending.elapsed_s = ended - started
            self._drain_inbox(watcher)
            if self._ending.error is None and not self._ending.statistics:
                self._await_statistics(watcher)
        ending = self._ending
        resumed_at = ending.switchover.resumed_at
        ending.after_s = None if resumed_at is None else max(0.0, ended - resumed_at)
        ending.observation = self.observation
        ending.abort_reaction, ending.suspended = control_loop.abort_reaction, control_loop.suspended
        ending.maybe_postcopy = control_loop.maybe_postcopy or ending.postcopy
        ending.memory_bytes, ending.disk_bytes = control_loop.memory_bytes, control_loop.disk_bytes
        return ending

    def stands_still(self) -> bool:
        """Whether the guest is stopped for the end of its pre-copy, or the migration for its abort."""
        control_loop, ending = self._control_loop, self._ending
        if control_loop is None or ending.postcopy or control_loop.maybe_postcopy:
            return False
        return ending.handed_over or control_loop.suspended or control_loop.abort_wanted_at is not None

    @contextlib.contextmanager
    def _listening(self) -> t.Iterator[None]:
        def here(event: Event) -> None:
            self._inbox.put(("source", event))

        def there(event: Event) -> None:
            self._inbox.put(("destination", event))

        self.source_events.listen(self._uuid, here)
        self.destination_events.listen(self._uuid, there)
        try:
            yield
        finally:
            self.source_events.forget(self._uuid, here)
            self.destination_events.forget(self._uuid, there)

    @contextlib.contextmanager
    def _downtime_limit(self, limit_ms: int) -> t.Iterator[None]:
        """Set QEMU's downtime limit, and restore the old one at the end: it would hold for the guest's next move."""
        before = self._domain.migrateGetMaxDowntime(0)
        self._domain.migrateSetMaxDowntime(limit_ms, 0)
        try:
            yield
        finally:
            # The limit of a guest that has left cannot be set, and need not be.
            with contextlib.suppress(virt.libvirt.libvirtError):
                self._domain.migrateSetMaxDowntime(before, 0)

    @contextlib.contextmanager
    def _rate_given_back(self, control_loop: ControlLoop) -> t.Iterator[None]:
        """Restore a rate that was changed in flight at the end: it would hold for the guest's next move."""
        try:
            yield
        finally:
            if control_loop.speed_before is not None:
                with contextlib.suppress(virt.libvirt.libvirtError):
                    self._domain.migrateSetMaxSpeed(control_loop.speed_before, 0)

    def _call(self) -> None:
        try:
            flags = 0
            for name in self._decision.flags:
                flags |= getattr(virt.libvirt, "VIR_MIGRATE_" + name)
            self._before()
            self._domain.migrateToURI3(self._connect_uri, dict(self._decision.parameters), flags)
        except virt.libvirt.libvirtError as error:
            self._ending.error = str(error)
            self._ending.error_code = error.get_error_code()
        except virt.VirtError as error:
            self._ending.error = str(error)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            # A flag or parameter that this binding does not know. Without an error the call would count as a success.
            self._ending.error = f"{type(error).__name__}: {error}"
        finally:
            self._inbox.put(("call", None))

    def _watch(self, thread: threading.Thread, control_loop: ControlLoop, watcher: Watcher) -> None:
        while thread.is_alive():
            if self._next_is_end(watcher):
                thread.join(POLL_S)
                continue
            control_loop.maybe_postcopy = control_loop.maybe_postcopy or self._ending.postcopy
            control_loop.run_once()
            if control_loop.is_left:
                self._ending.error = self._ending.error or "libvirt did not end the post-copy"
                return
            aborted_at = control_loop.abort_wanted_at
            if aborted_at is not None and self._clock() >= aborted_at + ABORT_TIMEOUT_S:
                self._ending.error = self._ending.error or "libvirt did not end the migration that was aborted"
                return

    def _next_is_end(self, watcher: Watcher) -> bool:
        """Wait for the next event or the next poll; true when the call has ended."""
        try:
            side, event = self._inbox.get(timeout=POLL_S)
        except queue.Empty:
            return False
        self._note(side, event, watcher)
        return side == "call"

    def _drain_inbox(self, watcher: Watcher) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                side, event = self._inbox.get_nowait()
                self._note(side, event, watcher)

    def _note(self, side: str, event: Event | None, watcher: Watcher) -> None:
        if event is None:
            return
        if event.kind == "iteration":
            self._ending.iterations = max(self._ending.iterations, event.event)
        elif event.kind == "completed" and side == "source":
            self._ending.statistics = event.statistics
        elif event.kind == "lifecycle":
            self._note_lifecycle(side, event, watcher)

    def _note_lifecycle(self, side: str, event: Event, watcher: Watcher) -> None:
        libvirt = virt.libvirt
        switchover = self._ending.switchover
        self._ending.reached = self._ending.reached or side == "destination"
        if side == "source" and event.event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
            if switchover.stopped_at is None:
                switchover.stopped_at = event.at
            by_migration = (libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY)
            # First: another thread ends a connection that is dead, but never in post-copy.
            if event.detail == libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY:
                self._ending.postcopy = True
            self._ending.handed_over = self._ending.handed_over or event.detail in by_migration
        elif side == "destination" and event.event == libvirt.VIR_DOMAIN_EVENT_RESUMED:
            if switchover.resumed_at is None:
                switchover.resumed_at = event.at
            # During post-copy memory is still transferred. Only its end frees the link.
            midway = (libvirt.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY, libvirt.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED)
            if event.detail not in midway and not self._transferred:
                self._transferred = True
                watcher.transferred()

    def _await_statistics(self, watcher: Watcher) -> None:
        self._ending.statistics = self._completed_statistics()
        end = self._clock() + LATE_STATISTICS_S
        while not self._ending.statistics and self._clock() < end:
            self._next_is_end(watcher)

    def _completed_statistics(self) -> dict[str, t.Any]:
        libvirt = virt.libvirt
        flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
        with contextlib.suppress(libvirt.libvirtError):
            job = dict(self._domain.jobStats(flags))
            # A host without statistics answers with a type only.
            return job if "memory_processed" in job else {}
        return {}
