# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: makes the images that a guest's disks are copied to, and removes those of a copy that
# failed.
#
# libvirt would make missing ones by itself, but it also takes whatever it finds at the path and writes over it. A
# volume that is made here is new for sure: libvirt refuses to make one where something is.

from __future__ import annotations

import contextlib
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import copy_destination
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage_pools import storage_pools


class Image(t.NamedTuple):
    """An image at a destination.

    Attributes:
        pool, volume: its names there.
        path: where it is.
    """

    pool: str
    volume: str
    path: str


def planned(connection: t.Any, disks: t.Sequence[t.Mapping[str, t.Any]]) -> list[tuple[t.Mapping[str, t.Any], Image]]:
    """Where each disk goes; none for a disk that has no pool there, which libvirt will refuse.

    Args:
        connection: to the destination's libvirtd.
        disks: those that are copied.
    """
    pools = storage_pools(connection) or []
    found = []
    for disk in disks:
        pool = copy_destination.pool_of(disk, pools)
        if pool is not None:
            volume = copy_destination.volume_of(disk)
            found.append((disk, Image(pool["name"], volume, copy_destination.path_of(disk, pool))))
    return found


def make(
    connection: t.Any,
    domain: t.Any,
    host: str,
    images: t.Sequence[tuple[t.Mapping[str, t.Any], Image]],
    ours: t.Collection[str],
) -> list[Image]:
    """Make the images, empty and as large as the disks; returns those that were made.

    Args:
        connection: to the destination's libvirtd, a writable one.
        domain: the guest's ``virDomain`` at its source.
        host: the destination's name.
        images: of C(planned).
        ours: paths of old copies of this very guest, which are removed first.

    Raises:
        VirtError: something is at one of the paths, or an image cannot be made. Then none is left.
    """
    made: list[Image] = []
    try:
        for disk, image in images:
            pool = connection.storagePoolLookupByName(image.pool)
            if image.path in ours:
                _delete(pool, image.volume)
            pool.createXML(_volume_xml(disk, image, _capacity(domain, disk)), 0)
            made.append(image)
    except virt.libvirt.libvirtError as error:
        remove(connection, made)
        raise _cannot_make(domain.name(), host, disk, image, error) from error
    return made


def remove(connection: t.Any, images: t.Iterable[Image]) -> list[str]:
    """Remove images that a copy has left unfinished; returns what could not be removed, in words."""
    faults = []
    for image in images:
        try:
            _delete(connection.storagePoolLookupByName(image.pool), image.volume)
        except virt.libvirt.libvirtError as error:
            faults.append(f"the unfinished copy {image.path} could not be removed: {error}")
    return faults


def _delete(pool: t.Any, volume: str) -> None:
    libvirt = virt.libvirt
    try:
        pool.storageVolLookupByName(volume).delete(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise


def _capacity(domain: t.Any, disk: t.Mapping[str, t.Any]) -> int:
    """The size of the disk as the guest sees it now: it may have grown since the snapshot."""
    with contextlib.suppress(virt.libvirt.libvirtError):
        return int(domain.blockInfo(disk["target"], 0)[0])
    return int(disk["capacity_bytes"] or 0)


def _volume_xml(disk: t.Mapping[str, t.Any], image: Image, capacity: int) -> str:
    root = ET.Element("volume")
    ET.SubElement(root, "name").text = image.volume
    ET.SubElement(root, "capacity", unit="bytes").text = str(capacity)
    if disk["type"] != "block":
        # Without this, older releases allocate all of it.
        ET.SubElement(root, "allocation", unit="bytes").text = "0"
        ET.SubElement(ET.SubElement(root, "target"), "format", type=disk["format"] or "raw")
    return ET.tostring(root, encoding="unicode")


def _cannot_make(guest: str, host: str, disk: t.Mapping[str, t.Any], image: Image, error: t.Any) -> virt.VirtError:
    libvirt = virt.libvirt
    if error.get_error_code() == libvirt.VIR_ERR_STORAGE_VOL_EXIST or "already exists" in str(error):
        pool = {"name": image.pool, "path": image.path.rpartition("/")[0]}
        return virt.VirtError(copy_destination.already_there(host, guest, disk, pool), error.get_error_code())
    return virt.VirtError(
        refusal(
            "copy_not_made",
            f"{host} cannot make {image.path}, to which disk {disk['target']} of {guest} would be copied: {error}",
            f"see on {host} why not: virsh pool-info {image.pool}",
        ),
        error.get_error_code(),
    )
