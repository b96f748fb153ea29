# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A guest's disks, rebuilt on the files that this host has made of the capsule."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import (
    Findings,
    Layer,
    shown,
)

#: What of a driver is the guest's. Its type is that of our file.
_DRIVER = frozenset(
    [
        "name",
        "cache",
        "error_policy",
        "rerror_policy",
        "io",
        "ioeventfd",
        "event_idx",
        "discard",
        "discard_no_unref",
        "detect_zeroes",
        "iothread",
        "queues",
        "queue_size",
        "iommu",
        "ats",
        "packed",
        "page_per_vq",
        "copy_on_read",
    ]
)
#: What else of a disk is the guest's.
_KEPT = frozenset(
    [
        "target",
        "iotune",
        "serial",
        "wwn",
        "vendor",
        "product",
        "address",
        "boot",
        "geometry",
        "blockio",
        "readonly",
        "alias",
        "acpi",
    ]
)
#: What describes how the old host had it.
_REPLACED = frozenset(["source", "backingStore", "driver", "mirror", "transient", "auth"])
_REMOVABLE = ("cdrom", "floppy")


def rebuilt_disk(disk: ET.Element, findings: Findings) -> ET.Element | None:
    """The disk as it is here; None: it is left out, or refused.

    Args:
        disk: what the capsule says of it.
        findings: takes what may not come along.
    """
    target = _attribute(disk, "target", "dev") or ""
    device = disk.get("device", "disk")
    findings.attributes(disk)
    if device not in ("disk", *_REMOVABLE):
        findings.refuse(
            f"disk {shown(target)} as a {shown(device)}, which passes commands on to a device of its old host",
            "use an ordinary disk (device='disk')",
        )
        return None
    layers = findings.place.disks.get(target)
    if layers is None and device == "disk":
        findings.refuse(
            f"disk {shown(target)}, of which the capsule has no content",
            "save the guest again; if it does not need the disk, detach it first",
            "disk_not_in_capsule",
        )
        return None
    result = ET.Element("disk", {"type": "file", "device": device})
    if disk.get("model"):
        result.set("model", disk.attrib["model"])
    result.append(_driver(disk, layers, findings))
    _add_content(result, disk, target, layers, findings)
    for child in disk:
        if not findings.is_plain(child) or child.tag in _REPLACED:
            continue
        if child.tag in _KEPT:
            result.append(findings.kept(child))
        else:
            _refuse_child(child.tag, target, findings)
    return result


def _refuse_child(tag: str, target: str, findings: Findings) -> None:
    why = {
        "shareable": ("shared with other guests", "give the guest a disk of its own, and save it again"),
        "encryption": (
            "encrypted by libvirt with a secret that is not part of the capsule",
            "let the guest encrypt its disk itself (LUKS in the guest), or move the guest live",
        ),
    }
    what, remedy = why.get(
        tag, (f"with {shown(tag)}, which is not known here", "remove that, and save the guest again")
    )
    findings.refuse(f"disk {shown(target)} {what}", remedy)


def _driver(disk: ET.Element, layers: tuple[Layer, ...] | None, findings: Findings) -> ET.Element:
    old = disk.find("driver")
    attributes = {} if old is None else findings.attributes(old)
    if attributes.get("name", "qemu") != "qemu":
        findings.refuse(f"a disk with the driver {shown(attributes['name'])}", "use the driver qemu")
    kept = {name: value for name, value in attributes.items() if name in _DRIVER}
    driver = ET.Element("driver", {**kept, "name": "qemu", "type": layers[0].format if layers else "raw"})
    for child in old if old is not None else ():
        if child.tag in ("metadata_cache", "iothreads", "statistics"):
            driver.append(findings.kept(child))
    return driver


def _add_content(
    result: ET.Element, disk: ET.Element, target: str, layers: tuple[Layer, ...] | None, findings: Findings
) -> None:
    if layers:
        for layer in layers:
            named = [layer.source] if layer.source is not None else []
            findings.files.update(value for one in named for part in one.iter() for value in part.attrib.values())
            findings.files.add(layer.path)
        ET.SubElement(result, "source", file=layers[0].path)
        _add_backing(result, layers[1:])
        return
    path = _attribute(disk, "source", "file")
    if path and findings.place.files is not None and findings.place.permits(path):
        findings.files.add(path)
        ET.SubElement(result, "source", file=path)
    elif disk.find("source") is not None:
        findings.note(f"{disk.get('device')} {shown(target)} is empty: what was in it is not part of the capsule")


def _add_backing(parent: ET.Element, layers: t.Sequence[Layer]) -> None:
    """The whole chain, so that libvirt does not follow what an image itself says of its backing file."""
    for layer in layers:
        parent = ET.SubElement(parent, "backingStore", type=layer.source_type)
        ET.SubElement(parent, "format", type=layer.format)
        if layer.source is not None:
            parent.append(layer.source)
        else:
            ET.SubElement(parent, "source", file=layer.path)
    ET.SubElement(parent, "backingStore")


def _attribute(element: ET.Element, tag: str, name: str) -> str | None:
    found = element.find(tag)
    return None if found is None else found.get(name)
