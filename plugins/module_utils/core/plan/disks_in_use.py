# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find guests that are shut off and whose disk another guest writes to, such as a copy of a definition.

QEMU locks image files, but not block devices and not disks over the network.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.shared_devices import NAMES_OF_ONE_HOST

Disk = t.Mapping[str, t.Any]


class DiskInUse(t.NamedTuple):
    """A guest that is shut off, and the guest that writes to one of its disks."""

    domain: Domain
    host: str
    source: str
    user: str
    runs_on: str


def disks_in_use(hosts: t.Iterable[str], snapshots: t.Mapping[str, Snapshot]) -> list[DiskInUse]:
    """Return the guests of these hosts that are shut off and marked for autostart, and whose disk a guest of another
    host writes to; each once.
    """
    users: dict[tuple[str, ...], list[tuple[Domain, str, Disk]]] = {}
    for host in sorted(snapshots):
        for domain in snapshots[host].get("domains") or []:
            for disk in () if is_off(domain) else _written(domain):
                users.setdefault(_key(disk), []).append((domain, host, disk))
    found: list[DiskInUse] = []
    for host in hosts:
        for domain in (snapshots.get(host) or {}).get("domains") or []:
            if is_off(domain) and domain.get("autostart"):
                found.extend(_first(domain, host, users, snapshots))
    return found


def _first(
    domain: Domain,
    host: str,
    users: t.Mapping[tuple[str, ...], t.Sequence[tuple[Domain, str, Disk]]],
    snapshots: t.Mapping[str, Snapshot],
) -> t.Iterator[DiskInUse]:
    for disk in _written(domain):
        for user, where, theirs in users.get(_key(disk), ()):
            if where != host and user["uuid"] != domain["uuid"] and _is_same(disk, snapshots[host], snapshots[where]):
                yield DiskInUse(domain, host, str(theirs["source"]), str(user["name"]), where)
                return


def _written(domain: Domain) -> t.Iterator[Disk]:
    """The disks on storage of several hosts that a guest writes to, alone."""
    for disk in domain.get("disks") or ():
        known = disk.get("type") != "block" or not NAMES_OF_ONE_HOST.fullmatch(str(disk.get("source")))
        if known and disk.get("shared") and disk.get("source") and not (disk.get("readonly") or disk.get("shareable")):
            yield disk


def _key(disk: Disk) -> tuple[str, ...]:
    return str(disk.get("type")), str(disk["source"]), *(disk.get("servers") or ())


def _is_same(disk: Disk, here: Snapshot, there: Snapshot) -> bool:
    """Whether a file of that name is the same file on both hosts."""
    if disk.get("type") != "file":
        return True
    mounts = [shares.shared_mount_of(str(disk["source"]), one) for one in (here, there)]
    return mounts[0] is not None and mounts[1] is not None and bool(shares.same(mounts[0], here, mounts[1], there))
