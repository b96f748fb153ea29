# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: puts together what moves guests: each part gets the parts that it uses.

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.lazy_move import LazyMove
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.admission import Admission
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.adoption import Adoption
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.guest_migration import GuestMigration
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.method_choice import MethodChoice
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.migration_run import MigrationRun
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import Preconditions
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.recorded_limits import RecordedLimits
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.verification import Verification
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.disk_copies import DiskCopies


class Parts:
    """The parts of a mover, one for each state of a move.

    Attributes:
        limits: restores what an earlier run has changed.
        copies: makes the images that disks are copied to, and records what stays behind.
        lazy: lets a far end read disks that come after their guest.
        preconditions: asks both hosts.
        verification: judges by both sides.
        admission: decides what is to be done about a step.
        migration: begins a migration, and falls back to another method.
        adoption: takes over a migration under way.
    """

    def __init__(self, context: MoveContext) -> None:
        choice = MethodChoice(context.settings)
        self.limits = RecordedLimits(context)
        settings = context.settings
        self.copies = DiskCopies(settings.state_dir, settings.source.host, context.reporter.now)
        self.lazy = LazyMove(CapsuleStore(settings.capsule_dir), settings.tickets)
        self.preconditions = Preconditions(context.hosts, settings, self.copies, self.lazy)
        self.verification = Verification(context, self.limits)
        self.admission = Admission(context, self.preconditions, choice, self.verification)
        run = MigrationRun(context, self.verification)
        self.migration = GuestMigration(context, self.preconditions, choice, run, self.limits, self.copies, self.lazy)
        self.adoption = Adoption(context, choice, self.verification)
