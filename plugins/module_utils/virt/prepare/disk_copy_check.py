# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether a destination has a place for disks that are copied with the guest, asked right
# before the copy.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import copied_disks, copy_destination
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage_pools import storage_pools


def refusals(
    connection: t.Any,
    guest: t.Mapping[str, t.Any],
    source: t.Mapping[str, t.Any],
    destination: t.Mapping[str, t.Any],
    intent: t.Mapping[str, t.Any],
    *,
    ours: t.Collection[str] = (),
    changed: t.Collection[str] = (),
) -> list[Refusal]:
    """Why a destination has no place for the guest's disks; empty when it has one, or when no disk is copied.

    Args:
        connection: to the destination's libvirtd. Over a writable one its pools are looked at anew.
        guest: the guest's part of the source's snapshot.
        source, destination: snapshots of both hosts.
        intent: a complete intent.
        ours, changed: of C(core.snapshot.copy_destination.refusals).
    """
    disks = copied_disks.to_copy(guest, intent)
    if not disks:
        return []

    def concerned(pool: t.Mapping[str, t.Any]) -> bool:
        return any(copy_destination.pool_of(disk, [pool]) for disk in disks)

    pools = storage_pools(connection, refresh=concerned)
    there = {**destination, "storage_pools": [] if pools is None else pools}
    return copy_destination.refusals(guest, source, there, intent, ours=ours, changed=changed)
