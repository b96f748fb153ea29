# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what libvirt says of a guest that is saved or started, and its definition with other files.

from __future__ import annotations

import copy
import re
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.guest_xml import parse
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

AGENT_CHANNEL = "org.qemu.guest_agent.0"


class GuestDisk(t.NamedTuple):
    """A disk that the guest writes to.

    Attributes:
        target: in the guest, such as C(vda).
        kind: as libvirt says, such as C(file).
        path: what it is: a file, a device, a name on a server.
        form: C(raw), C(qcow2) and so on.
    """

    target: str
    kind: str
    path: str
    form: str


class GuestLook(t.NamedTuple):
    """A guest as libvirt shows it at one moment.

    Attributes:
        name, uuid: of the guest.
        is_active: whether it runs, or is paused.
        is_paused: whether it stands still.
        live: what it runs with; what it starts with if it is off.
        persistent: what it starts with the next time; None: it has no such definition.
        autostart: whether it starts with its host.
    """

    name: str
    uuid: str
    is_active: bool
    is_paused: bool
    live: ET.Element
    persistent: ET.Element | None
    autostart: bool

    @property
    def disks(self) -> list[GuestDisk]:
        """Its disks as it runs, without those that can be taken out."""
        return disks_of(self.live)

    @property
    def nvram(self) -> str | None:
        """The file with its NVRAM."""
        found = self.live.find("os/nvram")
        if found is None:
            return None
        source = found.find("source")
        return (found.text or "").strip() or (source.get("file") if source is not None else None) or None

    @property
    def has_tpm(self) -> bool:
        """Whether libvirt emulates a TPM for it."""
        return self.live.find("devices/tpm/backend[@type='emulator']") is not None

    @property
    def has_agent(self) -> bool:
        """Whether its agent is connected."""
        target = self.live.find(f"devices/channel/target[@name='{AGENT_CHANNEL}']")
        return target is not None and target.get("state") == "connected"


def look_at(domain: t.Any, *, secure: bool) -> GuestLook:
    """A guest as it is now.

    Args:
        domain: the guest.
        secure: with passwords; only over a writable connection.
    """
    lib = virt.libvirt
    flags = lib.VIR_DOMAIN_XML_SECURE if secure else 0
    persists = bool(domain.isPersistent())
    active = bool(domain.isActive())
    return GuestLook(
        name=domain.name(),
        uuid=domain.UUIDString(),
        is_active=active,
        is_paused=active and domain.state()[0] == lib.VIR_DOMAIN_PAUSED,
        live=parse(domain.XMLDesc(flags)),
        persistent=parse(domain.XMLDesc(flags | lib.VIR_DOMAIN_XML_INACTIVE)) if persists else None,
        autostart=bool(domain.autostart()) if persists else False,
    )


def find(connection: t.Any, guest: str) -> t.Any | None:
    """The guest with this name or UUID; None: there is no such guest.

    A guest may be named like the UUID of another one. So a UUID is never taken for a name.
    """
    lib = virt.libvirt
    by_uuid = re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", guest)
    try:
        return connection.lookupByUUIDString(guest) if by_uuid else connection.lookupByName(guest)
    except lib.libvirtError as error:
        if error.get_error_code() != lib.VIR_ERR_NO_DOMAIN:
            raise
        return None


def find_or_fail(connection: t.Any, guest: str, host: str) -> t.Any:
    """The guest with this name or UUID.

    Raises:
        VirtError: there is no such guest.
    """
    domain = find(connection, guest)
    if domain is None:
        raise virt.VirtError(
            refusal(
                "no_such_guest", f"there is no guest {guest} on {host}", f"see the guests of {host}: virsh list --all"
            )
        )
    return domain


def disks_of(root: ET.Element) -> list[GuestDisk]:
    """The disks in a definition, without those that can be taken out."""
    found = []
    for element in root.findall("devices/disk"):
        target = element.find("target")
        if element.get("device", "disk") != "disk" or target is None:
            continue
        driver = element.find("driver")
        form = driver.get("type", "raw") if driver is not None else "raw"
        described = guest_xml.disk(element)
        found.append(GuestDisk(target.get("dev", ""), element.get("type", ""), str(described["source"] or ""), form))
    return found


def with_layers(root: ET.Element, overlays: t.Mapping[str, str]) -> ET.Element:
    """A definition whose disks have a new qcow2 file each, on the one that they had.

    Args:
        root: the definition; it is left as it is.
        overlays: paths of the new files, by target.
    """
    result = copy.deepcopy(root)
    for disk in result.findall("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        path = overlays.get(target.get("dev", "")) if target is not None else None
        if path is None or source is None or source.get("file") == path:
            continue
        driver = disk.find("driver")
        form = driver.get("type", "raw") if driver is not None else "raw"
        if driver is None:
            driver = ET.Element("driver", name="qemu")
            disk.insert(0, driver)
        driver.set("type", "qcow2")
        below = disk.find("backingStore")
        store = ET.Element("backingStore", type="file")
        ET.SubElement(store, "format", type=form)
        ET.SubElement(store, "source", file=source.get("file", ""))
        if below is not None:
            disk.remove(below)
            for one in below.iter("source"):
                one.attrib.pop("index", None)
            for one in (below, *below.iter("backingStore")):
                one.attrib.pop("index", None)
            store.append(below)
        source.attrib.clear()
        for child in list(source):
            source.remove(child)
        source.set("file", path)
        disk.insert(list(disk).index(source) + 1, store)
    return result


def text(root: ET.Element) -> str:
    """A definition for libvirt."""
    return ET.tostring(root, encoding="unicode")


def qemu_group(connection: t.Any) -> int | None:
    """The group that QEMU runs as on a host; None where libvirt does not say, or leaves files to root."""
    root = parse(connection.getCapabilities())
    for model in root.findall("host/secmodel"):
        if (model.findtext("model") or "").strip() == "dac":
            for label in model.findall("baselabel"):
                found = re.fullmatch(r"\+(\d{1,9}):\+(\d{1,9})", (label.text or "").strip())
                if found:
                    return int(found.group(2))
    return None
