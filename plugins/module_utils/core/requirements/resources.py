# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Compare what a guest names on its host with what another host has (``resources`` of its snapshot).

A resource that a host could not tell of (null, or no key) is no reason to refuse: libvirt looks again before it moves
anything.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import number_sets, shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import (
    Requirement,
    is_floating,
    requirements_of,
)

Resources = t.Mapping[str, t.Any]

#: For kinds that are names in a list: the key of ``resources``.
_LISTS = {
    "link": "links",
    "secret": "secrets",
    "filter": "filters",
    "security_model": "security_models",
    "partition": "partitions",
}
#: Kinds of which a host that runs the guest must tell. If it does not, nobody can say what others have.
_TOLD_BY_SOURCE = frozenset(("security_model", "partition"))
#: For kinds that may be there and not active: the key of ``resources``.
STATES = {"network": "networks", "pool": "pools"}


def is_there(requirement: Requirement, domain: Domain, source: Snapshot, destination: Snapshot) -> bool | None:
    """Whether the destination has what the guest needs; None if nobody can tell. Ports and CIDs are always there."""
    kind, name = requirement["kind"], requirement["name"]
    resources: Resources = destination.get("resources") or {}
    if kind in _LISTS:
        return _is_listed(requirement, source, resources)
    if kind in STATES:
        states = resources.get(STATES[kind])
        return None if states is None else bool(states.get(name))
    if kind in _ABOUT_DESTINATION:
        return _ABOUT_DESTINATION[kind](requirement, destination)
    if kind == "emulator":
        return _has_emulator(name, domain, resources, destination)
    if kind in ("file", "program"):
        return _has_file(requirement, source, destination)
    return True


def has_too_few_cpus(domain: Domain, source: Snapshot, destination: Snapshot) -> bool:
    """Whether the guest has more virtual CPUs than the destination has CPUs, and than it has to share with now."""
    there, here = cpus_of(destination), cpus_of(source)
    return there is not None and int(domain.get("vcpus") or 1) > there and (here is None or there < here)


def cpus_of(snapshot: Snapshot) -> int | None:
    """The number of a host's CPUs, if it is known."""
    count = (snapshot.get("capacity") or {}).get("cpus")
    return int(count) if count else None


def files_of(domain: Domain) -> list[str]:
    """Paths that must exist at a destination."""
    kinds = ("file", "program", "emulator")
    return sorted({one["name"] for one in requirements_of(domain) if one["kind"] in kinds})


class NamedFiles(t.NamedTuple):
    """Files that guests name, without those on shares; and the hosts that have not told about each of them."""

    files: list[str]
    unasked: list[str]


def named_files(snapshots: t.Mapping[str, Snapshot]) -> NamedFiles:
    """What hosts must be asked for: whether they have the files that guests of other hosts name."""
    files = set[str]().union(*map(_local_files, snapshots.values()))
    unasked = []
    for host, snapshot in snapshots.items():
        emulators = {str(one.get("emulator")) for one in snapshot.get("emulators") or []}
        resources = snapshot.get("resources")
        # A snapshot of an older release has no such key, and a second one would have none either.
        if resources is not None and any(has_path(path, resources) is None for path in files - emulators):
            unasked.append(host)
    return NamedFiles(sorted(files), unasked)


def _local_files(snapshot: Snapshot) -> set[str]:
    """Files that guests of a host name, without those on shares."""
    active = (domain for domain in snapshot.get("domains") or [] if not is_off(domain))
    paths = {path for domain in active for path in files_of(domain)}
    return {path for path in paths if shares.shared_mount_of(path, snapshot) is None}


def collide(one: Requirement, other: Requirement, *, at_any_address: bool = False) -> bool:
    """Whether two guests on one host cannot have both: the same port of one address, or the same CID."""
    if (one["kind"], one["name"]) != (other["kind"], other["name"]) or not is_floating(one):
        return False
    addresses = {one.get("address") or "", other.get("address") or ""}
    return at_any_address or one["kind"] == "vsock" or len(addresses) == 1 or any(map(_is_every, addresses))


def _is_every(address: str) -> bool:
    """Whether who listens there listens on all addresses of a host; where it is not stated, QEMU's default is taken
    for that.
    """
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return not address


def device_name(name: str) -> str:
    """The name as libvirt writes it in the name of a device: all that is known of a link at some remote hosts."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def _is_listed(requirement: Requirement, source: Snapshot, resources: Resources) -> bool | None:
    kind, name = requirement["kind"], requirement["name"]
    known, here = resources.get(_LISTS[kind]), (source.get("resources") or {}).get(_LISTS[kind])
    if known is None or (kind in _TOLD_BY_SOURCE and here is not None and name not in here):
        return None
    return name in known or (kind == "link" and device_name(name) in known)


def _has_bridge(requirement: Requirement, destination: Snapshot) -> bool | None:
    name, resources = requirement["name"], destination.get("resources") or {}
    links = resources.get("links")
    if links is not None and name not in links and device_name(name) not in links:
        return False
    bridges = resources.get("switches" if requirement.get("what") else "bridges")
    if bridges is None:
        return None if links is None else True
    return name in bridges


def _has_emulator(path: str, domain: Domain, resources: Resources, destination: Snapshot) -> bool | None:
    known = emulators_of(domain, destination)
    if not known or path in known:
        return True if known else None
    # libvirt lists one emulator for each architecture. Another one may be there as well.
    return t.cast("bool | None", (resources.get("files") or {}).get(path, False))


def emulators_of(domain: Domain, destination: Snapshot) -> list[str]:
    return [
        one["emulator"]
        for one in destination.get("emulators") or []
        if one.get("type") == domain.get("type") and one.get("arch") == domain.get("arch") and one.get("emulator")
    ]


def _has_file(requirement: Requirement, source: Snapshot, destination: Snapshot) -> bool | None:
    path, resources = requirement["name"], destination.get("resources") or {}
    share = shares.shared_mount_of(path, source)
    if share is not None:
        # Nobody looks for a file on a share: its server may not answer.
        there = shares.shared_mount_of(path, destination)
        known = destination.get("mounts") is not None
        return shares.same(share, source, there, destination) if there is not None else (False if known else None)
    if requirement["kind"] == "program" and has_path(path, source.get("resources") or {}) is False:
        # The guest runs without it: the program is elsewhere.
        return None
    return False if is_mounted(requirement, destination) else has_path(path, resources)


def is_mounted(requirement: Requirement, destination: Snapshot) -> bool:
    """Whether the destination itself has mounted a device that nobody else may write to."""
    mounted = (destination.get("resources") or {}).get("mounted") or {}
    return bool(requirement.get("alone")) and requirement["name"] in mounted


def _has_volume(requirement: Requirement, destination: Snapshot) -> bool | None:
    """Whether a storage pool has a volume; None also where there is no such pool, or it is not active."""
    wanted, _slash, volume = requirement["name"].partition("/")
    pool = next((one for one in destination.get("storage_pools") or () if one["name"] == wanted), None)
    return None if pool is None or pool.get("volumes") is None else volume in pool["volumes"]


def has_path(path: str, resources: Resources) -> bool | None:
    """Whether a host has a file; None if it was not asked about it."""
    told = (resources.get("files") or {}).get(path)
    if told is None and posixpath.dirname(path) in (resources.get("listed") or ()):
        return False
    return t.cast("bool | None", told)


def _has_numbers(requirement: Requirement, destination: Snapshot) -> bool | None:
    there = numbers_of(requirement["kind"], destination)
    return number_sets.parsed(requirement["name"]) <= there if there else None


def numbers_of(kind: str, destination: Snapshot) -> frozenset[int]:
    """The CPUs, or the NUMA cells, of a host; empty if they are not known."""
    if kind == "cpus":
        return number_sets.parsed((destination.get("resources") or {}).get("cpus"))
    cells = (destination.get("capacity") or {}).get("cells") or []
    return frozenset(int(cell["id"]) for cell in cells)


def _has_address(requirement: Requirement, destination: Snapshot) -> bool | None:
    known = (destination.get("resources") or {}).get("addresses")
    try:
        wanted = ipaddress.ip_address(requirement["name"])
    except ValueError:
        # A name may mean another address there.
        return None
    if known is None or wanted.is_loopback:
        return None
    return str(wanted) in known


#: Kinds that a destination tells of by itself.
_ABOUT_DESTINATION: dict[str, t.Callable[[Requirement, Snapshot], bool | None]] = {
    "address": _has_address,
    "bridge": _has_bridge,
    "cells": _has_numbers,
    "cpus": _has_numbers,
    "volume": _has_volume,
}
