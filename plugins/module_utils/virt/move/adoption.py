# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: adopts a migration under way that another run began, most likely a run that died.

from __future__ import annotations

import contextlib

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.resume_check import DestinationEvidence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import dead_connection
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.definitions import complete
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.method_choice import MethodChoice
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.verification import Verification
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.source_settings import (
    SourceSettings,
    forget,
    on_record,
    settings_of_sent,
)

ENDED_ELSEWHERE = "the migration in flight took it to another host, or it was shut down meanwhile"


class Adoption:
    """Adopts migrations.

    Args:
        context: of the run, with writable connections.
        choice: says how a migration goes on.
        verification: controls the migration until both sides agree.
    """

    def __init__(self, context: MoveContext, choice: MethodChoice, verification: Verification) -> None:
        self._context = context
        self._hosts = context.hosts
        self._choice = choice
        self._verification = verification

    def adopt(self, move: Move, there: Side) -> Result:
        """Control a migration under way, and wait for its end; returns the result of the step.

        Args:
            move: of a guest that migrates already.
            there: the guest at the destination.
        """
        step = move.step
        move.log.tell("run.attached", "pre-copy", "a migration is already in flight; waiting for its end")
        state_dir = self._context.settings.state_dir
        settings, elapsed_s = on_record(state_dir, step) or SourceSettings(), 0.0
        # The migration may end at any moment. Then both sides say what became of the guest.
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
            domain = self._hosts.domain(step)
            settings = settings_of_sent(state_dir, step, domain)
            elapsed_s = domain.jobStats().get("time_elapsed", 0) / 1000
        decision = self._choice.decide_adopted(step, persistent=settings.definition is not None)
        control_loop = self._verification.control_loop(move, Control(decision), elapsed_s)
        ending = MigrationEnding(elapsed_s=elapsed_s)
        evidence = DestinationEvidence(events=self._hosts.destination_events(step))
        evidence.add(there)

        def stands_still() -> bool:
            return not control_loop.maybe_postcopy and self._is_stopped_by_precopy(move)

        not_dead = dead_connection.ended_when_dead(step["guest"]["name"], stands_still, move.log.connection_ended)
        with self._context.sending.sending(), not_dead:
            verdict, here, there = self._verification.conclude(
                move, ending, control_loop, evidence, ended=ENDED_ELSEWHERE
            )
        if verdict.kind == "moved":
            return move.log.moved(ending, complete(self._context, step, here, there, settings, ending.downtime_ms))
        if verdict.kind == "stayed":
            forget(state_dir, step)
        return move.log.not_moved(ending, verdict)

    def _is_stopped_by_precopy(self, move: Move) -> bool:
        """Whether the guest stands still at its source for the end of a pre-copy."""
        stopped = [virt.libvirt.VIR_DOMAIN_PAUSED, virt.libvirt.VIR_DOMAIN_PAUSED_MIGRATION]
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
            return bool(list(self._hosts.domain(move.step).state()) == stopped)
        return False
