# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Turn a guest's live XML into its part of a snapshot (docs/contracts.md, "Snapshot", ``domains``)."""

from __future__ import annotations

import copy
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import NAMESPACE

#: What a host uses for ``<hugepages/>`` without a size, unless it says otherwise.
DEFAULT_HUGEPAGE_BYTES = 2 * 1024**2

_UNITS = {
    "b": 1,
    "bytes": 1,
    "kb": 10**3,
    "k": 2**10,
    "kib": 2**10,
    "mb": 10**6,
    "m": 2**20,
    "mib": 2**20,
    "gb": 10**9,
    "g": 2**30,
    "gib": 2**30,
    "tb": 10**12,
    "t": 2**40,
    "tib": 2**40,
}

#: For each type of disk: the attribute of <source> that says where it is.
_SOURCE_ATTRIBUTES = {"file": "file", "block": "dev", "dir": "dir", "vhostuser": "path", "vhostvdpa": "dev"}

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
    return ET.fromstring(xml)


def describe(root: ET.Element, *, default_hugepage_bytes: int = DEFAULT_HUGEPAGE_BYTES) -> dict[str, t.Any]:
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
        "hugepage_bytes": hugepage_bytes(root, default_hugepage_bytes),
        "cpu": cpu(root),
        "disks": [disk(element) for element in root.findall("devices/disk")],
        "interfaces": [interface(element) for element in root.findall("devices/interface")],
        "tpm": root.find("devices/tpm/backend[@type='emulator']") is not None,
        "metadata": metadata(root),
    }


def amount(element: ET.Element | None) -> int | None:
    """Bytes of an element such as ``<memory unit='KiB'>524288</memory>``; KiB is libvirt's unit where none is said."""
    if element is None or not (element.text or "").strip():
        return None
    return int((element.text or "").strip()) * _UNITS.get(element.get("unit", "KiB").lower(), 1024)


def hugepage_bytes(root: ET.Element, default: int = DEFAULT_HUGEPAGE_BYTES) -> int | None:
    """The largest huge page the guest's memory is made of; None for ordinary memory."""
    huge = root.find("memoryBacking/hugepages")
    if huge is None:
        return None
    sizes = [int(page.get("size", "0")) * _UNITS.get(page.get("unit", "KiB").lower(), 1024) for page in huge]
    return max([size for size in sizes if size], default=default)


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


def cpu_xml(element: ET.Element) -> str:
    """The CPU without what makes equal CPUs of different guests look different: topology, NUMA and white space."""
    bare = copy.deepcopy(element)
    for tag in ("topology", "numa"):
        for child in bare.findall(tag):
            bare.remove(child)
    for child in bare.iter():
        child.tail = None
        if child.text is not None and not child.text.strip():
            child.text = None
    return ET.tostring(bare, encoding="unicode")


def disk(element: ET.Element) -> dict[str, t.Any]:
    """One disk; ``backing`` are the further images it rests on, nearest first."""
    driver = element.find("driver")
    target = element.find("target")
    return {
        "target": target.get("dev") if target is not None else None,
        "device": element.get("device", "disk"),
        "type": element.get("type"),
        "format": driver.get("type") if driver is not None else None,
        "source": source(element),
        "backing": _backing(element),
        "readonly": element.find("readonly") is not None,
        "shareable": element.find("shareable") is not None,
        "cache": driver.get("cache") if driver is not None else None,
        "capacity_bytes": None,
        "allocation_bytes": None,
        "shared": None,
        "shared_why": None,
    }


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
        host = found.find("host")
        socket = host is not None and host.get("transport") == "unix"
        return f"{found.get('protocol')}{'+unix' if socket else ''}:{found.get('name') or ''}"
    if kind == "volume":
        return f"{found.get('pool')}/{found.get('volume')}"
    if kind == "nvme":
        return address(found.find("address"))
    return found.get(_SOURCE_ATTRIBUTES.get(kind, "file"))


def address(element: ET.Element | None) -> str | None:
    """A PCI address as people write it.

    >>> address(ET.fromstring("<address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/>"))
    '0000:3b:00.0'
    """
    if element is None or element.get("bus") is None:
        return None
    numbers = [int(element.get(part, "0"), 0) for part in ("domain", "bus", "slot", "function")]
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
    return int(element.get("current") or element.text or "1")


def _backing(element: ET.Element) -> list[str]:
    layers = []
    layer = element.find("backingStore")
    while layer is not None and layer.get("type"):
        where = source(layer)
        if where:
            layers.append(where)
        layer = layer.find("backingStore")
    return layers
