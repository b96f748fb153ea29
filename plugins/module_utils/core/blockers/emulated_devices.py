# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Emulated devices whose state QEMU cannot send.

In QEMU's source these have ``.unmigratable = 1`` or a migration blocker. virtio-pmem has no description of its state at
all, so its queues are lost at the destination.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import (
    Facts,
    Refusals,
    Version,
    is_older,
    quoted_name,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import shown


class Device(t.NamedTuple):
    """One kind of device.

    Attributes:
        path: of its element, as ElementTree finds it.
        code: of the refusal.
        what: the device, as the end of a sentence about the guest.
        remedy: ``{guest}`` stands for the name as a shell takes it.
        since: the first QEMU that can migrate it; None: no QEMU can.
    """

    path: str
    code: str
    what: str
    remedy: str
    since: Version = None


_DETACH = "detach it (virsh detach-device {guest} FILE)"

DEVICES = (
    Device(
        "devices/serial/target[@type='usb-serial']",
        "usb_serial",
        "a USB serial port",
        f"{_DETACH}; an ISA or PCI serial port can be migrated",
    ),
    Device(
        "devices/sound[@model='usb']",
        "usb_sound",
        "a USB sound card",
        "take it out, or make it an ich9; needs a restart of the guest",
    ),
    Device(
        "devices/sound[@model='virtio']",
        "virtio_sound",
        "a virtio sound card",
        "take it out, or make it an ich9; needs a restart of the guest",
    ),
    Device("devices/crypto", "crypto", "a virtio crypto device", _DETACH),
    Device(
        "devices/interface/model[@type='usb-net']",
        "usb_net",
        "a USB network card",
        "make it a virtio interface (virsh detach-interface, virsh attach-interface)",
    ),
    Device(
        "devices/filesystem/driver[@type='mtp']", "usb_mtp", "a directory of the host as a USB device (MTP)", _DETACH
    ),
    Device(
        "devices/memory[@model='virtio-pmem']",
        "virtio_pmem",
        "virtio persistent memory (virtio-pmem)",
        "make it an NVDIMM while the guest is off",
    ),
    Device(
        "devices/iommu[@model='amd']",
        "amd_iommu",
        "an AMD IOMMU",
        "take it out; needs a restart of the guest",
        (10, 1, 0),
    ),
    Device(
        "devices/channel[@type='qemu-vdagent']",
        "vdagent",
        "a clipboard channel (qemu-vdagent)",
        _DETACH,
        (10, 1, 0),
    ),
    Device(
        "devices/video/model[@blob='on']",
        "virtio_gpu_blob",
        "a virtio display with blob resources",
        "set blob='off'; needs a restart of the guest",
        (8, 2, 0),
    ),
)


def emulated_devices(root: ET.Element, facts: Facts) -> Refusals:
    """Each kind once. Where a later QEMU can, an unknown version is no reason."""
    for device in DEVICES:
        if root.find(device.path) is None:
            continue
        if device.since is None:
            yield refusal(
                device.code,
                f"the guest has {device.what}, which QEMU cannot migrate",
                device.remedy.format(guest=quoted_name(root)),
            )
        elif is_older(facts.qemu, device.since):
            yield refusal(
                device.code,
                f"the guest has {device.what}, which QEMU {shown(facts.qemu or ())} cannot migrate",
                f"{device.remedy.format(guest=quoted_name(root))}, or upgrade QEMU to {shown(device.since)} or later "
                "and restart the guest",
            )


def nvme_emulation(root: ET.Element, dummy: Facts) -> Refusals:
    """Disks on an emulated NVMe controller, or a controller without one."""
    disks = root.findall("devices/disk/target[@bus='nvme']")
    if not disks and root.find("devices/controller[@type='nvme']") is not None:
        yield refusal(
            "nvme_emulation",
            "the guest has an emulated NVMe controller, which QEMU cannot migrate",
            "take the controller out while the guest is off",
        )
    for target in disks:
        yield refusal(
            "nvme_emulation",
            f"disk {target.get('dev')} is on an emulated NVMe controller, which QEMU cannot migrate",
            "put it on virtio or SCSI while the guest is off",
        )
