# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: all checks of one path, in their order. Runs in a child process.

from __future__ import annotations

import time
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError, connect
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import split_marks
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import as_root
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import (
    Check,
    Destination,
    PathRequest,
    SourceHost,
    failed,
    passed,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.encryption import check_encryption
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.guest_cpus import check_guest_cpus
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.host_checks import (
    check_identity,
    check_versions,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.mtu import check_mtu
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.ports import check_ports
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.target import known_target, told_target


def checks_of_path(
    request: PathRequest, source: SourceHost, destination: Destination, root: Path = Path("/")
) -> t.Iterator[dict[str, t.Any]]:
    """Check one path.

    Args:
        request: what the path is needed for.
        source: what is known of this host.
        destination: the other host.
        root: of this host's files.

    Yields: each check as soon as it is done, as ``{"check": ..., "guests": [...]}``. A check that comes twice was
        overtaken by a later one.
    """
    # Checks without a connection come first: they are reported even if the connection hangs.
    yield {"check": check_encryption(request, destination, root)}
    known = known_target(destination)
    ports = check_ports(request.source, destination, known, busy=True) if known else None
    if ports:
        yield {"check": ports}
    read_only = request.read_only or not source.guests
    started = time.monotonic()
    try:
        with connect(destination.uri, read_only=read_only) as connection:
            yield {"check": _connected(request.source, destination, connection, time.monotonic() - started)}
            yield {"check": check_identity(source, destination, connection)}
            yield {"check": check_versions(request.source, source, destination, connection)}
            target = told_target(destination, connection)
            if ports is None or ports["ok"]:
                ports = check_ports(request.source, destination, target, busy=_is_busy(connection))
                yield {"check": ports}
            yield check_guest_cpus(source, destination, connection, read_only=request.read_only)
        if ports["ok"]:
            yield {"check": check_mtu(request.source, destination, target)}
    except VirtError as error:
        yield {"check": failed("connect", error.refusal)}
    except virt.libvirt.libvirtError as error:
        why = refusal(
            "connection_lost",
            f"{destination.uri} broke off while it was in use: {error}",
            f"see journalctl -u libvirtd -u virtqemud on {destination.name}",
        )
        yield {"check": failed("connect", why)}


def _connected(source: str, destination: Destination, connection: t.Any, seconds: float) -> Check:
    connection.getHostname()
    # A migration connects as root, whoever asks for it.
    why = as_root.unreachable(source, destination.uri)
    if why is not None and why["code"] == as_root.NOT_TRIED:
        return {"check": "connect", "ok": True, **why}
    if why is not None:
        return failed("connect", why)
    return passed("connect", "connected", f"{destination.uri} answers in {seconds * 1000:.0f} ms")


def _is_busy(connection: t.Any) -> bool:
    """Whether a guest comes in there now, or QEMU may be waiting for the rest of one whose post-copy broke off.

    That one takes the first connection for its source, whoever makes it.
    """
    lib = virt.libvirt
    if connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_PAUSED):
        return True
    return bool(split_marks.halves(connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_RUNNING)))
