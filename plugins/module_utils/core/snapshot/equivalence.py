# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Equivalence classes of hosts and of guests, for which compatibility.py gives the same answer.

Real clusters have thousands of guests but only few classes. So the question is asked only a few times. Two hosts are in
one class if they agree in all that compatibility.py reads, except name, guests and maintenance. Two guests are in one
class if they agree in all that it reads, except name and UUID.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility


class EquivalenceClasses:
    """Numbers of classes, with one example of each."""

    def __init__(self, snapshots: t.Iterable[Snapshot]) -> None:
        """All hosts that will be asked about are known from the start, for their mounts tell paths apart."""
        self.hosts: list[Snapshot] = []
        self._host_keys: dict[str, int] = {}
        self.guests: list[tuple[Domain, Intent]] = []
        self._guest_keys: dict[tuple[t.Any, ...], int] = {}
        mounts = {mount["path"] for snapshot in snapshots for mount in snapshot.get("mounts") or []}
        self._mounts = sorted(mounts, key=len, reverse=True)
        self._places: dict[str, str | None] = {}

    def host_class(self, snapshot: Snapshot) -> int:
        """The number of this host's kind."""
        migration, versions = snapshot.get("migration") or {}, snapshot.get("versions") or {}
        key = repr((
            versions.get("libvirt"), versions.get("qemu"), snapshot.get("cpu"), snapshot.get("emulators"),
            migration.get("live"), migration.get("tls"),
            [(mount["path"], mount.get("source")) for mount in snapshot.get("mounts") or []],
            snapshot.get("mounts") is None,
        ))  # fmt: skip
        found = self._host_keys.setdefault(key, len(self.hosts))
        if found == len(self.hosts):
            self.hosts.append(snapshot)
        return found

    def guest_class(self, domain: Domain, intent: Intent) -> int:
        """The number of this guest's kind, under this intent."""
        cpu = domain.get("cpu") or {}
        disks = domain.get("disks") or ()
        key = (
            domain.get("type"), domain.get("arch"), domain.get("machine"), cpu.get("mode"), cpu.get("model"),
            intent.get("encryption"), intent.get("allow_storage_copy"), frozenset(map(self._disk, disks)),
        )  # fmt: skip
        found = self._guest_keys.setdefault(key, len(self.guests))
        if found == len(self.guests):
            self.guests.append((domain, intent))
        return found

    def _disk(self, disk: t.Mapping[str, t.Any]) -> tuple[t.Any, ...]:
        source = disk.get("source")
        shared = disk.get("shared")
        place = self._place(str(source)) if source and shared and disk.get("type") == "file" else None
        fixed = bool(disk.get("uncopyable")), bool(disk.get("startup_policy"))
        return bool(source), shared, disk.get("readonly"), disk.get("shareable"), disk.get("type"), place, fixed

    def _place(self, path: str) -> str | None:
        """The deepest mount of any host above a path: paths under the same one are on the same mounts everywhere."""
        folder = path.rpartition("/")[0]
        if folder not in self._places:
            above = (mount for mount in self._mounts if f"{folder}/".startswith(f"{mount.rstrip('/')}/"))
            self._places[folder] = next(above, None)
        return self._places[folder]

    def row(self, guest_class: int, host_class: int) -> t.Sequence[bool]:
        """For each kind of host, whether a guest of this kind may go there from a host of that kind."""
        domain, intent = self.guests[guest_class]
        source = _bare(self.hosts[host_class], "source")
        return [
            not compatibility.destination_refusals(domain, source, _bare(host, "destination"), intent)
            for host in self.hosts
        ]


def _bare(snapshot: Snapshot, name: str) -> Snapshot:
    """A host of which only its kind is left."""
    return {**snapshot, "host": name, "host_uuid": name, "maintenance": None, "domains": []}
