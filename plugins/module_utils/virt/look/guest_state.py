# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: how one libvirtd, or both of a move, show a guest.

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import (
    NOTHING_SEEN,
    Seen,
    Side,
    Verdict,
    judge,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.state_names import reason_word, state_word

#: How long both sides may take to agree after a daemon was restarted or a migration was aborted. A destination whose
#: daemon was killed showed the unfinished guest for 6 s; libvirt notices a dead link after 30 s.
AGREEMENT_TIMEOUT_S = 45.0
#: What both sides must have said for this long: that a guest may go on which a migration left paused, and which stands
#: still meanwhile, or that a guest runs nowhere.
SETTLED_AFTER_S = 3.0
SETTLING = ("resume_source", "off", "lost")
#: Both sides are asked this often.
POLL_S = 0.5


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """One host of a move: its name and how to reach its libvirtd from here."""

    host: str
    uri: str


def ask(connection: t.Any, host: str, uuid: str) -> Side:
    """What one libvirtd says of a guest.

    Args:
        connection: an open connection to that libvirtd.
        host: the host's name.
        uuid: the guest's UUID.
    """
    libvirt = virt.libvirt
    try:
        domain = connection.lookupByUUIDString(uuid)
        state, reason = domain.state()
        operation = _migration(domain)
        return Side(
            host=host,
            reachable=True,
            state=state_word(state),
            state_reason=reason_word(state, reason),
            persistent=bool(domain.isPersistent()),
            migrating=operation is not None,
            coming_in=operation == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN,
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return Side(host=host, reachable=True)
        return Side(host=host, reachable=False, error=str(error))


def is_migrating(domain: t.Any) -> bool:
    """Whether a migration is at work on the guest, here as its source or as its destination."""
    return _migration(domain) is not None


def is_coming_in(domain: t.Any) -> bool:
    """Whether a migration is at work on the guest, here as its destination."""
    return _migration(domain) == virt.libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN


def _migration(domain: t.Any) -> int | None:
    """libvirt's operation of a migration that is at work on the guest here; None for no migration."""
    libvirt = virt.libvirt
    try:
        job = domain.jobStats()
    except libvirt.libvirtError as error:
        # A destination answers "statistics are available only on the source host" while a guest comes in.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return int(libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN)
        # A guest that has just stopped has no job.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
            return None
        raise
    migrations = (libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN)
    running = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)
    operation = job.get("operation")
    return int(operation) if job.get("type") in running and operation in migrations else None


def ask_host(connections: Connections, endpoint: Endpoint, uuid: str) -> Side:
    """What one libvirtd says of a guest, over a link that is opened again if its daemon was restarted."""
    try:
        return ask(connections.get(endpoint.uri).connection, endpoint.host, uuid)
    except virt.VirtError as error:
        return Side(host=endpoint.host, reachable=False, error=error.refusal["reason"])


def await_agreement(
    connections: Connections,
    name: str,
    uuid: str,
    ends: tuple[Endpoint, Endpoint],
    *,
    suspended_by_us: bool = False,
    timeout_s: float = AGREEMENT_TIMEOUT_S,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
    watching: t.Callable[[Side, Side], bool] = lambda _here, _there: True,
    seen: t.Callable[[], Seen] = lambda: NOTHING_SEEN,
) -> tuple[Verdict, Side, Side]:
    """Ask both sides until they agree, or until the time is over.

    A migration that is still in flight is awaited as long as it lasts: its own deadline ends it, not this wait.

    Args:
        ends: source and destination.
        watching: called after each look at a move that is in flight; false says that it is not awaited any longer than
            ``timeout_s``.
        seen: what has been seen of the guest while it was under way.
    """
    end = clock() + timeout_s
    settled: tuple[str, float] | None = None
    while True:
        here, there = (ask_host(connections, where, uuid) for where in ends)
        verdict, now = judge(name, here, there, suspended_by_us=suspended_by_us, seen=seen()), clock()
        if verdict.kind == "in_flight" and here.migrating:
            end = now + timeout_s if watching(here, there) else end
        elif verdict.kind in ("moved", "stayed"):
            return verdict, here, there
        if verdict.kind not in SETTLING:
            settled = None
        elif settled is None or settled[0] != verdict.kind:
            settled = verdict.kind, now
        if now >= end or (settled is not None and now >= settled[1] + SETTLED_AFTER_S):
            return verdict, here, there
        sleep(POLL_S)
