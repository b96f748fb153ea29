# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: begins the migration of a guest, and falls back to another method where one fails.

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import to_copy, writes_in_step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import with_deltas
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.old_copy import NoDeltaError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.sending import SentDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.lazy_move import LazyMove, Place, is_lazy
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.admission import Proceed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.attempt import Attempt, migration_job
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext, StoppedError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.definitions import complete, stays_transient
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.fallback import FallbackHistory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.method_choice import MethodChoice, with_time_left
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.migration_run import MigrationRun
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import Answers, Preconditions
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.recorded_limits import RecordedLimits
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.disk_copies import DiskCopies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.disk_deltas import (
    definitions_there,
    held_bytes,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.source_settings import (
    SourceSettings,
    forget,
    keep,
    source_settings,
)


class GuestMigration:
    """Migrates guests of a run.

    Args:
        context: of the run, with writable connections.
        preconditions: asks both hosts before another method is tried.
        choice: chooses the method.
        run: makes the call of an attempt, and verifies it.
        limits: says which QEMU holds a guest.
        copies: makes the images that disks are copied to.
        lazy: lets the far end read disks that come after their guest.
    """

    def __init__(
        self,
        context: MoveContext,
        preconditions: Preconditions,
        choice: MethodChoice,
        run: MigrationRun,
        limits: RecordedLimits,
        copies: DiskCopies,
        lazy: LazyMove,
    ) -> None:
        self._context = context
        self._hosts = context.hosts
        self._preconditions = preconditions
        self._choice = choice
        self._run = run
        self._limits = limits
        self._copies = copies
        self._lazy = lazy

    def begin(self, move: Move, admitted: Proceed) -> Attempt:
        """Do all that comes before libvirt is asked to migrate the guest, and put the start on record last.

        Raises:
            StoppedError: nothing is to be begun any more.
            libvirtError, VirtError: the guest or a host cannot be asked, or the start cannot be put on record.
        """
        step, appraised = move.step, admitted.appraised
        settings = source_settings(self._hosts.domain(step), self._context.settings.state_dir)
        answers = _as_defined(admitted.answers, settings)
        decision = self._choice.decide(step, answers, appraised)
        _check_disks(step, answers, settings)
        attempt = Attempt(move, answers, appraised, decision, settings, migration_job(self._context, step, decision))
        instance = self._limits.qemu_instance(step)
        self._context.check_may_begin(move)
        attempt = self._with_images(attempt)
        with self._images_removed_on_error(attempt):
            keep(self._context.settings.state_dir, step, settings)
            move.log.begin(attempt.decision, instance, autostart=settings.autostart)
        return attempt

    def _with_images(self, attempt: Attempt) -> Attempt:
        """The attempt with the images that its disks are copied to.

        Raises: libvirtError, or VirtError for what is at their paths already.
        """
        step, answers = attempt.move.step, attempt.answers
        dummy, there = self._hosts.links(step)
        domain = self._hosts.domain(step)
        sent = self._sent(attempt, there.connection, domain)
        with self._images_removed_on_error(dataclasses.replace(attempt, sent=tuple(sent))):
            made = self._copies.begin(
                there.connection, domain, answers.guest, answers.intent, step["destination"], sent
            )
        attempt = dataclasses.replace(attempt, images=tuple(made), sent=tuple(sent))
        if is_lazy(answers.guest, answers.intent):
            with self._images_removed_on_error(attempt):
                return self._with_lazy_disks(attempt)
        if not sent:
            return attempt
        with self._images_removed_on_error(attempt):
            return self._over_old_copies(attempt, domain)

    def _sent(self, attempt: Attempt, there: t.Any, domain: t.Any) -> list[SentDisk]:
        """Send what differs of the disks that have an old copy; returns these disks, none where they go whole."""
        move, answers, deltas = attempt.move, attempt.answers, attempt.answers.deltas
        host = move.step["destination"]
        for fault in self._copies.deltas.left_by_others(there, move.step["guest"]["uuid"], host):
            move.log.note(fault)
        whole = dict(deltas.full_because)
        sent: list[SentDisk] = []
        if deltas.old:
            move.log.starts()
            try:
                sent = self._copies.deltas.send(
                    there, domain, answers.guest, host, deltas.old, move.log.share_teller(), self._check_goes_on
                )
            except NoDeltaError as error:
                whole.update({target: str(error) for target in deltas.old})
        move.log.disks(answers.guest, answers.intent, sent, whole)
        return sent

    def _check_goes_on(self) -> None:
        """Raises: StoppedError when nothing is to be begun any more."""
        if self._context.is_stopping:
            raise StoppedError

    def _over_old_copies(self, attempt: Attempt, domain: t.Any) -> Attempt:
        """The attempt with the call that copies what is left."""
        answers, sent = attempt.answers, attempt.sent
        decision = with_deltas(
            attempt.decision,
            [disk.target for disk in sent],
            definitions_there(domain, sent, persistent=bool(answers.guest["persistent"])),
            held_bytes(sent),
            in_step=writes_in_step(answers.source, answers.destination),
        )
        step, log = attempt.move.step, attempt.move.log

        def send_rest() -> None:
            self._copies.deltas.send_rest(step["guest"]["uuid"])
            log.disks_sent(sent)

        job = migration_job(self._context, step, decision, send_rest)
        return dataclasses.replace(attempt, decision=decision, job=job)

    def _with_lazy_disks(self, attempt: Attempt) -> Attempt:
        """The attempt with disks that the far end reads from here.

        Raises: libvirtError, or CapsuleError when that cannot be.
        """
        step, answers = attempt.move.step, attempt.answers
        dummy, there = self._hosts.links(step)
        targets = [disk["target"] for disk in to_copy(answers.guest, answers.intent)]
        places = {target: Place(*image) for target, image in zip(targets, attempt.images)}
        begun = self._lazy.begin(there.connection, self._hosts.domain(step), step["guest"], places, step["destination"])
        decision = attempt.decision
        decision = dataclasses.replace(decision, parameters={**decision.parameters, **begun.parameters})
        job = migration_job(self._context, step, decision)
        left = {one.disk.target: (one.overlay, one.disk.path) for one in begun.frozen}
        attempt = dataclasses.replace(attempt, decision=decision, job=job, lazy=begun)
        with self._images_removed_on_error(attempt):
            self._copies.left_in_layers(step["guest"]["uuid"], step["destination"], left)
        return attempt

    @contextlib.contextmanager
    def _images_removed_on_error(self, attempt: Attempt) -> t.Iterator[None]:
        try:
            yield
        except Exception:
            self._remove_images(attempt)
            raise

    def _remove_images(self, attempt: Attempt) -> None:
        """Remove what an attempt has copied to, of a guest that runs at its source."""
        move = attempt.move
        if not attempt.images and not attempt.sent:
            return
        faults = []
        try:
            if attempt.lazy:
                domain, uuid = self._hosts.domain(move.step), move.step["guest"]["uuid"]
                faults += self._lazy.take_back(domain, uuid, attempt.lazy)
            dummy, there = self._hosts.links(move.step)
            domain = self._hosts.domain(move.step)
            faults += self._copies.failed(there.connection, domain, move.step["destination"], attempt.images)
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            faults.append(f"the unfinished copies of its disks stay at {move.step['destination']} for now: {error}")
        for fault in faults:
            move.log.note(fault)

    def migrate(self, attempt: Attempt) -> Result:
        """Migrate the guest, by the next best method where the chosen one fails; returns the result of the step."""
        history = FallbackHistory()
        while True:
            verdict, here, there, ending = self._run.run(attempt)
            log = attempt.move.log
            if verdict.kind == "moved":
                step, settings = attempt.move.step, attempt.source_settings
                corrections = complete(self._context, step, here, there, settings, ending.downtime_ms)
                if settings.definition is None:
                    corrections.notes.append(stays_transient(step))
                attempt.calibrate(self._context.settings, ending)
                return log.moved(ending, corrections)
            if verdict.kind == "stayed":
                self._remove_images(attempt)
            following = self._fall_back(attempt, history, ending) if verdict.kind == "stayed" else None
            if following is None:
                if verdict.kind == "stayed":
                    forget(self._context.settings.state_dir, attempt.move.step)
                return log.not_moved(ending, verdict)
            attempt = following

    def _fall_back(self, attempt: Attempt, history: FallbackHistory, ending: MigrationEnding) -> Attempt | None:
        """Begin the next attempt of a guest that stayed where it was; None where there is none."""
        log = attempt.move.log
        if self._context.is_stopping or not history.add(attempt.decision, ending):
            return None
        try:
            return self._next_attempt(attempt, history)
        except StoppedError:
            log.note("no other method is tried: this run starts nothing more")
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            # Nothing was begun. The ending of the attempt before says what became of it.
            log.note(f"no other method is tried: {error}")
        return None

    def _next_attempt(self, attempt: Attempt, history: FallbackHistory) -> Attempt | None:
        """The next attempt, which is on record as begun; None where no other method will do.

        Raises:
            StoppedError: nothing is to be begun any more.
            libvirtError, VirtError: the guest or a host cannot be asked, or a host refuses the guest now.
        """
        move, step = attempt.move, attempt.move.step
        # The attempt before may have taken long. The hosts have changed since.
        answers = with_time_left(self._preconditions.ask(step), move.log.elapsed_s)
        if answers is None:
            return None
        if answers.refusals:
            raise virt.VirtError(answers.refusals[0])
        appraised = self._choice.appraise(step, answers, history)
        if appraised.choice["method"] is None:
            return None
        decision = self._choice.decide(step, answers, appraised)
        if not history.is_new(decision):
            return None
        following = dataclasses.replace(
            attempt,
            answers=answers,
            appraised=appraised,
            decision=decision,
            job=migration_job(self._context, step, decision),
            images=(),
            sent=(),
            lazy=None,
            may_restart=False,
        )
        instance = self._limits.qemu_instance(step)
        self._context.check_may_begin(move)
        following = self._with_images(following)
        with self._images_removed_on_error(following):
            move.log.again(following.decision, history.reason, instance)
        return following


def _as_defined(answers: Answers, settings: SourceSettings) -> Answers:
    """The answers of a guest whose definition its owner has removed since: it must not be defined again elsewhere."""
    if settings.definition is not None:
        return answers
    return dataclasses.replace(answers, guest={**answers.guest, "persistent": False})


def _check_disks(step: Step, answers: Answers, settings: SourceSettings) -> None:
    """See that the guest has the disks that both hosts were asked about, and no others.

    Raises: VirtError for a disk that was plugged in since, taken out, or given another image.
    """
    if settings.live is None:
        return
    asked = {disk["target"]: disk["source"] for disk in answers.guest["disks"]}
    disks = map(guest_xml.disk, guest_xml.parse(settings.live).findall("devices/disk"))
    now = {disk["target"]: disk["source"] for disk in disks}
    for code, what, targets in (
        ("disk_added", "has got", [target for target in now if target not in asked]),
        ("disk_removed", "has lost", [target for target in asked if target not in now]),
        ("disk_changed", "has another image in", [one for one in now if one in asked and now[one] != asked[one]]),
    ):
        if targets:
            raise virt.VirtError(
                refusal(
                    code,
                    f"{step['guest']['name']} {what} disk {listed(targets)} since both hosts were asked about it",
                    "run it again: then they are asked about its disks as they are now",
                )
            )
