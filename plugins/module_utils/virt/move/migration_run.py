# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one call of libvirt's that sends a guest, and what both sides say of it afterwards.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, Verdict
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.resume_check import DestinationEvidence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.run import split_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import dead_connection, send_buffer
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.control_loop import Watcher
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import LinkSignals
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.attempt import Attempt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.verification import Verification

#: Verdicts after which this host may still hold a half of the guest.
STAYS_SPLIT = ("unclear", "in_flight", "lost")


class _Marking:
    """A watcher that also marks the host before the guest is split between two hosts.

    Args:
        watcher: is told all.
        mark: marks the host.
    """

    def __init__(self, watcher: Watcher, mark: t.Callable[[], None]) -> None:
        self._watcher = watcher
        self._mark = mark
        self.sampled = watcher.sampled
        self.transferred = watcher.transferred

    def reacted(self, reaction: Reaction) -> None:
        """A reaction of the control, before it is carried out."""
        if reaction.action == "start_postcopy":
            self._mark()
        self._watcher.reacted(reaction)


class MigrationRun:
    """Makes the call of an attempt, and verifies it.

    Args:
        context: of the run.
        verification: judges by both sides.
    """

    def __init__(self, context: MoveContext, verification: Verification) -> None:
        self._context = context
        self._verification = verification

    def run(self, attempt: Attempt) -> tuple[Verdict, Side, Side, MigrationEnding]:
        """Send the guest; returns what both sides say of it, and how the call ended."""
        move, job, control = attempt.move, attempt.job, attempt.control()

        def nearly_transferred() -> None:
            attempt.calibrate_set_up(self._context.settings)
            move.signals.nearly_transferred()

        def transferred() -> None:
            sending.end()
            move.signals.transferred()

        others = self._others_come_in(move.step)
        with self._context.sending.sending() as sending:
            watcher = _Marking(move.log.watcher(LinkSignals(transferred, nearly_transferred)), lambda: self._mark(move))
            guest = move.step["guest"]["name"]
            limited = send_buffer.limited_send_buffer(guest, attempt.appraised.unsent_limit, move.log.note)
            not_dead = dead_connection.ended_when_dead(guest, job.stands_still, move.log.connection_ended)
            try:
                with limited, not_dead:
                    ending = job.run(control, watcher, self._context.interrupted)
            except virt.libvirt.libvirtError as error:
                # It did not start. Both sides will say so.
                ending = MigrationEnding(error=str(error), error_code=error.get_error_code())
        ending.shared_link = sending.shared_link or others
        move.log.ended(ending)
        control_loop = self._verification.control_loop(move, control, ending.elapsed_s)
        control_loop.maybe_postcopy, control_loop.abort_reaction = ending.maybe_postcopy, ending.abort_reaction
        evidence = DestinationEvidence(
            ending.reached,
            ran=ending.switchover.resumed_at is not None,
            handed_over=self._handed_over(attempt, ending),
            persistent="PERSIST_DEST" in attempt.decision.flags,
            events=job.destination_events,
        )
        if ending.maybe_postcopy:
            self._mark(move)
        verdict, here, there = self._verification.conclude(move, ending, control_loop, evidence)
        if verdict.kind not in STAYS_SPLIT:
            split_guests.clear(self._context.settings.state_dir, move.step["guest"]["uuid"])
        return verdict, here, there, ending

    def _mark(self, move: Move) -> None:
        """Mark this host: from now on it holds a half of the guest, and may not be rebooted."""
        guest = move.step["guest"]
        split_guests.mark(self._context.settings.state_dir, guest["name"], guest["uuid"], move.step["destination"])

    def _handed_over(self, attempt: Attempt, ending: MigrationEnding) -> bool | None:
        """Whether the guest was stopped for the switchover; None where its source was out of sight meanwhile."""
        if ending.handed_over:
            return True
        # Behind a connection that was opened anew nobody knows what the one before has missed. A guest that was
        # suspended to finish is not stopped a second time.
        watched = self._context.hosts.source_events(attempt.move.step) is attempt.job.source_events
        return False if watched and not ending.suspended else None

    def _others_come_in(self, step: Step) -> bool:
        """Whether the destination takes in guests of other hosts now. Only asked where it may take in several."""
        if self._context.settings.incoming_limit > 1:
            with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
                return bool(self._context.hosts.incoming(step))
        return False
