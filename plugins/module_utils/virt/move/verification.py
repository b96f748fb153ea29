# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what became of a guest, as both sides say, and putting right what can be put right safely.

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import (
    Side,
    Verdict,
    definition_faults,
    shown,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run import past_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.events import EventStream
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    UnansweredError,
    within,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.control_loop import ControlLoop
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import Preconditions, Settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.qemu_instance import (
    MigrationLimits,
    QemuInstance,
    is_same_instance,
    limits_before,
    qemu_instance_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.reporting import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.step_log import StepLog


@dataclasses.dataclass
class DestinationEvidence:
    """Where a guest under way was seen. What may be elsewhere than at our destination is not ours to let go on here.

    Attributes:
        reached: it was seen coming in at the destination.
        ran: it was seen to run there, so it may have gone on from there.
        kept: whatever runs there leaves a definition, which outlives a reboot of the destination.
        watch: what told of the destination from the start; None when nothing did.
    """

    reached: bool = False
    ran: bool = False
    kept: bool = False
    watch: EventStream | None = None

    def add(self, there: Side) -> None:
        """One more look at the destination."""
        self.reached = self.reached or there.active
        self.ran = self.ran or there.state == "running"


class Verification:
    """Judges moves, and lets a guest go on, or mends its definition, where both sides say that it is safe.

    Args:
        connections: writable ones.
        settings: what is the same for all moves.
        preconditions: asks both hosts.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        preconditions: Preconditions,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._preconditions = preconditions
        self._clock = clock
        self._sleep = sleep

    def await_agreement(
        self,
        step: Step,
        control_loop: ControlLoop | None = None,
        evidence: DestinationEvidence | None = None,
        *,
        suspended: bool = False,
    ) -> tuple[Verdict, Side, Side]:
        """Wait until both sides agree, steering on what is still under way."""
        source, target = self._preconditions.endpoints(step)

        def watching(here: Side, there: Side) -> bool:
            if control_loop is None or evidence is None:
                return False
            evidence.add(there)
            control_loop.maybe_postcopy = control_loop.maybe_postcopy or "postcopy" in here.state_reason
            # A migration to somewhere else is not ours to steer.
            if evidence.reached:
                control_loop.look()
            return not control_loop.is_ending

        verdict, here, there = guest_state.await_agreement(
            self._connections,
            step["guest"]["name"],
            step["guest"]["uuid"],
            source,
            target,
            suspended_by_us=suspended,
            clock=self._clock,
            sleep=self._sleep,
            watching=watching,
        )
        if control_loop is not None and verdict.kind in ("stayed", "resume_source"):
            # Those of a run that died go before what was found: that may be what it had set.
            self._restore_limits(step, MigrationLimits(control_loop.downtime_before, control_loop.speed_before))
        return verdict, here, there

    def resolve_paused(self, step: Step, log: StepLog) -> tuple[Side, Side]:
        """A guest that a migration left paused.

        It goes on if a run that died was sending this very QEMU of it to this very destination, and no other host of
        the plan has it.
        """
        verdict, here, there = self.await_agreement(step)
        if verdict.kind == "resume_source":
            record = self._broken_off(step)
            if (
                not record
                or record.get("destination") != step["destination"]
                or self._preconditions.seen_elsewhere(step)
            ):
                verdict = may_be_elsewhere(step, verdict)
            else:
                kept = "PERSIST_DEST" in (record.get("flags") or ())
                verdict = self.confirm_resume(step, verdict, DestinationEvidence(reached=True, kept=kept))
        if verdict.kind == "resume_source":
            verdict, here, there = self.resume(step, log)
            self.restore_limits(step, log)
        if verdict.kind == "unclear":
            raise virt.VirtError(refusal("left_paused", verdict.reason, verdict.remedy))
        return here, there

    def qemu_instance_of(self, step: Step) -> QemuInstance:
        """How the guest stands at its source; libvirtError or VirtError when that cannot be asked."""
        return qemu_instance_of(self._preconditions.domain(step), self._settings.boot_id)

    def restore_limits(self, step: Step, log: StepLog) -> None:
        """Give back the limits that a run that died has left on a guest that runs here and is not under way."""
        source, _target = self._preconditions.endpoints(step)
        here = guest_state.ask_host(self._connections, source, step["guest"]["uuid"])
        if here.state == "running" and not here.migrating and self._restore_limits(step, MigrationLimits()):
            log.note("its limits for migrations are again those from before a run that died")

    def _restore_limits(self, step: Step, found: MigrationLimits) -> bool:
        """Give back the limits that are on record, or else those found; returns whether something was changed."""

        def give_back() -> bool:
            record = self._broken_off(step)
            before = limits_before(record) if record else MigrationLimits()
            return (before if before != MigrationLimits() else found).give_back(self._preconditions.domain(step))

        # A guest that has just left needs none, and one that does not take them must not hide what became of it.
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError, UnansweredError):
            return bool(within(ANSWER_TIMEOUT_S, give_back))
        return False

    def _broken_off(self, step: Step) -> dict[str, t.Any] | None:
        """What a run that died had on record when it sent the QEMU that holds the guest now, or None.

        That of a QEMU before it says nothing: the guest may have gone anywhere since.
        """
        record = past_runs.unfinished_migration(self._settings.state_dir, step["guest"]["uuid"])
        return (
            record
            if record and is_same_instance(record, self._preconditions.domain(step), self._settings.boot_id)
            else None
        )

    def confirm_resume(self, step: Step, verdict: Verdict, evidence: DestinationEvidence) -> Verdict:
        """The verdict that a guest may go on at its source, where what was seen of it on its way bears that out."""
        if not evidence.reached or evidence.ran:
            return may_be_elsewhere(step, verdict)
        if not evidence.kept and not self._in_sight(step, evidence):
            return may_be_forgotten(step, verdict)
        return verdict

    def _in_sight(self, step: Step, evidence: DestinationEvidence) -> bool:
        """Whether the destination has been in sight from the start; behind a link opened anew, it may have rebooted."""
        return evidence.watch is not None and self.watch(step) is evidence.watch

    def watch(self, step: Step) -> EventStream | None:
        """What tells of the destination now, or None when it cannot be reached."""
        _source, target = self._preconditions.endpoints(step)
        try:
            return self._connections.get(target.uri).events
        except virt.VirtError:
            return None

    def resume(self, step: Step, log: StepLog) -> tuple[Verdict, Side, Side]:
        """Let a guest go on at its source, which both sides say is safe."""
        source, target = self._preconditions.endpoints(step)
        log.tell("migration.decision", "verify", f"letting the guest go on at {source.host}", action="resume_source")
        try:
            self._preconditions.domain(step).resume()
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            log.tell("migration.decision", "failed", f"it cannot go on: {error}", action="resume_failed")
        verdict, here, there = self.await_agreement(step)
        if verdict.kind == "resume_source":
            by_hand = f"let it go on by hand (virsh resume {shown(step['guest']['name'])} on {source.host})"
            verdict = Verdict("unclear", verdict.reason, f"{by_hand}; {target.host} has nothing of it")
        return verdict, here, there

    def repair_definitions(
        self, step: Step, here: Side, there: Side, definition: str | None
    ) -> tuple[list[str], str | None]:
        """Returns what was put right, and what could not be."""
        guest = step["guest"]
        faults = definition_faults(guest["name"], here, there, persistent_before=definition is not None)
        if not faults:
            return [], None
        source, target = self._preconditions.endpoints(step)
        try:
            return guest_state.mend_definitions(self._connections, source, target, guest["uuid"], definition), None
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            # It runs where it should; nothing of this is worth calling the move anything but done.
            fault = f"it has moved, but {' and '.join(faults)}, and that could not be put right: {error}"
            if here.persistent and (there.persistent or definition is None):
                by_hand = f"virsh undefine --keep-nvram {shown(guest['name'])}"
                fault += f"; remove it there before {source.host} is rebooted, which might start it again: {by_hand}"
            return [], fault


def may_be_elsewhere(step: Step, verdict: Verdict) -> Verdict:
    """A guest that stands still at its source may still have gone on somewhere else, so nobody touches it."""
    guest, source = step["guest"]["name"], step["source"]
    return Verdict(
        "unclear",
        f"{verdict.reason}, and it may have been on its way to another host, or have gone on from there",
        f"see where it went (/var/log/libvirt/qemu/{guest}.log on {source}); only if it runs on no host, let it go on:"
        f" virsh resume {shown(guest)} on {source}",
    )


def may_be_forgotten(step: Step, verdict: Verdict) -> Verdict:
    """A guest without a definition leaves no trace at a destination that was rebooted, even if it ran there."""
    guest, source, target = step["guest"]["name"], step["source"], step["destination"]
    return Verdict(
        "unclear",
        f"{verdict.reason}, which keeps no definition of it, was out of sight meanwhile, and would have forgotten it in"
        f" a reboot; if it ran there, its memory on {source} is older than its disks",
        f"see how it ended on {target} (/var/log/libvirt/qemu/{guest}.log there); only after 'shutting down,"
        f" reason=failed' it never ran there, and may go on: virsh resume {shown(guest)} on {source}",
    )
