# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what runs that died have left changed of guests that run here.

from __future__ import annotations

import contextlib
import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.run import past_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import taken_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    UnansweredError,
    within,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_instance import (
    MigrationLimits,
    is_same_instance,
    limits_before,
)

_KIB = 1024


def taken(state_dir: str) -> list[str]:
    """What was taken of guests by their balloons and not given back, in words."""
    found = []
    for uuid in taken_memory.guests(state_dir):
        record = taken_memory.read(state_dir, uuid)
        if record:
            size = human_bytes(record["before_kib"] * _KIB)
            found.append(f"{record['name']} has not got all its {size} back, of which a run has taken some")
    return found


def limits(connection: t.Any, state_dir: str, boot_id: str | None, *, restore: bool) -> list[str]:
    """The guests of which a run that died has changed the migration limits, in words.

    Args:
        connection: of this host.
        restore: set them as they were. No other run may be at work here.
    """
    lib = virt.libvirt
    found = []
    for domain in connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_RUNNING):
        # A guest that has just left needs no limits.
        with contextlib.suppress(lib.libvirtError, UnansweredError):
            record = past_runs.unfinished_migration(state_dir, domain.UUIDString())
            if record is None or not is_same_instance(record, domain, boot_id) or guest_state.is_migrating(domain):
                continue
            before = limits_before(record)
            if within(ANSWER_TIMEOUT_S, functools.partial(_changed, domain, before, restore=restore)):
                were = "were restored" if restore else "are not what they were"
                found.append(f"the migration limits of {domain.name()}, which a run that died had changed, {were}")
    return found


def _changed(domain: t.Any, before: MigrationLimits, *, restore: bool) -> bool:
    if restore:
        return before.restore(domain)
    downtime, speed = before.downtime_ms, before.speed_mib_s
    return (downtime is not None and domain.migrateGetMaxDowntime(0) != downtime) or (
        speed is not None and domain.migrateGetMaxSpeed(0) != speed
    )
