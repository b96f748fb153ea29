# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Compare a guest before and after its move: limits, shares and sizes that were set while it ran, and are gone.

libvirt takes them along in the description of the running guest. Where it does not, the guest has more or less of its
host than its operator wants, and nothing says so.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes

#: A balloon moves while the guest does. Only a larger difference is told, in KiB and as a share.
BALLOON_SLACK_KIB = 64 << 10
BALLOON_SLACK_SHARE = 0.05
_UNITS_KIB = {"b": 1 / 1024, "bytes": 1 / 1024, "kib": 1.0, "k": 1.0, "mib": 1024.0, "m": 1024.0, "gib": 1048576.0}


class _Lost(t.NamedTuple):
    """What is lost, in words, and the command of virsh that sets it, without the guest's name."""

    what: str
    command: str
    arguments: str
    live: str = " --live"


def lost_settings(before: ET.Element, after: ET.Element, source: str, destination: str) -> list[Refusal]:
    """Return what a guest had at its source and does not have at its destination, with the commands that set it.

    Args:
        before, after: descriptions of the running guest.
        source, destination: names of the hosts.
    """
    name = quoted(before.findtext("name") or "")
    return [
        refusal(
            "setting_not_carried",
            f"it had {lost.what} on {source}, and has not on {destination}",
            f"virsh {lost.command} {name} {lost.arguments}{lost.live} on {destination}",
        )
        for lost in (
            *_tuning(before, after),
            *_disks(before, after),
            *_interfaces(before, after),
            *_sizes(before, after),
        )
    ]


#: What virsh calls the elements of <cputune>. Pins are left out: they name CPUs of a host.
_CPUTUNE = {
    "shares": "cpu_shares",
    "period": "vcpu_period",
    "quota": "vcpu_quota",
    "global_period": "global_period",
    "global_quota": "global_quota",
    "emulator_period": "emulator_period",
    "emulator_quota": "emulator_quota",
    "iothread_period": "iothread_period",
    "iothread_quota": "iothread_quota",
}
_MEMTUNE = {
    "hard_limit": "--hard-limit",
    "soft_limit": "--soft-limit",
    "swap_hard_limit": "--swap-hard-limit",
}


def _tuning(before: ET.Element, after: ET.Element) -> t.Iterator[_Lost]:
    for tag, parameter in _CPUTUNE.items():
        value = _lost_text(before, after, f"cputune/{tag}")
        if value:
            yield _Lost(f"{parameter} {value}", "schedinfo", f"--set {parameter}={value}")
    for tag, option in _MEMTUNE.items():
        value = _lost_text(before, after, f"memtune/{tag}")
        if value:
            yield _Lost(f"{tag} {value} KiB", "memtune", f"{option} {value}")
    value = _lost_text(before, after, "blkiotune/weight")
    if value:
        yield _Lost(f"I/O weight {value}", "blkiotune", f"--weight {value}")


def _lost_text(before: ET.Element, after: ET.Element, path: str) -> str | None:
    had = (before.findtext(path) or "").strip()
    return had if had.lstrip("-").isdecimal() and had != (after.findtext(path) or "").strip() else None


def _disks(before: ET.Element, after: ET.Element) -> t.Iterator[_Lost]:
    there = {_target(disk): disk for disk in after.findall("devices/disk")}
    for disk in before.findall("devices/disk"):
        target, now = _target(disk), there.get(_target(disk))
        if not target or now is None:
            continue
        limits = {
            limit.tag: (limit.text or "").strip()
            for limit in disk.findall("iotune/*")
            if _lost_text(disk, now, f"iotune/{limit.tag}")
        }
        if limits:
            told = ", ".join(f"{tag} {value}" for tag, value in limits.items())
            options = " ".join(f"--{tag.replace('_', '-')} {value}" for tag, value in limits.items())
            yield _Lost(f"limits of disk {target} ({told})", "blkdeviotune", f"{target} {options}")


def _target(element: ET.Element) -> str:
    found = element.find("target")
    return (found.get("dev") or "") if found is not None else ""


def _interfaces(before: ET.Element, after: ET.Element) -> t.Iterator[_Lost]:
    there = {_mac(one): one for one in after.findall("devices/interface")}
    for interface in before.findall("devices/interface"):
        mac, now = _mac(interface), there.get(_mac(interface))
        if not mac or now is None:
            continue
        for way in ("inbound", "outbound"):
            had, has = interface.find(f"bandwidth/{way}"), now.find(f"bandwidth/{way}")
            if had is not None and (has is None or had.attrib != has.attrib):
                yield _Lost(f"an {way} limit of interface {mac}", "domiftune", f"{mac} --{way} {_bandwidth(had)}")
        had, has = interface.find("link"), now.find("link")
        if had is not None and had.get("state") == "down" and (has is None or has.get("state") != "down"):
            yield _Lost(f"the link of interface {mac} down", "domif-setlink", f"{mac} down", live="")


def _mac(interface: ET.Element) -> str:
    found = interface.find("mac")
    return (found.get("address") or "") if found is not None else ""


def _bandwidth(element: ET.Element) -> str:
    return ",".join(element.get(key, "0") for key in ("average", "peak", "burst", "floor") if key in element.attrib)


def _sizes(before: ET.Element, after: ET.Element) -> t.Iterator[_Lost]:
    had, has = _kib(before.find("currentMemory")), _kib(after.find("currentMemory"))
    if had and has and abs(had - has) > max(BALLOON_SLACK_KIB, BALLOON_SLACK_SHARE * had):
        yield _Lost(f"{human_bytes(had * 1024)} of memory by its balloon", "setmem", str(had))
    had_cpus, has_cpus = _vcpus(before), _vcpus(after)
    if had_cpus and has_cpus and had_cpus != has_cpus:
        yield _Lost(f"{had_cpus} CPUs in use", "setvcpus", had_cpus)


def _kib(element: ET.Element | None) -> int | None:
    text = "" if element is None else (element.text or "").strip()
    if element is None or not text.isdecimal():
        return None
    factor = _UNITS_KIB.get(element.get("unit", "KiB").lower())
    return None if factor is None else int(int(text) * factor)


def _vcpus(root: ET.Element) -> str | None:
    element = root.find("vcpu")
    return None if element is None else element.get("current") or (element.text or "").strip() or None
