# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the limits for migrations that a guest had before a run changed them, as its journal tells.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.run import past_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    UnansweredError,
    within,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_instance import (
    MigrationLimits,
    QemuInstance,
    is_same_instance,
    limits_before,
    qemu_instance_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext


class RecordedLimits:
    """Restores the limits of guests at their source."""

    def __init__(self, context: MoveContext) -> None:
        self._hosts = context.hosts
        self._state_dir = context.settings.state_dir
        self._boot_id = context.settings.boot_id

    def qemu_instance(self, step: Step) -> QemuInstance:
        """The QEMU that holds the guest at its source; libvirtError or VirtError when that cannot be asked."""
        return qemu_instance_of(self._hosts.domain(step), self._boot_id)

    def unfinished_migration(self, step: Step) -> dict[str, t.Any] | None:
        """What a run that died had on record when it sent the QEMU that holds the guest now, or None.

        The record of an earlier QEMU says nothing: the guest may have gone anywhere since.
        """
        record = past_runs.unfinished_migration(self._state_dir, step["guest"]["uuid"])
        return record if record and is_same_instance(record, self._hosts.domain(step), self._boot_id) else None

    def restore_after_crash(self, move: Move) -> None:
        """Restore the limits that a run that died has left on a guest that runs here and is not under way."""
        here = self._hosts.source_side(move.step)
        if here.state == "running" and not here.migrating and self.restore(move.step, MigrationLimits()):
            move.log.note("its migration limits, which a run that died had changed, were restored")

    def restore(self, step: Step, found: MigrationLimits) -> bool:
        """Restore the limits that are on record, or else those found; returns whether something was changed."""

        def give_back() -> bool:
            record = self.unfinished_migration(step)
            before = limits_before(record) if record else MigrationLimits()
            return (before if before != MigrationLimits() else found).restore(self._hosts.domain(step))

        # A guest that has just left needs no limits. An error here must not hide what became of the guest.
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError, UnansweredError):
            return bool(within(ANSWER_TIMEOUT_S, give_back))
        return False
