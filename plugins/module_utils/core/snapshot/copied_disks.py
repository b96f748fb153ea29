# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find the disks that must be copied over the network, because the destination has no access to them."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent


def is_copied(disk: t.Mapping[str, t.Any]) -> bool:
    """Whether a disk must be copied along: writable, and out of the destination's sight."""
    return (
        bool(disk.get("source"))
        and disk.get("shared") is False
        and not disk.get("readonly")
        and not disk.get("shareable")
    )


def to_copy(guest: Domain, intent: Intent) -> list[dict[str, t.Any]]:
    """The disks of a guest that go along, each with ``copy_bytes``: what has to be copied of it, or None when unknown.

    An image is copied as far as it is allocated; a disk that is not thin, whole.
    """
    if not intent["allow_storage_copy"]:
        return []
    return [
        {**disk, "copy_bytes": disk.get("allocation_bytes") or disk.get("capacity_bytes")}
        for disk in guest.get("disks") or []
        if is_copied(disk)
    ]
