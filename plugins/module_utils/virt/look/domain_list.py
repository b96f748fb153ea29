# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which guests a host has, and their statistics, by calls for all guests together.

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    MAX_HANGING,
    UnansweredError,
    within,
)

#: All statistics together; they come from every QEMU in turn.
BULK_TIMEOUT_S = 3.0


class DomainList:
    """The guests of a host, by bulk calls.

    Args:
        connection: to its libvirtd.
        only: the UUID of the one guest that is wanted, or None for all.
        stack: closes a second connection, where one was needed.

    Attributes:
        domains: their ``virDomain``.
        persistent, autostart, snapshots: UUIDs of guests with a definition, started with the host, with snapshots.
        statistics: by UUID.
        taken_at_s: when they were taken, in seconds since 1970.
        silent: UUIDs of guests whose QEMU has owed an answer for too long.
    """

    def __init__(self, connection: t.Any, only: str | None, stack: contextlib.ExitStack) -> None:
        lib = virt.libvirt
        self.domains = _listed(connection, only)
        self.persistent = _uuids(connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_PERSISTENT))
        self.autostart = _uuids(connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_AUTOSTART))
        self.snapshots = _uuids(connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT))
        self.statistics, hung = _statistics(connection, self.domains if only else None)
        self.taken_at_s = time.time()
        if hung:
            # Calls that hang have used up what libvirtd serves on one connection.
            connection = stack.enter_context(virt.connect(connection.getURI(), read_only=True))
            self.domains = _listed(connection, only)
        self.silent = {domain.UUIDString() for domain in self.domains if _occupied(domain)}


def _listed(connection: t.Any, only: str | None) -> list[t.Any]:
    return [domain for domain in connection.listAllDomains(0) if only in (None, domain.UUIDString())]


def _uuids(domains: t.Iterable[t.Any]) -> set[str]:
    return {domain.UUIDString() for domain in domains}


def _occupied(domain: t.Any) -> bool:
    """Whether QEMU has not answered for longer than it ever needs. This call never waits for QEMU."""
    try:
        state, _details, for_ms = domain.controlInfo()
    except virt.libvirt.libvirtError:
        return False
    return bool(state != virt.libvirt.VIR_DOMAIN_CONTROL_OK and for_ms > ANSWER_TIMEOUT_S * 1000)


def _statistics(connection: t.Any, domains: list[t.Any] | None) -> tuple[dict[str, dict[str, t.Any]], int]:
    """Statistics by UUID, of all domains or of these, and how many calls hang.

    A call that meets a QEMU that hangs never returns. But it holds that guest's lock, so the next call (NOWAIT) skips
    that guest.
    """
    lib = virt.libvirt
    groups = (
        lib.VIR_DOMAIN_STATS_STATE
        | lib.VIR_DOMAIN_STATS_BALLOON
        | lib.VIR_DOMAIN_STATS_VCPU
        | lib.VIR_DOMAIN_STATS_BLOCK
    )
    flags = lib.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    if domains is not None and not domains:
        return {}, 0

    def ask(wanted: int) -> t.Any:
        if domains is None:
            return connection.getAllDomainStats(wanted, flags)
        return connection.domainListGetStats(domains, wanted, flags)

    for hung in range(MAX_HANGING - 1):
        with contextlib.suppress(UnansweredError):
            return _by_uuid(within(BULK_TIMEOUT_S, lambda: ask(groups))), hung
    # The states alone need no QEMU.
    return _by_uuid(within(BULK_TIMEOUT_S, lambda: ask(lib.VIR_DOMAIN_STATS_STATE))), MAX_HANGING - 1


def _by_uuid(answer: t.Iterable[tuple[t.Any, dict[str, t.Any]]]) -> dict[str, dict[str, t.Any]]:
    return {domain.UUIDString(): statistics for domain, statistics in answer}
