# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Expect what is sent of the disks of a guest that returns to a host where it has left copies of them."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import copied_disks, copy_destination

#: The first QEMU whose qcow2 files hold single blocks of 4 KiB in clusters that are larger.
QEMU_SUBCLUSTERS = (5, 2, 0)
#: Values of C(disks) in an intent with which only what differs is sent, where that can be.
MODES = ("copy", "delta")


def too_old(source: Snapshot, destination: Snapshot) -> str | None:
    """Why overlays that hold single blocks cannot be used between two hosts, in words; None where they can."""
    for side in (source, destination):
        found = (side.get("versions") or {}).get("qemu")
        version = versions.parsed(found)
        if version is None or version < QEMU_SUBCLUSTERS:
            return f"QEMU {found or 'of an unknown version'} of {side['host']} has no subclusters (5.2 or later)"
    return None


def expected_bytes(disk: t.Mapping[str, t.Any]) -> int | None:
    """What of a disk will differ from the copy that it was moved with; None: nobody knows.

    QEMU counts what the guest has written since it came. A block that was written twice is sent once, so the disk's
    data is the most.

    >>> expected_bytes({"written_bytes": 4096, "data_bytes": 10**9})
    4096
    """
    known = [int(disk[key]) for key in ("written_bytes", "data_bytes") if disk.get(key) is not None]
    return min(known) if disk.get("written_bytes") is not None else None


def with_expected(guest: Domain, destination: Snapshot, intent: Intent) -> Domain:
    """The guest, with C(delta_bytes) of each disk that has an old copy with digests at a destination.

    Args:
        guest: of the source's snapshot.
        destination: the snapshot of the host that it may go to.
        intent: a complete intent.
    """
    left = {
        copy["path"]
        for copy in destination.get("left_copies") or ()
        if copy["uuid"] == guest["uuid"] and copy.get("digests")
    }
    if not left or intent.get("disks", "copy") not in MODES:
        return guest
    return {**guest, "disks": [_with(disk, destination, left) for disk in guest.get("disks") or ()]}


def _with(disk: t.Mapping[str, t.Any], destination: Snapshot, left: t.Collection[str]) -> dict[str, t.Any]:
    if not copied_disks.is_copied(disk) or disk["type"] != "file":
        return dict(disk)
    pool = copy_destination.pool_of(disk, destination.get("storage_pools") or ())
    if pool is None or copy_destination.path_of(disk, pool) not in left:
        return dict(disk)
    return {**disk, "delta_bytes": expected_bytes(disk)}
