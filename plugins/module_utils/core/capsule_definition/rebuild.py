# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A guest's definition as a capsule brings it, rebuilt from what is permitted.

What comes in is hostile: it may name any file and device of this host. So nothing is taken over that is not listed.
What the guest would miss is refused by name; what belongs to the old host only is left out, with a word about it. In
the end no path is left but those of the capsule's own files here, and those that the operator permits.
"""

from __future__ import annotations

import copy
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition import host_ends
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.disks import rebuilt_disk
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import (
    Findings,
    Place,
    shown,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.firmware import rebuilt_os
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.interfaces import (
    rebuilt_interface,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal

#: What says something of the guest only, and is taken over as it is.
_KEPT = frozenset(
    [
        "name",
        "uuid",
        "genid",
        "title",
        "description",
        "memory",
        "maxMemory",
        "currentMemory",
        "vcpus",
        "iothreads",
        "iothreadids",
        "defaultiothread",
        "memtune",
        "features",
        "cpu",
        "clock",
        "on_poweroff",
        "on_reboot",
        "on_crash",
        "on_lockfailure",
        "pm",
        "perf",
        "keywrap",
        "memoryBacking",
        "throttlegroups",
    ]
)
_LEFT_OUT = {"blkiotune": "its limits for block devices of its old host were left out"}
#: Texts of these begin with a slash for reasons of their own, and no program on the host reads them as a path.
_FREE_TEXT = frozenset(["metadata", "title", "description", "sysinfo", "name"])
_PINS = frozenset(
    ["vcpupin", "emulatorpin", "iothreadpin", "vcpusched", "iothreadsched", "emulatorsched", "cachetune", "memorytune"]
)

_Rebuild = t.Callable[[ET.Element, Findings], t.Optional[ET.Element]]


def _as_is(element: ET.Element, findings: Findings) -> ET.Element | None:
    return findings.kept(element)


def _redirected(element: ET.Element, findings: Findings) -> ET.Element | None:
    if element.get("type") == "spicevmc":
        return findings.kept(element)
    findings.refuse("a USB device that comes from another machine", "remove <redirdev>, and save the guest again")
    return None


def _memory_module(element: ET.Element, findings: Findings) -> ET.Element | None:
    if element.get("model") in ("dimm", "virtio-mem"):
        return findings.kept(element)
    findings.refuse(
        f"memory of the model {shown(element.get('model'))}, whose content is a file of its old host",
        "remove it, and save the guest again",
    )
    return None


def _smartcard(element: ET.Element, findings: Findings) -> ET.Element | None:
    if element.get("mode") == "passthrough" and element.get("type") == "spicevmc":
        return findings.kept(element)
    findings.refuse("a smartcard of its old host", "remove it, and save the guest again")
    return None


def _vsock(element: ET.Element, findings: Findings) -> ET.Element | None:
    result = findings.kept(element)
    for cid in result.iter("cid"):
        # The number is the host's. A guest on it may have it already.
        cid.attrib.clear()
        cid.set("auto", "yes")
    return result


def _nothing(element: ET.Element, findings: Findings) -> ET.Element | None:
    return None


_DEVICES: dict[str, _Rebuild] = {
    "emulator": _nothing,
    "disk": rebuilt_disk,
    "interface": rebuilt_interface,
    "serial": host_ends.rebuilt_character,
    "parallel": host_ends.rebuilt_character,
    "console": host_ends.rebuilt_character,
    "channel": host_ends.rebuilt_character,
    "graphics": host_ends.rebuilt_graphics,
    "tpm": host_ends.rebuilt_tpm,
    "rng": host_ends.rebuilt_rng,
    "input": host_ends.rebuilt_input,
    "video": host_ends.rebuilt_video,
    "audio": host_ends.rebuilt_audio,
    "redirdev": _redirected,
    "memory": _memory_module,
    "smartcard": _smartcard,
    "vsock": _vsock,
    **dict.fromkeys(
        ("controller", "sound", "hub", "watchdog", "memballoon", "panic", "iommu", "redirfilter", "nvram"), _as_is
    ),
}
#: Devices that are a part of the old host, with what an operator does about each.
_HOST_DEVICES = {
    "hostdev": "a device of its old host (hostdev)",
    "filesystem": "a folder of its old host (filesystem)",
    "shmem": "memory that it shares with others on its old host (shmem)",
    "lease": "a lock of its old host (lease)",
    "crypto": "a crypto device of its old host (crypto)",
    "pstore": "a file of its old host (pstore)",
}


class Rebuilt(t.NamedTuple):
    """A definition as it is here.

    Attributes:
        domain: for libvirt; not to be used if there are refusals.
        refusals: why the guest is not started as it is.
        notes: what was left out or changed, as sentences without a full stop.
    """

    domain: ET.Element
    refusals: list[Refusal]
    notes: list[str]


def rebuilt(domain: ET.Element, guest: str, place: Place) -> Rebuilt:
    """A domain of a capsule, as it may be defined and started here.

    Args:
        domain: what the capsule says; it is left as it is.
        guest: name of the guest, for messages.
        place: where its parts are here, and what this host has.
    """
    findings = Findings(guest, place)
    result = ET.Element("domain", {"type": domain.get("type", "")})
    if result.get("type") not in ("kvm", "qemu"):
        findings.refuse(f"the type {shown(domain.get('type'))}", "use a guest of KVM or QEMU")
    for child in domain:
        if findings.is_plain(child):
            _add(result, child, findings)
    missing = set(place.disks) - {target.get("dev") for target in result.findall("devices/disk/target")}
    for target in sorted(missing):
        findings.refuse(f"no disk {shown(target)}, which is in the capsule", "save the guest again")
    _refuse_paths(result, findings)
    return Rebuilt(result, findings.refusals, findings.notes)


def _add(result: ET.Element, child: ET.Element, findings: Findings) -> None:
    rebuild = _PARTS.get(child.tag)
    if child.tag in _KEPT:
        result.append(findings.kept(child))
    elif rebuild is not None:
        rebuild(result, child, findings)
    elif child.tag in _LEFT_OUT:
        findings.note(_LEFT_OUT[child.tag])
    elif child.tag != "resource":
        # A control group of the old host is no loss. What nobody knows may be one.
        findings.refuse(f"{shown(child.tag)}, which is not known here", "remove that, and save the guest again")


def _add_os(result: ET.Element, element: ET.Element, findings: Findings) -> None:
    result.append(rebuilt_os(element, findings))


def _add_devices(result: ET.Element, element: ET.Element, findings: Findings) -> None:
    devices = ET.SubElement(result, "devices")
    for device in element:
        if findings.is_plain(device):
            _add_device(devices, device, findings)


def _leave_out_label(result: ET.Element, element: ET.Element, findings: Findings) -> None:
    if element.get("type") not in (None, "dynamic"):
        findings.note(f"its security label is the one that {findings.place.host} gives it, and not a fixed one")


def _refuse_encryption(result: ET.Element, element: ET.Element, findings: Findings) -> None:
    findings.refuse(
        f"memory that is encrypted by its host's CPU ({shown(element.get('type'))})",
        "such a guest can be shut down and copied, but not be saved",
    )


def _add_metadata(result: ET.Element, element: ET.Element, findings: Findings) -> None:
    """Marks of the operator and of tools, in namespaces of theirs. libvirt itself does not read them."""
    result.append(copy.deepcopy(element))


def _add_device(devices: ET.Element, device: ET.Element, findings: Findings) -> None:
    if device.tag in _HOST_DEVICES:
        findings.refuse(
            _HOST_DEVICES[device.tag],
            f"detach it (virsh detach-device), save the guest again, and attach one on {findings.place.host}"
            " once it runs there",
        )
        return
    rebuild = _DEVICES.get(device.tag)
    if rebuild is None:
        findings.refuse(f"the device {shown(device.tag)}, which is not known here", "detach it, and save it again")
        return
    made = rebuild(device, findings)
    if made is not None:
        devices.append(made)


def _add_pinned(result: ET.Element, element: ET.Element, findings: Findings) -> None:
    """What binds the guest to CPUs and memory of its host; left out where this host has others."""
    kept = findings.kept(element)
    named = {number for one in kept.iter() for key in ("cpuset", "vcpus", "nodeset") for number in _numbers(one, key)}
    if findings.place.cpus is not None and not named <= findings.place.cpus:
        findings.note(f"it is not bound to CPUs and memory as before: {findings.place.host} has other ones")
        kept.attrib.pop("cpuset", None)
        kept.attrib.pop("placement", None)
        for child in list(kept):
            if child.tag in _PINS or element.tag == "numatune":
                kept.remove(child)
    if len(kept) or kept.text or element.tag == "vcpu":
        result.append(kept)


def _numbers(element: ET.Element, key: str) -> set[int]:
    """The numbers in a set of CPUs; -1, which no host has, where it cannot be read.

    >>> sorted(_numbers(ET.fromstring("<a cpuset='0-2,^1,7'/>"), "cpuset"))
    [0, 1, 2, 7]
    """
    found: set[int] = set()
    for part in filter(None, (element.get(key) or "").replace("^", "").split(",")):
        first, _dash, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or len(first) > 5 or len(last) > 5:
            return {-1}
        found.update(range(int(first), int(last or first) + 1))
    return found


def _add_sysinfo(result: ET.Element, element: ET.Element, findings: Findings) -> None:
    kept = findings.kept(element)
    for entry in kept.iter("entry"):
        if entry.get("file"):
            findings.refuse(
                f"the file {shown(entry.get('file'))} of its old host as an entry of its firmware",
                "put the content itself into the definition, and save the guest again",
            )
    result.append(kept)


def _refuse_paths(result: ET.Element, findings: Findings) -> None:
    """The last look: whatever was overlooked above, no path of another's is left."""
    for child in result:
        if child.tag in _FREE_TEXT:
            continue
        for element in child.iter():
            if child.tag == "os" and element.tag == "cmdline":
                continue
            for text in (element.text or "", *element.attrib.values()):
                path = text.strip()
                if path.startswith("/") and path not in findings.files:
                    findings.refuse(
                        f"{shown(path)} in <{shown(element.tag)}>, a path of its old host",
                        "remove it, and save the guest again",
                    )


_PARTS: dict[str, t.Callable[[ET.Element, ET.Element, Findings], None]] = {
    "metadata": _add_metadata,
    "os": _add_os,
    "devices": _add_devices,
    "seclabel": _leave_out_label,
    "launchSecurity": _refuse_encryption,
    "vcpu": _add_pinned,
    "cputune": _add_pinned,
    "numatune": _add_pinned,
    "sysinfo": _add_sysinfo,
}
