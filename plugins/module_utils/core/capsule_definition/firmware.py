# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How a guest boots: its firmware is this host's own, its NVRAM is that of the capsule."""

from __future__ import annotations

import posixpath
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Findings, shown

_KEPT = frozenset(["type", "boot", "bootmenu", "bios", "smbios", "firmware"])
#: Files that a guest boots directly, which are on the host and not in the capsule.
_FILES = {"kernel": "kernel", "initrd": "initial ramdisk", "dtb": "device tree", "shim": "boot shim"}
#: Where distributions put firmware. Only root writes there.
FIRMWARE = ("/usr/share/", "/usr/lib/", "/usr/local/share/")


def rebuilt_os(element: ET.Element, findings: Findings) -> ET.Element:
    """The element C(os) as it is here."""
    result = ET.Element("os", findings.attributes(element))
    for child in element:
        if not findings.is_plain(child):
            continue
        if child.tag in _KEPT or child.tag == "cmdline":
            result.append(findings.kept(child))
        elif child.tag in _FILES:
            path = (child.text or "").strip()
            if findings.file(path, _FILES[child.tag]):
                ET.SubElement(result, child.tag).text = path
        elif child.tag == "loader":
            _add_loader(result, element, child, findings)
        elif child.tag == "nvram":
            _add_nvram(result, child, findings)
        else:
            findings.refuse(f"{shown(child.tag)} for its boot, which is not known here", "remove it, and save it again")
    return result


def _add_loader(result: ET.Element, element: ET.Element, loader: ET.Element, findings: Findings) -> None:
    path = (loader.text or "").strip()
    kept = ET.Element("loader", findings.attributes(loader))
    if kept.get("type") == "pflash":
        # Guests share this file.
        kept.set("readonly", "yes")
    if element.get("firmware"):
        # libvirt chooses the file that fits the features, as it did where the guest was made.
        result.append(ET.Element("loader", {name: kept.attrib[name] for name in ("secure",) if name in kept.attrib}))
        return
    inside = posixpath.normpath(path) == path and path.startswith(FIRMWARE)
    if not inside and path and not findings.file(path, "firmware"):
        return
    kept.text = path
    findings.files.add(path)
    result.append(kept)


def _add_nvram(result: ET.Element, nvram: ET.Element, findings: Findings) -> None:
    if nvram.get("type", "file") != "file" or len(nvram):
        findings.refuse("NVRAM that is no file", "put the NVRAM into a file, and save the guest again")
        return
    if findings.place.nvram is None:
        findings.refuse("NVRAM, and the capsule has none", "save the guest again where it runs", "nvram_not_in_capsule")
        return
    kept = ET.SubElement(result, "nvram")
    if nvram.get("format"):
        kept.set("format", nvram.attrib["format"])
    kept.text = findings.place.nvram
    findings.files.add(findings.place.nvram)
