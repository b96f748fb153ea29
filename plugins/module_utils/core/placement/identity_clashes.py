# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Hosts that claim to be the same machine, and guests that cannot share a host: same name, UUID, port or CID."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import (
    Requirement,
    is_floating,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.resources import collide

#: Kind and name of a fixed number that a guest has: a port of its display, or its vsock CID.
FixedNumber = tuple[str, str]


def shared_names(snapshots: t.Mapping[str, Snapshot]) -> set[str]:
    """Return the names that active guests with different UUIDs have."""
    first: dict[str, str] = {}
    active = (domain for one in snapshots.values() for domain in one.get("domains") or [] if not is_off(domain))
    return {domain["name"] for domain in active if first.setdefault(domain["name"], domain["uuid"]) != domain["uuid"]}


def fixed_numbers(domain: Domain) -> set[FixedNumber]:
    """Return the ports and CIDs that the guest must have at its destination as well."""
    return {(one["kind"], one["name"]) for one in _floating(domain) if one.get("fixed")}


def shared_numbers(snapshots: t.Mapping[str, Snapshot]) -> set[FixedNumber]:
    """Return the fixed ports and CIDs that several active guests have."""
    seen: set[FixedNumber] = set()
    found: set[FixedNumber] = set()
    for snapshot in snapshots.values():
        for domain in _active(snapshot):
            own = fixed_numbers(domain)
            found |= own & seen
            seen |= own
    return found


def taken_numbers(
    names: t.Sequence[str], snapshots: t.Mapping[str, Snapshot], domains: t.Sequence[t.Sequence[Domain]]
) -> set[tuple[int, int]]:
    """Return (unit, host) where libvirt has given a fixed port or CID of the unit to a guest of the host."""
    fixed = [
        (unit, domain["uuid"], one)
        for unit, members in enumerate(domains)
        for domain in members
        for one in _floating(domain)
        if one.get("fixed")
    ]
    if not fixed:
        return set()
    chosen: dict[FixedNumber, list[tuple[int, str, Requirement]]] = {}
    for number, host in enumerate(names):
        for domain in _active(snapshots[host]):
            for one in _floating(domain):
                if not one.get("fixed"):
                    chosen.setdefault((one["kind"], one["name"]), []).append((number, domain["uuid"], one))
    return {
        (unit, host)
        for unit, uuid, one in fixed
        for host, other, theirs in chosen.get((one["kind"], one["name"]), ())
        if other != uuid and collide(one, theirs)
    }


def _active(snapshot: Snapshot) -> t.Iterator[Domain]:
    return (domain for domain in snapshot.get("domains") or [] if not is_off(domain))


def _floating(domain: Domain) -> t.Iterator[Requirement]:
    return (one for one in domain.get("requires") or () if is_floating(one))


def same_machines(names: t.Sequence[str], snapshots: t.Mapping[str, Snapshot]) -> set[tuple[int, int]]:
    """Return pairs of hosts that say they are the same machine."""
    by_uuid: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        uuid = snapshots[name].get("host_uuid")
        if uuid:
            by_uuid.setdefault(uuid, []).append(number)
    return {(one, other) for same in by_uuid.values() for one in same for other in same if one != other}


def clashes(
    names: t.Sequence[str], snapshots: t.Mapping[str, Snapshot], domains: t.Sequence[t.Sequence[Domain]]
) -> set[tuple[int, int]]:
    """Return (unit, host) where the host has another guest of that name or UUID, or where the guest is active as
    well.
    """
    seen = [domain for host in names for domain in snapshots[host].get("domains") or []]
    if len({key for domain in seen for key in (domain["name"], domain["uuid"])}) == 2 * len(seen):
        # Nothing is there twice, as nearly always; to go on takes a fifth of what a drain of a large cluster does.
        return set()
    first: dict[str, tuple[int, str]] = {}
    again: dict[str, list[tuple[int, str]]] = {}
    active: dict[str, list[tuple[int, Domain]]] = {}
    for number, host in enumerate(names):
        for domain in snapshots[host].get("domains") or []:
            name, uuid = domain["name"], domain["uuid"]
            if not is_off(domain):
                active.setdefault(uuid, []).append((number, domain))
            for key, other in ((name, uuid), (uuid, name)):
                if first.setdefault(key, (number, other)) != (number, other):
                    again.setdefault(key, [first[key]]).append((number, other))
    found: set[tuple[int, int]] = set()
    for unit, members in enumerate(domains):
        for domain in members:
            found.update((unit, n) for n, uuid in again.get(domain["name"], ()) if uuid != domain["uuid"])
            found.update((unit, n) for n, name in again.get(domain["uuid"], ()) if name != domain["name"])
            found.update((unit, n) for n, twin in active[domain["uuid"]] if twin is not domain)
    return found
