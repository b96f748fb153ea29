# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: freezes disks of a running guest: from then on it writes to a new image that rests on each
# of them. And the way back.

from __future__ import annotations

import contextlib
import os
import time
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import overlays
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.exports import FrozenDisk

#: In the name of an image to which a guest writes while its disk is exported.
MARK = "kvmops-lazy"
POLL_S = 0.1


class Frozen(t.NamedTuple):
    """A disk that was frozen, and the image that the guest writes to now."""

    disk: FrozenDisk
    overlay: str


def freeze(domain: t.Any, targets: t.Sequence[str]) -> list[Frozen]:
    """Freeze disks of a running guest, all at the same moment.

    Args:
        domain: the guest.
        targets: disks that are files.

    Raises:
        CapsuleError: an image cannot be made. Then nothing is changed.
        libvirtError: libvirt refuses. Then nothing is changed.
    """
    root = xml_text.parsed(domain.XMLDesc(0))
    frozen: list[Frozen] = []
    try:
        for disk in root.findall("devices/disk"):
            target = disk.find("target")
            if target is not None and target.get("dev") in targets:
                frozen.append(_overlay_for(domain, disk, str(target.get("dev"))))
        lib = virt.libvirt
        flags = (
            lib.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | lib.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
            | lib.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | lib.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
        )
        domain.snapshotCreateXML(_request(root, frozen), flags)
    except Exception:
        _remove(frozen)
        raise
    return frozen


def thaw(domain: t.Any, frozen: t.Sequence[Frozen], sleep: t.Callable[[float], None] = time.sleep) -> list[str]:
    """Let a running guest write to its own images again; returns what could not be done, in words."""
    faults = []
    for one in frozen:
        try:
            _commit(domain, one, sleep)
        except virt.libvirt.libvirtError as error:
            faults.append(
                f"{domain.name()} goes on with {one.overlay}, because libvirt could not put it into {one.disk.path}: "
                f"{error}"
            )
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(one.overlay)
    return faults


def _commit(domain: t.Any, one: Frozen, sleep: t.Callable[[float], None]) -> None:
    lib = virt.libvirt
    target = one.disk.target
    domain.blockCommit(target, one.disk.path, None, 0, lib.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    while True:
        job = domain.blockJobInfo(target, 0)
        if not job:
            raise lib.libvirtError("the job ended by itself")
        if job["cur"] == job["end"] and job["end"]:
            with contextlib.suppress(lib.libvirtError):
                domain.blockJobAbort(target, lib.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
                return
        sleep(POLL_S)


def _overlay_for(domain: t.Any, disk: ET.Element, target: str) -> Frozen:
    source, driver = disk.find("source"), disk.find("driver")
    path = source.get("file") if source is not None else None
    if not path:
        raise not_a_file(domain.name(), target)
    form = str(driver.get("type")) if driver is not None else "raw"
    size_bytes = int(domain.blockInfo(target)[0])
    overlay = _free_name(path)
    overlays.make(overlay, size_bytes, path, form)
    return Frozen(FrozenDisk(target, path, form, size_bytes), overlay)


def not_a_file(name: str, target: str) -> CapsuleError:
    """The refusal of a disk that cannot be frozen."""
    return CapsuleError(
        "lazy_not_a_file",
        f"disk {target} of {name} is no file, so it cannot be frozen for the time of the move",
        "set disks to copy for this guest",
    )


def _free_name(path: str) -> str:
    """A name beside an image that nothing has."""
    stem = os.path.splitext(path)[0].partition(f".{MARK}")[0]
    number = 1
    while os.path.lexists(f"{stem}.{MARK}-{number}.qcow2"):
        number += 1
    return f"{stem}.{MARK}-{number}.qcow2"


def _request(root: ET.Element, frozen: t.Sequence[Frozen]) -> str:
    snapshot = ET.Element("domainsnapshot")
    disks = ET.SubElement(snapshot, "disks")
    overlay_of = {one.disk.target: one.overlay for one in frozen}
    for target in root.iterfind("devices/disk/target"):
        name = str(target.get("dev"))
        disk = ET.SubElement(disks, "disk", name=name, snapshot="external" if name in overlay_of else "no")
        if name in overlay_of:
            ET.SubElement(disk, "driver", type="qcow2")
            ET.SubElement(disk, "source", file=overlay_of[name])
    return ET.tostring(snapshot, encoding="unicode")


def _remove(frozen: t.Iterable[Frozen]) -> None:
    for one in frozen:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(one.overlay)
