# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Disks of which a part is still at the host that the guest came from: how a definition says so.

The lowest layer of such a disk is an NBD server on a unix socket of the host's forwarder.
"""

from __future__ import annotations

import re
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: The sockets of forwarders are here, in one folder for each ticket. QEMU must get through.
SOCKETS = "/run/kvmops/fill"
#: How long requests of the guest wait for the source before the guest is paused: most servers reboot in less.
WAIT_S = 300
#: The first libvirt that lets requests wait (C(<reconnect delay>)). Without it the guest is paused by each cut.
LIBVIRT_RECONNECT = (9, 2, 0)
#: What every export is called.
EXPORT_NAME = "disk"
_SOCKET = re.compile(re.escape(SOCKETS) + r"/(?P<ticket>[A-Za-z0-9-]{8,64})/(?P<slot>\d{1,3})")


class LazyDisk(t.NamedTuple):
    """A disk that is not all here.

    Attributes:
        target: its name in the guest.
        path: its image on this host.
        ticket, slot: what it is called at the source.
    """

    target: str
    path: str
    ticket: str
    slot: int


def socket_of(ticket: str, slot: int) -> str:
    """Where the forwarder has a disk.

    >>> socket_of("fill-0123abcd", 2)
    '/run/kvmops/fill/fill-0123abcd/2'
    """
    return f"{SOCKETS}/{ticket}/{slot}"


def lazy_disks(root: ET.Element) -> list[LazyDisk]:
    """The disks of a definition that are not all here."""
    found = []
    for disk in root.findall("devices/disk"):
        for host in disk.iterfind(".//backingStore/source[@protocol='nbd']/host[@transport='unix']"):
            match = _SOCKET.fullmatch(host.get("socket") or "")
            source, target = disk.find("source"), disk.find("target")
            if match and source is not None and target is not None:
                place = str(target.get("dev")), str(source.get("file"))
                found.append(LazyDisk(*place, match.group("ticket"), int(match.group("slot"))))
    return found


def make_lazy(disk: ET.Element, path: str, ticket: str, slot: int, wait_s: int = WAIT_S) -> None:
    """Let a disk of a definition be an image that rests on a disk at the source.

    Errors stop the guest, so that none of them reaches it.

    Args:
        disk: the element, which is changed.
        path: the image, a qcow2 file.
        ticket, slot: what the disk is called at the source.
        wait_s: how long a request waits for the source.
    """
    for tag in ("source", "backingStore", "mirror"):
        for old in disk.findall(tag):
            disk.remove(old)
    disk.set("type", "file")
    driver = disk.find("driver")
    if driver is None:
        driver = ET.SubElement(disk, "driver", name="qemu")
    driver.set("type", "qcow2")
    driver.set("error_policy", "stop")
    driver.set("rerror_policy", "stop")
    ET.SubElement(disk, "source", file=path)
    store = ET.SubElement(disk, "backingStore", type="network")
    ET.SubElement(store, "format", type="raw")
    source = ET.SubElement(store, "source", protocol="nbd", name=EXPORT_NAME)
    ET.SubElement(source, "host", transport="unix", socket=socket_of(ticket, slot))
    ET.SubElement(source, "reconnect", delay=str(wait_s))
    ET.SubElement(store, "backingStore")


def unreadable_here(host: t.Mapping[str, t.Any], otherwise: str) -> Refusal | None:
    """Why guests of a host cannot wait for a disk that is elsewhere; None where nothing is known against it.

    Args:
        host: as much of its snapshot as has C(host) and C(versions).
        otherwise: what else an operator can do.
    """
    found = versions.parsed((host.get("versions") or {}).get("libvirt"))
    if found is None or found >= LIBVIRT_RECONNECT:
        return None
    name, needed = host["host"], versions.shown(LIBVIRT_RECONNECT)
    return refusal(
        "lazy_libvirt",
        f"libvirt {versions.shown(found)} of {name} cannot let a guest wait for a disk; that needs {needed}",
        f"upgrade libvirt on {name} to {needed} or later, or {otherwise}",
    )


def put_on(disk: ET.Element, layers: t.Sequence[tuple[str, str]]) -> None:
    """Let a disk of a definition be files of this host.

    The whole chain is named, so that libvirt does not follow what an image says of its backing file.

    Args:
        disk: the element, which is changed.
        layers: path and format of each file, the one that the guest writes to first.
    """
    for tag in ("source", "backingStore", "mirror"):
        for old in disk.findall(tag):
            disk.remove(old)
    driver = disk.find("driver")
    if driver is None:
        driver = ET.SubElement(disk, "driver", name="qemu")
    driver.set("type", layers[0][1])
    ET.SubElement(disk, "source", file=layers[0][0])
    parent = disk
    for path, form in layers[1:]:
        parent = ET.SubElement(parent, "backingStore", type="file")
        ET.SubElement(parent, "format", type=form)
        ET.SubElement(parent, "source", file=path)
    ET.SubElement(parent, "backingStore")


def backing_of(ticket: str, slot: int) -> str:
    """What the header of such an image says that it rests on, for QEMU's tools."""
    return f"nbd+unix:///{EXPORT_NAME}?socket={socket_of(ticket, slot)}"
