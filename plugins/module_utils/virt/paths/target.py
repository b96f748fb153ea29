# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the name or address, and the ports, to which libvirt sends guests.

from __future__ import annotations

import ipaddress
import socket
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import FIRST_PORT, LAST_PORT
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import Destination


class Target(t.NamedTuple):
    """Where guests are sent.

    Attributes:
        name: a name or an address, as libvirt will look it up on the source.
        first_port, last_port: libvirt at the destination takes the lowest one that is free.
        listen: the only address on which the destination's QEMU listens; None: all.
    """

    name: str
    first_port: int
    last_port: int
    listen: str | None


def known_target(destination: Destination) -> Target | None:
    """Where guests are sent, as far as that is known without the destination: the operator or its qemu.conf says it."""
    name = destination.address or destination.incoming.get("host")
    return _target(destination, str(name)) if name else None


def told_target(destination: Destination, connection: t.Any) -> Target:
    """Where guests are sent if nobody says it: to what the destination calls itself, as its libvirtd does."""
    return known_target(destination) or _target(destination, str(connection.getHostname()))


def resolved(target: Target, source: str, destination: Destination) -> tuple[list[t.Any], Refusal | None]:
    """The socket addresses of a target, and what is wrong with them.

    Args:
        target: where guests are sent.
        source: this host's name.
        destination: the other host.
    """
    state = f"set kvmops_cluster_migration_address of {destination.name} to its address on the migration network"
    try:
        found = socket.getaddrinfo(target.name, target.last_port, type=socket.SOCK_STREAM)
    except OSError as error:
        reason = f"{target.name} cannot be looked up on {source}: {error.strerror or error}"
        if not destination.address:
            reason += f"; {destination.name} calls itself so, and libvirt sends guests there"
        return [], refusal("address_unknown", reason, f"{state}, or make the name resolvable on {source}")
    if all(ipaddress.ip_address(str(one[4][0]).partition("%")[0]).is_loopback for one in found):
        return [], refusal(
            "address_is_local",
            f"{target.name} means {source} itself on {source}, and libvirt would send guests for {destination.name} "
            "there",
            f"{state}, or correct the name of {destination.name} (hostnamectl, /etc/hosts)",
        )
    if target.listen and target.listen not in {one[4][0] for one in found}:
        return [], refusal(
            "address_not_listened_on",
            f"{destination.name} takes guests on {target.listen} only (migration_address in its qemu.conf), but they "
            f"are sent to {target.name} ({found[0][4][0]})",
            f"set kvmops_cluster_migration_address of {destination.name} to {target.listen}, or change its qemu.conf",
        )
    return found, None


def _target(destination: Destination, name: str) -> Target:
    said = destination.incoming
    listen = str(said.get("listen") or "")
    return Target(
        name.strip("[]"),
        int(said.get("first_port") or FIRST_PORT),
        int(said.get("last_port") or LAST_PORT),
        None if listen in ("", "::") or listen == str(ipaddress.IPv4Address(0)) else listen.strip("[]"),
    )
