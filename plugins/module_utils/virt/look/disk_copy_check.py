# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether a destination has a place for disks that are copied with the guest.

from __future__ import annotations

import posixpath
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import is_copied
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


def refusals(connection: t.Any, guest: t.Mapping[str, t.Any], host: str) -> list[Refusal]:
    """Why a destination has no place for the guest's disks; empty when it has one, or when no disk is copied.

    libvirt makes a missing image by itself only in a storage pool whose directory is the image's own.

    Args:
        connection: to the destination's libvirtd; read-only is enough.
        guest: the guest's part of the snapshot.
        host: the destination's name.
    """
    files = [disk for disk in guest["disks"] if is_copied(disk) and disk["type"] == "file"]
    if not files:
        return []
    pools = _pool_directories(connection)
    homeless = [disk for disk in files if posixpath.normpath(posixpath.dirname(disk["source"])) not in pools]
    return [_no_pool(disk, guest["name"], host) for disk in homeless]


def _no_pool(disk: t.Mapping[str, t.Any], guest: str, host: str) -> Refusal:
    directory = posixpath.dirname(disk["source"])
    pool = posixpath.basename(directory) or "images"
    return refusal(
        "no_pool",
        f"{host} has no storage pool at {directory}, where disk {disk['target']} of {guest} would be copied",
        f"make one on {host}: virsh pool-create-as {pool} dir --target {directory}",
    )


def _pool_directories(connection: t.Any) -> set[str]:
    libvirt = virt.libvirt
    directories = set()
    for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        path = ET.fromstring(pool.XMLDesc(0)).findtext("target/path")
        if path:
            directories.add(posixpath.normpath(path))
    return directories
