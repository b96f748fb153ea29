# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Equivalence classes of hosts and of guests, for which compatibility.py gives the same answer.

Real clusters have thousands of guests but only few classes. So the question is asked only a few times. Two hosts are in
one class if they agree in all that compatibility.py reads, except name, guests and maintenance. Two guests are in one
class if they agree in all that it reads, except name and UUID. Of what guests name on their hosts (requirements.py),
only what some host lacks counts.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import resources, shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import (
    Requirement,
    requirements_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility

_Key = tuple[t.Any, ...]
_NO_HOST: Snapshot = {}


class EquivalenceClasses:
    """Numbers of classes, with one example of each."""

    def __init__(self, snapshots: t.Iterable[Snapshot]) -> None:
        """All hosts that will be asked about are known from the start: what they lack and their mounts tell guests
        apart.
        """
        snapshots = list(snapshots)
        self.hosts: list[Snapshot] = []
        self._host_keys: dict[str, int] = {}
        self.guests: list[tuple[Domain, Intent]] = []
        self._guest_keys: dict[tuple[t.Any, ...], int] = {}
        mounts = {mount["path"] for snapshot in snapshots for mount in snapshot.get("mounts") or []}
        self._mounts = sorted(mounts, key=len, reverse=True)
        self._places: dict[str, str | None] = {}
        self._shared = frozenset(
            mount["path"] for one in snapshots for mount in one.get("mounts") or [] if mount.get("shared")
        )
        self._lacking = _lacking(snapshots)
        self._lacked = frozenset[_Key]().union(*self._lacking.values())
        self._fewest_cpus = min(filter(None, map(resources.cpus_of, snapshots)), default=None)
        self._has_large_guests = any(
            self._large(domain) for snapshot in snapshots for domain in snapshot.get("domains") or []
        )

    def host_class(self, snapshot: Snapshot) -> int:
        """The number of this host's kind."""
        migration, versions = snapshot.get("migration") or {}, snapshot.get("versions") or {}
        key = repr((
            versions.get("libvirt"), versions.get("qemu"), snapshot.get("cpu"), snapshot.get("emulators"),
            migration.get("live"), migration.get("tls"),
            [_mounted(mount, snapshot) for mount in snapshot.get("mounts") or []],
            snapshot.get("mounts") is None, sorted(self._lacking.get(snapshot["host"], ())),
            resources.cpus_of(snapshot) if self._has_large_guests else None,
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
            self._lacked.intersection(_keys(domain)) if self._lacked else None, self._large(domain),
            self._shares(domain) if self._shared else None,
        )  # fmt: skip
        found = self._guest_keys.setdefault(key, len(self.guests))
        if found == len(self.guests):
            self.guests.append((domain, intent))
        return found

    def _large(self, domain: Domain) -> int | None:
        """The virtual CPUs of a guest that has more of them than some host has CPUs."""
        vcpus = int(domain.get("vcpus") or 1)
        return vcpus if self._fewest_cpus is not None and vcpus > self._fewest_cpus else None

    def _shares(self, domain: Domain) -> frozenset[str]:
        """Where shares are mounted that have a file on them which the guest names, such as a kernel."""
        return self._shared.intersection(filter(None, map(self._place, resources.files_of(domain))))

    def _disk(self, disk: t.Mapping[str, t.Any]) -> tuple[t.Any, ...]:
        source = disk.get("source")
        shared = disk.get("shared")
        place = self._place(str(source)) if source and shared and disk.get("type") == "file" else None
        layers = [layer for layer in disk.get("layers") or () if shared and layer.get("type") == "file"]
        below = tuple(self._place(str(layer["source"])) for layer in layers)
        fixed = bool(disk.get("uncopyable")), bool(disk.get("startup_policy"))
        return bool(source), shared, disk.get("readonly"), disk.get("shareable"), disk.get("type"), place, below, fixed

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
        # On which hosts the operator wants it is no matter of classes (placement/from_snapshots.py).
        domain = {**domain, "metadata": {}}
        source = _bare(self.hosts[host_class], "source")
        return [
            not compatibility.destination_refusals(domain, source, _bare(host, "destination"), intent)
            for host in self.hosts
        ]


def _lacking(snapshots: t.Sequence[Snapshot]) -> dict[str, frozenset[_Key]]:
    """For each host, what it lacks of all that guests need."""
    needed: dict[_Key, tuple[Requirement, Domain]] = {}
    for snapshot in snapshots:
        for domain in snapshot.get("domains") or []:
            if not is_off(domain):
                for requirement in requirements_of(domain):
                    needed.setdefault(_key(requirement, domain), (requirement, domain))
    return {
        snapshot["host"]: frozenset(
            key for key, (one, domain) in needed.items() if resources.is_there(one, domain, _NO_HOST, snapshot) is False
        )
        for snapshot in snapshots
    }


def _keys(domain: Domain) -> t.Iterator[_Key]:
    return (_key(requirement, domain) for requirement in requirements_of(domain))


def _key(requirement: Requirement, domain: Domain) -> _Key:
    if requirement["kind"] == "emulator":
        return "emulator", requirement["name"], str(domain.get("type")), str(domain.get("arch"))
    alone = "alone" if requirement.get("alone") else ""
    return requirement["kind"], requirement["name"], requirement.get("what") or "", alone


def _mounted(mount: t.Mapping[str, t.Any], snapshot: Snapshot) -> _Key:
    """What tells mounts apart: the share, and of a share of the host itself which host that is."""
    keys = ("path", "type", "source", "server", "address", "fsid")
    return (*map(mount.get, keys), snapshot["host"] if shares.is_local(mount, snapshot) else None)


def _bare(snapshot: Snapshot, name: str) -> Snapshot:
    """A host of which only its kind is left."""
    return {**snapshot, "host": name, "host_uuid": name, "maintenance": None, "domains": []}
