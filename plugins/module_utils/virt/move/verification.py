# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what became of a guest, as both sides say. Lets it go on at its source where that is safe.

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, Verdict, quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.resume_check import (
    DestinationEvidence,
    confirm_resume,
    may_be_elsewhere,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.control_loop import ControlLoop
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.disk_counter import DiskCounter
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_instance import MigrationLimits
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.recorded_limits import RecordedLimits


class Verification:
    """Judges moves by what both libvirtds say, and by nothing else.

    Args:
        context: of the run, with writable connections.
        limits: restores what a migration changed.
    """

    def __init__(self, context: MoveContext, limits: RecordedLimits) -> None:
        self._context = context
        self._hosts = context.hosts
        self._limits = limits

    def control_loop(self, move: Move, control: Control, elapsed_s: float) -> ControlLoop:
        """What controls a migration that no call of this process waits for.

        Args:
            move: under way.
            control: decides.
            elapsed_s: since the migration began.
        """
        started = self._context.clock() - elapsed_s
        return ControlLoop(
            lambda: self._hosts.domain(move.step),
            control,
            move.log.watcher(),
            self._context.interrupted,
            started,
            self._context.clock,
            # How large its disks are, only the call knew. What their connection carries can still be counted.
            disks=DiskCounter(move.step["guest"]["name"], 0, 0),
        )

    def conclude(
        self,
        move: Move,
        ending: MigrationEnding,
        control_loop: ControlLoop,
        evidence: DestinationEvidence,
        *,
        ended: str = "",
    ) -> tuple[Verdict, Side, Side]:
        """Judge a move by both sides, whatever the call said. Let the guest go on at its source where that is safe.

        Args:
            move: under way.
            ending: of the call. It takes in what the control did afterwards.
            control_loop: controls the migration while it lasts.
            evidence: what was seen at the destination until now.
            ended: what to add to the reason where the guest runs on neither side.
        """
        verdict, here, there = self._await_agreement(move, control_loop, evidence, suspended=ending.suspended)
        if verdict.kind == "ended" and ended:
            verdict = dataclasses.replace(verdict, reason=f"{verdict.reason}; {ended}")
        ending.abort_reaction = ending.abort_reaction or control_loop.abort_reaction
        ending.memory_bytes = max(ending.memory_bytes, control_loop.memory_bytes)
        ending.disk_bytes = max(ending.disk_bytes, control_loop.disk_bytes)
        if verdict.kind == "resume_source":
            verdict = self._confirm_resume(move, verdict, evidence)
        if verdict.kind == "resume_source":
            verdict, here, there = self._resume(move)
        move.log.tell("step.verified", "verify", verdict.reason, level=1, verdict=verdict.kind)
        return verdict, here, there

    def resolve_paused(self, move: Move) -> tuple[Side, Side]:
        """Decide about a guest that a migration left paused.

        It goes on if a run that died sent the same QEMU to the same destination, and no other host of the plan has it.

        Raises: VirtError where that is not so.
        """
        verdict, here, there = self.judge_paused(move)
        if verdict.kind == "resume_source":
            verdict, here, there = self._resume(move)
            self._limits.restore_after_crash(move)
        if verdict.kind == "unclear":
            raise virt.VirtError(refusal("left_paused", verdict.reason, verdict.remedy))
        return here, there

    def judge_paused(self, move: Move) -> tuple[Verdict, Side, Side]:
        """Judge a guest that a migration left paused. Changes nothing.

        C(resume_source) only where a run that died sent the same QEMU to the same destination, that never ran it, and
        no other host of the plan has it.
        """
        step = move.step
        verdict, here, there = self._await_agreement(move)
        if verdict.kind == "resume_source":
            record = self._limits.unfinished_migration(step)
            if not record or record.get("destination") != step["destination"]:
                verdict = may_be_elsewhere(step, verdict)
            elif (why := self._hosts.why_elsewhere(step)) is not None:
                verdict = may_be_elsewhere(step, verdict, why)
            else:
                persistent = "PERSIST_DEST" in (record.get("flags") or ())
                verdict = self._confirm_resume(move, verdict, DestinationEvidence(reached=True, persistent=persistent))
        return verdict, here, there

    def _await_agreement(
        self,
        move: Move,
        control_loop: ControlLoop | None = None,
        evidence: DestinationEvidence | None = None,
        *,
        suspended: bool = False,
    ) -> tuple[Verdict, Side, Side]:
        """Wait until both sides agree, and control what is still under way."""
        step = move.step

        def watching(here: Side, there: Side) -> bool:
            if control_loop is None or evidence is None:
                return False
            evidence.add(there)
            control_loop.maybe_postcopy = control_loop.maybe_postcopy or "postcopy" in here.state_reason
            # A migration to somewhere else is not ours to control.
            if evidence.reached:
                control_loop.run_once()
            return not control_loop.is_ending

        verdict, here, there = guest_state.await_agreement(
            self._context.connections,
            step["guest"]["name"],
            step["guest"]["uuid"],
            self._hosts.endpoints(step),
            suspended_by_us=suspended,
            clock=self._context.clock,
            sleep=self._context.sleep,
            watching=watching,
            seen=(evidence or DestinationEvidence()).seen,
        )
        if control_loop is not None and verdict.kind in ("stayed", "resume_source"):
            # The limits on record come first: what was found may have been set by a run that died.
            self._limits.restore(step, MigrationLimits(control_loop.downtime_before, control_loop.speed_before))
        return verdict, here, there

    def _confirm_resume(self, move: Move, verdict: Verdict, evidence: DestinationEvidence) -> Verdict:
        def in_sight() -> bool:
            # Behind a connection that was opened anew, the destination may have rebooted.
            return evidence.events is not None and self._hosts.destination_events(move.step) is evidence.events

        return confirm_resume(move.step, verdict, evidence, in_sight)

    def _resume(self, move: Move) -> tuple[Verdict, Side, Side]:
        """Let a guest go on at its source, which both sides say is safe."""
        step = move.step
        source, target = self._hosts.endpoints(step)
        move.log.tell("migration.decision", "verify", f"resuming the guest at {source.host}", action="resume_source")
        try:
            self._hosts.domain(step).resume()
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            move.log.tell("migration.decision", "failed", f"it cannot be resumed: {error}", action="resume_failed")
        verdict, here, there = self._await_agreement(move)
        if verdict.kind == "resume_source":
            by_hand = f"resume it by hand (virsh resume {quoted(step['guest']['name'])} on {source.host})"
            verdict = Verdict("unclear", verdict.reason, f"{by_hand}; {target.host} has nothing of it")
        return verdict, here, there
