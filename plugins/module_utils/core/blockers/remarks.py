# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What to know of a guest that may be moved: what nobody can tell beforehand, and what it loses on the way."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import directories, host_devices
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import (
    Facts,
    Refusals,
    quoted_name,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: The namespace of what libvirt passes to QEMU as it is.
_QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
_ASKED_LATE = "libvirt asks QEMU when the move begins, and a guest that cannot move stays as it is"

Disks = t.Sequence[t.Mapping[str, t.Any]]


def remarks(root: ET.Element, facts: Facts, disks: Disks) -> list[Refusal]:
    """What is worth a line before the guest moves; nothing of it keeps the guest.

    Args:
        root: the guest's live XML.
        facts: from its host.
        disks: as the snapshot describes them.
    """
    return [
        *_own_arguments(root),
        *_passed_through(root, facts),
        *_mounted_9p(root),
        *_dropped_media(root, disks),
    ]


def _own_arguments(root: ET.Element) -> Refusals:
    for kind in ("commandline", "override"):
        found = root.find(_QEMU + kind)
        if found is not None and len(found):
            yield refusal(
                "qemu_arguments",
                f"QEMU has arguments of the operator's own (qemu:{kind}), of which nothing is known",
                "see that what they name is at the destination too, and that QEMU can migrate it",
            )


def _passed_through(root: ET.Element, facts: Facts) -> Refusals:
    for element in (*root.findall("devices/hostdev"), *root.findall("devices/interface")):
        if host_devices.is_unplugged_by_libvirt(element) or not host_devices.qemu_decides(element, facts):
            continue
        place = host_devices.place_of(element)
        if element.get("type") == "vdpa":
            found = element.find("source")
            what = f"vDPA device {found.get('dev') if found is not None else '?'}"
        else:
            bus = "mediated" if element.get("type") == "mdev" else "PCI"
            what = f"{bus} device {place} ({facts.drivers[place or '']})"
        yield refusal(
            "passed_through",
            f"{what} of the host is passed through, and only QEMU knows whether it can be migrated",
            f"have the same device under the same name at the destination; {_ASKED_LATE}",
        )


def _mounted_9p(root: ET.Element) -> Refusals:
    for element in root.findall("devices/filesystem"):
        if directories.driver_of(element) in ("path", "handle"):
            yield refusal(
                "mounted_9p",
                f"the host's directory {directories.directory(element)} is offered to the guest by 9p, and QEMU cannot "
                "migrate the guest while it has that mounted",
                f"unmount it in the guest, and have the directory at the destination; {_ASKED_LATE}",
            )


def _dropped_media(root: ET.Element, disks: Disks) -> Refusals:
    for disk in disks:
        if disk.get("startup_policy") and disk.get("shared") is False:
            yield refusal(
                "dropped_medium",
                f"the medium in {disk['target']} ({disk['source']}) is on local storage: the guest arrives without it "
                "if the destination does not have it",
                f"copy it there, or take it out (virsh change-media {quoted_name(root)} {disk['target']} --eject)",
            )
