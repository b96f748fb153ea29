# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Turn a guest's live XML into its part of a snapshot (docs/contracts.md, "Snapshot", ``domains``)."""

from __future__ import annotations

import copy
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent, xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import memory_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.libvirt_units import amount
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import NAMESPACE
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import loopback
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import requirements
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import whole_number

#: For each type of disk: the attribute of <source> that says where it is.
_SOURCE_ATTRIBUTES = {"file": "file", "block": "dev", "dir": "dir", "vhostuser": "path", "vhostvdpa": "dev"}

#: Protocols with one server. Clusters such as Ceph, Gluster and Sheepdog are the same ones from every host, through a
#: daemon on the host itself as well.
_SINGLE_SERVER = ("nbd", "iscsi", "ssh", "nfs", "http", "https", "ftp", "ftps", "tftp", "vxhs")

#: For each type of interface: the attribute of <source> that says what it is attached to.
_INTERFACE_ATTRIBUTES = {
    "bridge": "bridge",
    "network": "network",
    "direct": "dev",
    "vdpa": "dev",
    "vhostuser": "path",
    "ethernet": "dev",
    "internal": "name",
    "vds": "switchid",
}


def parse(xml: str) -> ET.Element:
    """The domain element of libvirt's XML."""
    return xml_text.parsed(xml)


def describe(root: ET.Element, *, pages: memory_xml.Pages = memory_xml.USUAL_PAGES) -> dict[str, t.Any]:
    """What the XML alone says about a guest.

    What needs the host (state, sizes, whether a disk is shared) is null here and filled in by the caller.
    """
    os_type = root.find("os/type")
    return {
        "name": root.findtext("name") or "",
        "uuid": root.findtext("uuid") or "",
        "type": root.get("type"),
        "arch": os_type.get("arch") if os_type is not None else None,
        "machine": os_type.get("machine") if os_type is not None else None,
        "emulator": root.findtext("devices/emulator"),
        "vcpus": _vcpus(root),
        "memory_bytes": amount(root.find("memory")),
        "hugepage_bytes": memory_xml.largest_page(root, pages),
        "memory_parts": memory_xml.parts(root, pages),
        "cpu": cpu(root),
        "disks": [disk(element) for element in root.findall("devices/disk")],
        "interfaces": [interface(element) for element in root.findall("devices/interface")],
        "tpm": root.find("devices/tpm/backend[@type='emulator']") is not None,
        "metadata": metadata(root),
        "requires": requirements(root),
    }


def cpu(root: ET.Element) -> dict[str, t.Any]:
    """The guest's CPU; ``xml`` is what a destination can be asked about."""
    element = root.find("cpu")
    if element is None:
        return {"mode": None, "model": None, "xml": None}
    return {
        "mode": element.get("mode") or ("custom" if element.find("model") is not None else None),
        "model": element.findtext("model"),
        "xml": cpu_xml(element),
    }


def cpu_xml(element: ET.Element) -> str | None:
    """The CPU without what makes equal CPUs of different guests look different: topology, NUMA and white space.

    None for one that is nested deeper than Python can write. libvirt reads 256 levels at most.
    """
    bare = copy.deepcopy(element)
    for tag in ("topology", "numa"):
        for child in bare.findall(tag):
            bare.remove(child)
    for child in bare.iter():
        child.tail = None
        if child.text is not None and not child.text.strip():
            child.text = None
    try:
        return ET.tostring(bare, encoding="unicode")
    except RecursionError:
        return None


def disk(element: ET.Element) -> dict[str, t.Any]:
    """One disk.

    ``backing`` are the images below the first, nearest first; ``layers`` are these and all data files, each with its
    ``type``, ``source`` and ``role`` (C(backing) or C(data)). ``servers`` are those of network disks with one server.
    """
    driver = element.find("driver")
    below = layers(element)
    target = element.find("target")
    found = servers(element)
    return {
        "target": target.get("dev") if target is not None else None,
        "device": element.get("device", "disk"),
        "type": element.get("type"),
        "format": driver.get("type") if driver is not None else None,
        "source": source(element),
        "backing": [layer["source"] for layer in below if layer["role"] == "backing"],
        "layers": below,
        "readonly": _is_readonly(element),
        "shareable": element.find("shareable") is not None,
        "startup_policy": _startup_policy(element),
        "cache": driver.get("cache") if driver is not None else None,
        "capacity_bytes": None,
        "allocation_bytes": None,
        "shared": None,
        "shared_why": None,
        **({"servers": found} if found else {}),
    }


def servers(element: ET.Element) -> list[str]:
    """The servers of a disk and of all that it rests on, as the XML names them; without those on the host itself."""
    sources = [found for found in element.iter("source") if found.get("protocol") in _SINGLE_SERVER]
    names = {host.get("name") or "" for found in sources if not _server(found) for host in found.findall("host")}
    return sorted(name for name in names if name and not _is_here(name))


def source(element: ET.Element) -> str | None:
    """Where a disk (or a layer of it) is, as one string; None for an empty drive.

    >>> source(ET.fromstring("<disk type='network'><source protocol='rbd' name='pool/image'/></disk>"))
    'rbd:pool/image'
    """
    found = element.find("source")
    kind = element.get("type", "")
    if found is None:
        return None
    if kind == "network":
        return f"{found.get('protocol')}{_server(found)}:{found.get('name') or ''}"
    if kind == "volume":
        return f"{found.get('pool')}/{found.get('volume')}"
    if kind == "nvme":
        return address(found.find("address"))
    return found.get(_SOURCE_ATTRIBUTES.get(kind, "file"))


def is_served_here(found: ET.Element) -> bool:
    """Whether the server of a network ``<source>`` is this host, so that another host finds something else there."""
    return found.get("protocol") in _SINGLE_SERVER and bool(_server(found))


def _server(found: ET.Element) -> str:
    """What a source's protocol says of a server on this very host: C(+unix), C(+localhost) or nothing."""
    hosts = found.findall("host")
    if not hosts or found.get("protocol") not in _SINGLE_SERVER:
        return ""
    if hosts[0].get("transport") == "unix":
        return "+unix"
    return "+localhost" if all(_is_here(host.get("name")) for host in hosts) else ""


def _is_here(name: str | None) -> bool:
    """Whether a server's name or address means this host; libvirt's default is localhost."""
    return name is None or loopback.is_loopback(name) or loopback.is_unspecified(name)


def address(element: ET.Element | None) -> str | None:
    """A PCI address as people write it.

    >>> address(ET.fromstring("<address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/>"))
    '0000:3b:00.0'
    """
    if element is None or element.get("bus") is None:
        return None
    try:
        numbers = [int(element.get(part, "0"), 0) for part in ("domain", "bus", "slot", "function")]
    except ValueError:
        return None
    return "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers)


def interface(element: ET.Element) -> dict[str, t.Any]:
    """One network interface."""
    kind = element.get("type", "")
    found = element.find("source")
    mac = element.find("mac")
    what = found.get(_INTERFACE_ATTRIBUTES.get(kind, "dev")) if found is not None else None
    if kind == "hostdev" and found is not None:
        what = address(found.find("address"))
    return {"type": kind, "source": what, "mac": mac.get("address") if mac is not None else None}


def metadata(root: ET.Element) -> dict[str, t.Any]:
    """What the operator wrote into the guest under the collection's namespace.

    An intent that makes no sense is passed on as it is written: whoever merges it with the run's names the guest.
    """
    result: dict[str, t.Any] = {"home": None, "group": {"apart": None, "together": None}, "intent": {}}
    element = root.find(f"metadata/{{{NAMESPACE}}}guest")
    if element is None:
        return result
    for name, value in element.attrib.items():
        if name == "group":
            result["group"]["apart"] = value or None
        elif name == "together":
            result["group"]["together"] = value or None
        elif name == "home":
            result["home"] = value or None
        elif name != "intent" and not name.startswith("{"):
            result[name] = value
    wanted = element.find(f"{{{NAMESPACE}}}intent")
    if wanted is not None:
        try:
            result["intent"] = intent.stated(wanted.attrib)
        except intent.IntentError:
            result["intent"] = dict(wanted.attrib)
    return result


def _vcpus(root: ET.Element) -> int | None:
    element = root.find("vcpu")
    if element is None:
        return None
    return whole_number(element.get("current") or element.text or "1")


def layers(element: ET.Element) -> list[dict[str, t.Any]]:
    """All images that a disk rests on, nearest first: data files, backing images, and their data files."""
    found: list[dict[str, t.Any]] = []
    layer: ET.Element | None = element
    while layer is not None:
        stores = (*layer.findall("source/dataStore"), *layer.findall("dataStore"))
        found += [{"type": store.get("type"), "source": source(store), "role": "data"} for store in stores]
        layer = layer.find("backingStore")
        if layer is None or not layer.get("type"):
            break
        found.append({"type": layer.get("type"), "source": source(layer), "role": "backing"})
    return [one for one in found if one["source"]]


def _startup_policy(element: ET.Element) -> str | None:
    """Where a medium may be missing at the destination: C(optional) or C(requisite).

    A hard disk may have C(optional) as well. But a guest must never lose a disk by a move. And libvirt lets no guest go
    that can write to a medium on local storage.
    """
    found = element.find("source")
    policy = found.get("startupPolicy") if found is not None else None
    removable = element.get("device") in ("cdrom", "floppy") and _is_readonly(element)
    return policy if removable and policy in ("optional", "requisite") else None


def _is_readonly(element: ET.Element) -> bool:
    """libvirt makes every CD read-only."""
    return element.find("readonly") is not None or element.get("device") == "cdrom"
