# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find hosts and guests that the cluster itself depends on: those that serve its storage, and the guest that runs the
controller.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Snapshot,
    is_off,
    metadata_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

Snapshots = t.Mapping[str, Snapshot]


class Service(t.NamedTuple):
    """What one server gives to the hosts of a cluster.

    Attributes:
        sources: shares as the hosts name them.
        clients: names of the guests that have a disk on them, by host.
    """

    sources: tuple[str, ...]
    clients: t.Mapping[str, tuple[str, ...]]

    @property
    def guests(self) -> int:
        """The number of guests."""
        return sum(map(len, self.clients.values()))


class _Use(t.NamedTuple):
    """Storage that guests of one host use.

    Attributes:
        client: the host.
        source: the storage, as the host names it.
        names: of its server, and its addresses.
        guests: their names.
    """

    client: str
    source: str
    names: frozenset[str]
    guests: tuple[str, ...]


def serving_hosts(snapshots: Snapshots) -> dict[str, Service]:
    """Hosts whose storage guests of other hosts use, by name."""
    owners = shares.owners(snapshots)
    found: dict[str, list[_Use]] = {}
    for use in _uses(snapshots):
        for host in {owners[name] for name in use.names if name in owners} - {use.client}:
            found.setdefault(host, []).append(use)
    return {host: _service(used) for host, used in found.items()}


def serving_guests(snapshots: Snapshots) -> dict[str, Service]:
    """Guests whose storage guests use, and guests whose metadata has C(serves), by UUID.

    A guest is known by its name, or by the MAC address of one of its interfaces.
    """
    known: dict[str, str] = {}
    found: dict[str, list[_Use]] = {}
    for snapshot in snapshots.values():
        for domain in _active(snapshot):
            macs = [str(one.get("mac") or "").lower() for one in domain.get("interfaces") or ()]
            known.update({name: domain["uuid"] for name in (str(domain["name"]).lower(), *macs) if name})
            if metadata_of(domain).get("serves"):
                found[domain["uuid"]] = [_Use("", str(metadata_of(domain)["serves"]), frozenset(), ())]
    for use in _uses(snapshots):
        for uuid in {known[name] for name in _with_short(use.names) if name in known}:
            found.setdefault(uuid, []).append(use)
    return {uuid: _service(used) for uuid, used in found.items()}


def controllers(snapshots: Snapshots, uuids: t.Collection[str]) -> set[str]:
    """UUIDs of the guests that are the machine on which the controller runs.

    Args:
        snapshots: of all hosts.
        uuids: what that machine says that its UUID is.
    """
    return {
        domain["uuid"]
        for snapshot in snapshots.values()
        for domain in _active(snapshot)
        if str(domain["uuid"]).lower() in uuids
    }


def host_remark(host: str, service: Service) -> Refusal:
    """What to know before a host is taken away that serves storage."""
    hosts = listed(sorted(service.clients))
    guests = "1 guest" if service.guests == 1 else f"{service.guests} guests"
    verb = "runs" if len(service.clients) == 1 else "run"
    return refusal(
        "serves_storage",
        f"{hosts} {verb} {guests} from a share of {host} ({listed(list(service.sources))}), and lose it when {host} is "
        "rebooted or shut down",
        f"before that, move the disks of these guests to other storage, or shut these guests down; or leave {host} out",
    )


def guest_remark(guest: str, service: Service) -> Refusal:
    """What to know before a guest is moved that serves storage."""
    return refusal(
        "serves_storage",
        f"{guest} serves {_what(service)}",
        f"{guest} goes last; while it moves, all of them wait for their disks as long as its downtime lasts",
    )


def controller_remark(guest: str) -> Refusal:
    """What to know before the guest is moved that runs this very controller."""
    return refusal(
        "runs_controller",
        f"this controller runs in {guest}",
        f"{guest} goes last; if it is lost on the way, nobody follows the run: run the same again from another machine",
    )


def no_shutdown(guest: str, service: Service | None) -> Refusal:
    """Why a guest is not shut down unless it is named itself; without a service, it runs the controller."""
    what = f"serves {_what(service)}" if service else "runs this controller"
    return refusal(
        "serves_storage" if service else "runs_controller",
        f"{guest} {what}, so a permission for all guests does not count for it",
        f"move what depends on it first; or permit it for {guest} alone: allow_shutdown in its own intent",
    )


def _what(service: Service) -> str:
    if not service.guests:
        return listed(list(service.sources))
    guests = "1 guest" if service.guests == 1 else f"{service.guests} guests"
    return f"{listed(list(service.sources))}, from which {listed(sorted(service.clients))} run {guests}"


def _service(used: t.Sequence[_Use]) -> Service:
    clients: dict[str, set[str]] = {}
    for use in used:
        if use.client:
            clients.setdefault(use.client, set()).update(use.guests)
    sources = tuple(sorted({use.source for use in used}))
    return Service(sources, {client: tuple(sorted(guests)) for client, guests in clients.items()})


def _uses(snapshots: Snapshots) -> t.Iterator[_Use]:
    """Each storage of one server that guests of a host have a disk on: mounted there, or opened by QEMU itself."""
    for host, snapshot in snapshots.items():
        for mount in snapshot.get("mounts") or []:
            server = shares.server_of(mount) if mount.get("shared") or mount.get("undeclared") else None
            guests = tuple(domain["name"] for domain in _active(snapshot) if _is_on(domain, mount)) if server else ()
            if server and guests:
                told = (server, *(str(mount.get(key) or "") for key in ("address", "server", "mac")))
                yield _Use(host, str(mount.get("source")), frozenset(filter(None, told)), guests)
        for domain in _active(snapshot):
            for disk in domain.get("disks") or ():
                for server in disk.get("servers") or ():
                    source = f"{str(disk.get('source')).partition(':')[0]} of {server}"
                    yield _Use(host, source, frozenset([shares.plain_name(server)]), (domain["name"],))


def _with_short(names: t.Iterable[str]) -> set[str]:
    """The names, and of each full name of a host the first part."""
    names = set(names)
    return names | {name.partition(".")[0] for name in names if name[:1].isalpha()}


def _is_on(domain: Domain, mount: shares.Mount) -> bool:
    below = str(mount["path"]).rstrip("/") + "/"
    layers = (layer for disk in domain.get("disks") or () for layer in (disk, *(disk.get("layers") or ())))
    return any(str(layer.get("source") or "").startswith(below) for layer in layers)


def _active(snapshot: Snapshot) -> t.Iterator[Domain]:
    return (domain for domain in snapshot.get("domains") or [] if not is_off(domain))
