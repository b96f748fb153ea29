# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one attempt to move a guest, by one method.

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import reforecast_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Appraisal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.sending import SentDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.lazy_move import Begun
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.job import MigrationJob
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import past_moves
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import Answers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.images import Image
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.source_settings import SourceSettings


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt to move a guest.

    Attributes:
        move: what it belongs to.
        answers: of both hosts, just before it.
        appraised: what it is to cost.
        decision: how it is done.
        source_settings: what the source kept of the guest before it.
        job: the libvirt call.
        images: those that were made at the destination for its disks.
        sent: disks of which what differs from an old copy was sent before.
        lazy: what was done so that disks come after the guest; None: none does.
        may_restart: whether another attempt may follow for a forecast that was wrong.
    """

    move: Move
    answers: Answers
    appraised: Appraisal
    decision: Decision
    source_settings: SourceSettings
    job: MigrationJob
    images: tuple[Image, ...] = ()
    sent: tuple[SentDisk, ...] = ()
    lazy: Begun | None = None
    may_restart: bool = True

    def control(self) -> Control:
        """What decides while it is in flight."""
        found = self.appraised
        return Control(
            self.decision,
            reforecast_of(found.working_set, found.link, self.decision, guest_factor=found.guest_factor),
            may_restart=self.may_restart,
            rate_rule=_rate_rule(self.answers.intent),
        )

    def calibrate(self, settings: Settings, ending: MigrationEnding) -> None:
        """Keep what the finished move taught."""
        with _note_bugs(self.move):
            past_moves.calibrate(settings, self.move.step, self.appraised, self.decision, ending)

    def calibrate_set_up(self, settings: Settings) -> None:
        """Keep what the set-up of the move under way took."""
        with _note_bugs(self.move):
            observation = self.job.observation
            past_moves.calibrate_set_up(settings, self.move.step, self.appraised, observation)


def migration_job(
    context: MoveContext, step: Step, decision: Decision, before: t.Callable[[], None] = lambda: None
) -> MigrationJob:
    """The libvirt call that moves a step's guest, and what is done right before it.

    Raises: libvirtError or VirtError when a host cannot be asked for it.
    """
    here, there = context.hosts.links(step)
    _source, target = context.hosts.endpoints(step)
    domain = here.connection.lookupByUUIDString(step["guest"]["uuid"])
    return MigrationJob(domain, target.uri, decision, here.events, there.events, context.clock, before)


@contextlib.contextmanager
def _note_bugs(move: Move) -> t.Iterator[None]:
    """Note a bug in the calibration. It must not hide where the guest is."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
        move.log.note(f"nothing was learned from this move ({type(error).__name__}: {error})")


def _rate_rule(intent: t.Mapping[str, t.Any]) -> tuple[int, int] | None:
    """Lowest and highest rate of a round in MiB/s, or None where each round goes as fast as it may."""
    floor = intent["bandwidth_floor_mib_s"]
    if floor is None:
        return None
    return floor, max(floor, intent["bandwidth_mib_s"] or intents.MAX_BANDWIDTH_MIB_S)
