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


def serving_hosts(snapshots: Snapshots) -> dict[str, Service]:
    """Hosts from which other hosts have mounted a share that guests use, by name."""
    owners = shares.owners(snapshots)
    found: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {}
    for client, mount, guests in _used(snapshots):
        serving = {owners.get(str(name)) for name in (shares.server_of(mount), mount.get("address"))}
        for host in filter(None, serving - {client}):
            found.setdefault(host, []).append((client, str(mount.get("source")), guests))
    return {host: _service(used) for host, used in found.items()}


def serving_guests(snapshots: Snapshots) -> dict[str, Service]:
    """Guests after which a share that guests use is named, and guests whose metadata has C(serves), by UUID."""
    by_name: dict[str, str] = {}
    found: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {}
    for snapshot in snapshots.values():
        for domain in _active(snapshot):
            by_name[str(domain["name"]).lower()] = domain["uuid"]
            if metadata_of(domain).get("serves"):
                found[domain["uuid"]] = [("", str(metadata_of(domain)["serves"]), ())]
    for client, mount, guests in _used(snapshots):
        server = shares.server_of(mount) or ""
        names = (server, server.partition(".")[0], str(mount.get("server") or ""))
        uuid = next((by_name[name] for name in names if name in by_name), None)
        if uuid:
            found.setdefault(uuid, []).append((client, str(mount.get("source")), guests))
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


def _service(used: t.Sequence[tuple[str, str, tuple[str, ...]]]) -> Service:
    clients: dict[str, set[str]] = {}
    for client, _source, guests in used:
        if client:
            clients.setdefault(client, set()).update(guests)
    sources = tuple(sorted({source for _client, source, _guests in used}))
    return Service(sources, {client: tuple(sorted(guests)) for client, guests in clients.items()})


def _used(snapshots: Snapshots) -> t.Iterator[tuple[str, shares.Mount, tuple[str, ...]]]:
    """Each shared mount of each host, with the guests that have a disk on it, if there are any."""
    for host, snapshot in snapshots.items():
        mounts = [mount for mount in snapshot.get("mounts") or [] if mount.get("shared") and shares.server_of(mount)]
        for mount in mounts:
            guests = tuple(domain["name"] for domain in _active(snapshot) if _is_on(domain, mount))
            if guests:
                yield host, mount, guests


def _is_on(domain: Domain, mount: shares.Mount) -> bool:
    below = str(mount["path"]).rstrip("/") + "/"
    return any(str(disk.get("source") or "").startswith(below) for disk in domain.get("disks") or ())


def _active(snapshot: Snapshot) -> t.Iterator[Domain]:
    return (domain for domain in snapshot.get("domains") or [] if not is_off(domain))
