# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Devices of the host that a guest has: passed through, or shared with it."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import (
    Facts,
    Refusals,
    quoted_name,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml

#: The first QEMU that migrates PCI devices without an experimental switch (version 2 of the kernel's VFIO protocol).
QEMU_VFIO = (8, 1, 0)
#: The first QEMU that turns to shadow virtqueues to migrate a vDPA device.
QEMU_VDPA = (8, 0, 0)
#: The generic driver of the kernel. Only drivers for one kind of device can save its state.
GENERIC_DRIVER = "vfio-pci"
#: Models of mediated devices that QEMU cannot migrate (hw/vfio/ap.c and ccw.c).
UNMIGRATABLE_MDEV_MODELS = ("vfio-ap", "vfio-ccw")


def host_devices(root: ET.Element, facts: Facts) -> Refusals:
    """Passed through by ``<hostdev>``."""
    for element in root.findall("devices/hostdev"):
        if is_unplugged_by_libvirt(element) or is_own_initiator(element):
            continue
        kind = element.get("type") or element.get("mode") or "unknown"
        found = element.find("source")
        if kind == "usb":
            if found is None or found.get("startupPolicy") not in ("optional", "requisite"):
                yield refusal(
                    "usb_hostdev",
                    f"USB device {_usb(found)} of the host is passed through and must be there wherever the guest runs",
                    "detach it, or give its <source> a startupPolicy='optional' so that the guest may run without it",
                )
            continue
        if qemu_decides(element, facts):
            continue
        yield refusal(
            "mdev" if kind == "mdev" else "hostdev",
            f"{named(element)} of the host is passed through{_by(element, facts)}",
            f"detach it (virsh detach-device {quoted_name(root)} FILE), or shut the guest down",
        )


def host_interfaces(root: ET.Element, facts: Facts) -> Refusals:
    """Network interfaces that are devices of the host."""
    for element in root.findall("devices/interface"):
        described = guest_xml.interface(element)
        mac = described["mac"] or "?"
        if described["type"] == "hostdev":
            if not is_unplugged_by_libvirt(element) and not qemu_decides(element, facts):
                yield refusal(
                    "hostdev_interface",
                    f"network interface {mac} is a device of the host passed through "
                    f"({described['source'] or 'SR-IOV'}){_by(element, facts)}",
                    "pair it with a virtio interface (<teaming>), so that libvirt unplugs it for the move, or detach "
                    "it",
                )
        elif described["type"] == "vdpa" and not qemu_decides(element, facts):
            yield refusal(
                "vhost_vdpa",
                f"network interface {mac} is a vDPA device of the host ({described['source'] or '?'})",
                f"detach it: virsh detach-interface {quoted_name(root)} vdpa --mac {mac}",
            )


def shared_memory(root: ET.Element, dummy: Facts) -> Refusals:
    """Memory that several guests of this host share."""
    for element in root.findall("devices/shmem"):
        model = element.find("model")
        kind = (model.get("type") if model is not None else None) or "ivshmem"
        if kind == "ivshmem" or element.get("role") != "master":
            yield refusal(
                "shmem",
                f"memory {element.get('name')} is shared with others on this host ({kind})",
                f"detach it: virsh detach-device {quoted_name(root)} FILE",
            )


class _Passed(t.NamedTuple):
    """A device that is told by an element alone: paths, attribute and its values, and the words."""

    paths: tuple[str, ...]
    attribute: str
    values: tuple[str, ...]
    code: str
    reason: str
    remedy: str


_PASSED = (
    _Passed(
        ("devices/video/model/acceleration",),
        "accel3d",
        ("yes",),
        "virgl",
        "the guest's display draws with the host's GPU (virgl)",
        "set accel3d='no'; needs a restart of the guest",
    ),
    _Passed(
        ("devices/smartcard",),
        "mode",
        ("host", "host-certificates"),
        "smartcard",
        "a smart card of the host is passed through",
        "detach it, or use mode='passthrough'",
    ),
    _Passed(
        ("devices/serial", "devices/console", "devices/channel"),
        "type",
        ("dev",),
        "host_serial",
        "a serial port of the host is passed through",
        "detach it, or shut the guest down",
    ),
    _Passed(
        ("devices/parallel",),
        "type",
        ("dev",),
        "host_parallel",
        "a parallel port of the host is passed through",
        "detach it, or shut the guest down",
    ),
    _Passed(
        ("devices/input",),
        "type",
        ("passthrough", "evdev"),
        "host_input",
        "an input device of the host is passed through",
        "detach it, or shut the guest down",
    ),
)


def passed_ports(root: ET.Element, dummy: Facts) -> Refusals:
    """Ports, cards and the GPU of the host."""
    for one in _PASSED:
        found = (element for path in one.paths for element in root.findall(path))
        if any(element.get(one.attribute) in one.values for element in found):
            yield refusal(one.code, one.reason, one.remedy)


def qemu_decides(element: ET.Element, facts: Facts) -> bool:
    """Whether nobody but QEMU knows if this device can be migrated.

    libvirt asks QEMU when a migration begins, before anything is sent. To ask earlier takes a command that marks the
    guest as tainted for as long as it runs.
    """
    kind = element.get("type")
    qemu = facts.qemu or (0,)
    if kind == "vdpa":
        return qemu >= QEMU_VDPA
    driver = facts.drivers.get(place_of(element) or "")
    if qemu < QEMU_VFIO or driver is None:
        return False
    if kind == "mdev":
        return element.get("model") not in UNMIGRATABLE_MDEV_MODELS
    return kind in ("pci", "hostdev") and driver != GENERIC_DRIVER


def named(element: ET.Element) -> str:
    """The device of a ``<hostdev>``, for a sentence."""
    kind = element.get("type") or element.get("mode") or "unknown"
    return {
        "pci": f"PCI device {place_of(element) or '?'}",
        "mdev": f"mediated device {place_of(element) or '?'}",
        "scsi": "a SCSI device",
        "scsi_host": "a SCSI host adapter",
    }.get(kind, f"a device ({kind})")


def place_of(element: ET.Element) -> str | None:
    """The PCI address or UUID of a device that is passed through."""
    found = element.find("source/address")
    if found is None:
        return None
    return found.get("uuid") or guest_xml.address(found)


def is_unplugged_by_libvirt(element: ET.Element) -> bool:
    """libvirt takes the transient half of a team out before the move, and puts one in again afterwards."""
    teaming = element.find("teaming")
    return teaming is not None and teaming.get("type") == "transient"


def is_own_initiator(element: ET.Element) -> bool:
    """Whether QEMU itself talks to the storage: an iSCSI LUN is at the same place wherever the guest runs."""
    found = element.find("source[@protocol='iscsi']")
    return found is not None and not guest_xml.is_served_here(found)


def _by(element: ET.Element, facts: Facts) -> str:
    driver = facts.drivers.get(place_of(element) or "")
    return f" by {driver}, which cannot migrate it" if driver == GENERIC_DRIVER else ""


def _usb(found: ET.Element | None) -> str:
    if found is None:
        return "?"
    vendor, product, element = found.find("vendor"), found.find("product"), found.find("address")
    if vendor is not None and product is not None:
        return ":".join((part.get("id") or "?").replace("0x", "") for part in (vendor, product))
    return f"{element.get('bus')}-{element.get('device')}" if element is not None else "?"
