# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Disks that cannot be handed over."""

from __future__ import annotations

import re
import shlex
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import (
    Facts,
    Refusals,
    quoted_name,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: Image formats whose QEMU driver cannot be handed over.
UNMIGRATABLE_FORMATS = ("qcow", "vdi", "vhdx", "vmdk", "vpc", "parallels")
#: Names that udev gives to drives. A volume of a block device as the medium of a drive is none of these.
_DRIVE = re.compile(r"/dev/((sr|scd|fd)\d+|(cdrom|cdrw|dvd|dvdrw|floppy)\d*)")


def disks(root: ET.Element, facts: Facts) -> Refusals:
    """Each disk by itself."""
    for element in root.findall("devices/disk"):
        disk = guest_xml.disk(element)
        yield from _disk(disk, element, quoted_name(root), facts)
        yield from _format(disk, element)
        yield from _reservations(disk, element)
        yield from _mounted(disk, element, quoted_name(root), facts)


def _disk(disk: dict[str, t.Any], element: ET.Element, guest: str, facts: Facts) -> Refusals:
    target, where = disk["target"], disk["source"]
    if element.find("transient") is not None:
        yield refusal(
            "transient_disk",
            f"disk {target} is transient: what the guest writes to it is thrown away at its end",
            "shut the guest down, or take <transient/> off that disk",
        )
    if disk["type"] == "nvme":
        yield refusal(
            "nvme_disk",
            f"disk {target} is an NVMe device of the host passed through ({where or '?'})",
            "detach it, or shut the guest down",
        )
    if disk["type"] == "vhostvdpa":
        yield refusal(
            "vhost_vdpa", f"disk {target} is a vDPA device of the host ({where or '?'})", "detach it from the guest"
        )
    if disk["type"] == "vhostuser":
        yield refusal(
            "vhostuser_disk",
            f"disk {target} is served by a program on this host over vhost-user ({where or '?'}), and libvirt cannot "
            "copy it",
            f"detach it (virsh detach-disk {guest} {target}), or shut the guest down",
        )
    if disk["type"] == "dir" and not disk["readonly"]:
        yield refusal("vvfat", f"disk {target} is a writable directory of the host ({where})", "detach it")
    if disk["type"] == "block" and _is_drive(where, facts):
        is_medium = disk["device"] in ("cdrom", "floppy")
        yield refusal(
            "host_drive",
            f"disk {target} is the drive of the host itself ({where})",
            f"eject it: virsh change-media {guest} {target} --eject"
            if is_medium
            else f"detach it (virsh detach-disk {guest} {target}), or shut the guest down",
        )


def _is_drive(where: str | None, facts: Facts) -> bool:
    return where is not None and (where in facts.drives or _DRIVE.fullmatch(where) is not None)


def _format(disk: dict[str, t.Any], element: ET.Element) -> Refusals:
    formats = [disk["format"], *(layer.get("type") for layer in element.iter("format"))]
    bad = next((name for name in formats if name in UNMIGRATABLE_FORMATS), None)
    if bad:
        yield refusal(
            "image_format",
            f"disk {disk['target']} ({disk['source'] or '?'}) is a {bad} image, which QEMU cannot migrate",
            "convert it to qcow2 or raw while the guest is off: qemu-img convert -O qcow2",
        )


def _reservations(disk: dict[str, t.Any], element: ET.Element) -> Refusals:
    """SCSI persistent reservations belong to the host that made them, unless libvirt and QEMU make them anew."""
    found = element.find("source/reservations")
    if found is None or found.get("enabled") == "no" or found.get("migration") in ("yes", "on"):
        return
    yield refusal(
        "scsi_reservations",
        f"disk {disk['target']} ({disk['source'] or '?'}) has SCSI persistent reservations, which this host makes for "
        "the guest and which do not move with it",
        "let the guest give up its reservations and take <reservations> off that disk, or shut the guest down",
    )


def _mounted(disk: dict[str, t.Any], element: ET.Element, guest: str, facts: Facts) -> Refusals:
    """Two file systems on one device destroy each other, and a copy of it would lack what the host has written.

    A disk that is shared on purpose has a file system for that; one that is only read harms nobody.
    """
    at = facts.mounted.get(str(disk["source"]))
    if at is None or disk["readonly"] or disk["shareable"]:
        return
    yield refusal(
        "device_mounted",
        f"disk {disk['target']} ({disk['source']}) is mounted on this host as well, at {at}",
        f"unmount it (umount {shlex.quote(at)}), or detach it from the guest (virsh detach-disk {guest} "
        f"{disk['target']})",
    )


def block_jobs(root: ET.Element, facts: Facts) -> Refusals:
    """Jobs that work on disks."""
    busy = list(facts.block_jobs)
    for element in root.findall("devices/disk"):
        target = guest_xml.disk(element)["target"]
        if element.find("mirror") is not None and target and target not in busy:
            busy.append(target)
    if busy:
        name = quoted_name(root)
        yield refusal(
            "block_job",
            f"a block job (copy, commit, pull or backup) works on {listed(busy)}",
            f"wait for it (virsh blockjob {name} {busy[0]} --info), or abort it (virsh blockjob {name} {busy[0]} "
            "--abort)",
        )
