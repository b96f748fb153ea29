# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether this host reaches the ports of migrations at a destination.

from __future__ import annotations

import errno
import os
import select
import socket
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import Check, Destination, failed, passed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.target import Target, resolved

#: It takes this long to tell a firewall that drops from a slow network.
PORT_TIMEOUT_S = 2.5


def check_ports(source: str, destination: Destination, target: Target, *, busy: bool) -> Check:
    """Whether this host reaches the ports of migrations at a destination.

    Args:
        source: this host's name.
        destination: the other host.
        target: where guests are sent.
        busy: a guest may be coming in there. Its port must not be touched: QEMU takes one connection only.
    """
    found, why = resolved(target, source, destination)
    if why:
        return failed("ports", why)
    # The lowest ports are in use while a guest comes in. In practice the highest never is.
    lowest = range(target.first_port, target.last_port)[:2]
    ports = [target.last_port] if busy else [*lowest, target.last_port]
    answers = connect_ports(found[0][4][0], ports, PORT_TIMEOUT_S)
    silent = [port for port, answer in answers.items() if answer is not None]
    if not silent:
        return passed("ports", "reachable", f"{target.name} answers on port {listed([str(p) for p in ports])}")
    no_answer = answers[silent[0]]
    return failed(
        "ports",
        refusal(
            "ports_filtered" if no_answer == "no answer" else "address_unreachable",
            f"{no_answer} from {target.name} port {listed([str(port) for port in silent])}",
            f"open TCP {target.first_port}-{target.last_port} from {source} to {target.name}"
            if no_answer == "no answer"
            else f"check the route from {source} to {target.name}",
        ),
    )


def closed_to_disks(source: str, target: str, address: str, ports: tuple[int, int]) -> Refusal | None:
    """Why disks cannot be copied to a host: its ports do not answer. None where they do, or the address is not known.

    QEMU connects to the server of the disks while the guest stands still, and gives up after two minutes only.

    Args:
        source: this host's name.
        target: the other host's.
        address: where the guest is sent.
        ports: the first and the last one. In practice the last one is never in use, so it may be tried.
    """
    first, last = ports
    try:
        answer = connect_ports(address, [last], PORT_TIMEOUT_S)[last]
    except OSError:
        return None
    if answer is None:
        return None
    return refusal(
        "ports_filtered" if answer == "no answer" else "address_unreachable",
        f"{answer} from {target} ({address}) port {last}, and the guest would stand still while QEMU tries to reach "
        "the port for its disks",
        f"open TCP {first}-{last} from {source} to {target}; if its qemu.conf names other ports, say so "
        "(migration_ports)",
    )


def connect_ports(address: str, ports: t.Sequence[int], timeout_s: float) -> dict[int, str | None]:
    """Try to connect to all ports at once.

    Returns: for each port None if the host answers (a port where nobody listens answers too), or what is wrong.

    Raises:
        OSError: the address cannot be resolved.
    """
    family, _kind, _protocol, _name, where = socket.getaddrinfo(address, ports[0], type=socket.SOCK_STREAM)[0]
    answers: dict[int, str | None] = dict.fromkeys(ports, "no answer")
    waiting: dict[socket.socket, int] = {}
    for port in ports:
        probe = socket.socket(family, socket.SOCK_STREAM)
        probe.setblocking(False)
        waiting[probe] = port
        answers[port] = _meaning(probe.connect_ex((where[0], port, *where[2:])))
    deadline = time.monotonic() + timeout_s
    pending = {probe for probe, port in waiting.items() if answers[port] == "no answer"}
    while pending and time.monotonic() < deadline:
        _readable, ready, _broken = select.select([], list(pending), [], max(0.0, deadline - time.monotonic()))
        for probe in ready:
            answers[waiting[probe]] = _meaning(probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            pending.discard(probe)
    for probe in waiting:
        probe.close()
    return answers


def _meaning(number: int) -> str | None:
    if number in (0, errno.ECONNREFUSED):
        return None
    if number in (errno.EINPROGRESS, errno.EAGAIN, errno.ETIMEDOUT):
        return "no answer"
    return os.strerror(number).lower()
