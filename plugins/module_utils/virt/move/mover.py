# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one guest from its source to its destination, through the states of a move.

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import Corrections
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import (
    Result,
    Step,
    with_faults,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import LinkSignals
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.admission import (
    STALE_S,
    Adopt,
    Close,
    Proceed,
    Refuse,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext, StoppedError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.definitions import complete, transient_there
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.parts import Parts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import nothing_to_move
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import left_nvram
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import (
    LinkTurn,
    Preparation,
    PreparationOptions,
    PreparedGuest,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.source_settings import (
    SourceSettings,
    on_record,
    settings_of_sent,
)

#: The code of the refusal of a move that was only to be finished, of a guest that is still at its source.
STAYS = "stays"


class GuestMover:
    """Moves guests away from this host, one call a guest. Calls may overlap.

    Args:
        context: what all moves of the run share.
        preparation: what is done to each guest around its move; None for nothing.
    """

    def __init__(self, context: MoveContext, preparation: PreparationOptions | None = None) -> None:
        self._context = context
        self._parts = Parts(context)
        self._preparation = Preparation(
            preparation or PreparationOptions(),
            context.settings.state_dir,
            context.settings.source.host,
            context.interrupted,
            context.hosts.domain_at,
            context.clock,
            context.sleep,
        )

    def check(self, step: Step) -> Result:
        """What moving a guest would do. Changes nothing and needs no writable connection."""
        return self._parts.admission.check(step)

    def move(
        self,
        step: Step,
        transferred: t.Callable[[], None],
        take_link_slot: t.Callable[[], bool] = lambda: True,
        nearly_transferred: t.Callable[[], None] = lambda: None,
        step_aside: t.Callable[[], bool] = lambda: True,
    ) -> Result:
        """Move a guest; the result says what became of it, judged from both sides.

        Args:
            step: of a plan.
            transferred: called when its memory is transferred and the link is free.
            take_link_slot: waits until the link is free for this guest; False when nothing is to be begun any more. It
                is asked again right before the guest is sent, each time.
            nearly_transferred: called when its memory will be transferred in a moment.
            step_aside: called before the guest's own hooks run, for which no other guest is to wait; False when nothing
                is to be begun any more.
        """
        turn = LinkTurn(step_aside, take_link_slot)
        move = self._context.begin(step, LinkSignals(transferred, nearly_transferred), turn)
        result = self._result_of(move)
        return self.with_left_copies(move, result) if result["outcome"] in ("moved", "already_there") else result

    def settle(self, move: Move) -> Result:
        """Finish what a run that died has left of a move. Sends no guest.

        One that a migration has left paused goes on where that is safe. Of one that runs at its destination, what is
        left here is put right.

        Args:
            move: begun, and no migration of its guest is under way.
        """
        try:
            self._restore_disks_after_crash(move)
            here, there = self._context.hosts.sides(move.step)
            if here.state == "paused" and here.state_reason == "migration" and not here.migrating:
                here, there = self._parts.verification.resolve_paused(move)
            self._parts.limits.restore_after_crash(move)
            known = nothing_to_move(move.step, here, there)
            if known is None:
                return move.log.refuse([_not_sent(move.step, here)])
            result = self._close(move, Close(known, here, there))
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return move.log.refuse_for(error)
        return self.with_left_copies(move, result) if result["outcome"] == "already_there" else result

    def with_left_copies(self, move: Move, result: Result) -> Result:
        """The result with what the guest has left here, which is recorded."""
        step = move.step
        if not self._parts.copies.has_begun(step["guest"]["uuid"], step["destination"]):
            return result
        try:
            here, there = self._context.hosts.links(step)
            uuid = step["guest"]["uuid"]
            left, fault = self._parts.copies.moved(here.connection, there.connection, uuid, step["destination"])
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            left, fault = [], self._parts.copies.not_recorded(error)
        if fault:
            move.log.note(fault["reason"])
            result = with_faults(result, [fault])
        if not left:
            return result
        images = listed([f"{disk['path']} ({human_bytes(disk['allocated_bytes'] or 0)})" for disk in left])
        stay = "stays" if len(left) == 1 else "stay"
        move.log.note(f"{images} {stay} on {step['source']} as the copy to come home to")
        return {**result, "left_copies": [{**disk, "host": step["source"]} for disk in left]}

    def _result_of(self, move: Move) -> Result:
        try:
            move.log.tell("step.started", "setup", "looking at both sides", level=1)
            self._parts.limits.restore_after_crash(move)
            self._restore_disks_after_crash(move)
            admitted = self._parts.admission.decide(move)
        except StoppedError:
            return self._context.stopped(move)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return move.log.refuse_for(error)
        if isinstance(admitted, Close):
            return self._close(move, admitted)
        if isinstance(admitted, Adopt):
            result = self._parts.adoption.adopt(move, admitted.there)
            return with_faults(result, self._preparation.check_adopted(move.step, result["outcome"], move.log.tell))
        if isinstance(admitted, Refuse):
            return move.log.refuse(admitted.refusals)
        return self._prepare_and_migrate(move, admitted)

    def _restore_disks_after_crash(self, move: Move) -> None:
        """Let a guest use its images again that a run which died has frozen, so that they go under their own names."""
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
            domain = self._context.hosts.domain(move.step)
            migrates = domain.jobInfo()[0] != virt.libvirt.VIR_DOMAIN_JOB_NONE
            if migrates or domain.state()[0] != virt.libvirt.VIR_DOMAIN_RUNNING:
                return
            for fault in self._parts.copies.deltas.restore_after_crash(domain):
                move.log.note(fault)

    def _close(self, move: Move, known: Close) -> Result:
        """Close a step without a move. A run that died just after one may have left something undone."""
        if known.result["outcome"] != "already_there":
            return move.log.close(known.result)
        settings = self._left_settings(move.step, known)
        if settings is None and not known.there.persistent:
            return move.log.close(known.result, Corrections(notes=[transient_there(move.step)]))
        if settings is None:
            return move.log.close(known.result)
        return move.log.close(known.result, complete(self._context, move.step, known.here, known.there, settings))

    def _left_settings(self, step: Step, known: Close) -> SourceSettings | None:
        """What the source kept of a guest that has left it, as far as it is still known; None where nothing is."""
        state_dir = self._context.settings.state_dir
        if known.here.persistent and known.here.state_reason == "migrated":
            with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
                left = settings_of_sent(state_dir, step, self._context.hosts.domain(step))
                # The mark may have been set at the destination since. That the left definition has none says nothing.
                return dataclasses.replace(left, autostart=left.autostart or None)
        return on_record(state_dir, step)

    def _prepare_and_migrate(self, move: Move, admitted: Proceed) -> Result:
        """Migrate the guest, with what has to be done to it before and after."""
        clock, answers, link = self._context.clock, admitted.answers, admitted.appraised.link
        asked_at, rate = clock(), link.bandwidth_bytes_per_s if link else None
        with self._preparation.prepared(
            move.step, answers.guest, answers.intent, move.log.tell, bytes_per_s=rate, turn=move.turn
        ) as ready:
            renewing = bool(ready.freed_bytes) or clock() >= asked_at + STALE_S or ready.stepped_aside
            result = self._migrate(move, admitted, ready, renewing=renewing)
            ready.ended(result["outcome"])
        left = left_nvram.notes(answers.guest, move.step["source"]) if result["outcome"] == "moved" else []
        return with_faults(result, ready.faults, [*ready.notes, *left])

    def _migrate(self, move: Move, admitted: Proceed, ready: PreparedGuest, *, renewing: bool) -> Result:
        """Migrate a guest that is ready, if it still may be moved."""
        if ready.refusals:
            return move.log.refuse(ready.refusals)
        try:
            if renewing:
                admitted = self._parts.admission.renew(move, ready.freed_bytes, waiting=ready.stepped_aside)
            attempt = self._parts.migration.begin(move, admitted)
        except StoppedError:
            return self._context.stopped(move)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            # A bug is raised again. What comes after the move must know all the same that nothing was begun.
            ready.ended("refused")
            return move.log.refuse_for(error)
        return self._parts.migration.migrate(attempt)


def _not_sent(step: Step, here: Side) -> Refusal:
    """Why a guest was not sent that is still at its source."""
    name = step["guest"]["name"]
    return refusal(STAYS, f"{name} is {here.describe()}", f"run the drain again if it is to leave {step['source']}")
