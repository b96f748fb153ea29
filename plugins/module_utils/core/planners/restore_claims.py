# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find the guests that belong on other hosts than they are on: by their metadata, or because they left."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Snapshot,
    is_off,
    metadata_of,
)

#: A guest that left, as its UUID alone or as a row of a report, a step of a plan or a step result.
LeftGuest = t.Union[str, t.Mapping[str, t.Any]]


class HomeReturn(t.NamedTuple):
    """A guest that should leave its host for its home, and why."""

    domain: Domain
    source: str
    home: str
    why: str


def home_returns(
    hosts: t.Sequence[str], snapshots: t.Mapping[str, Snapshot], left: t.Iterable[LeftGuest] = ()
) -> list[HomeReturn]:
    """Return the guests that should return to these hosts, by home and by the host they are on.

    A guest belongs on a host if its metadata names this home. Without a home in its metadata, it belongs there if it is
    among those that left. A home elsewhere counts more than having been here.
    """
    gone = list(left)
    returns: list[HomeReturn] = []
    for home in hosts:
        uuids = left_from(home, gone)
        for host in sorted(set(snapshots) - {home}):
            guests = sorted(snapshots[host].get("domains") or [], key=lambda domain: (domain["name"], domain["uuid"]))
            returns.extend(
                HomeReturn(guest, host, home, _why(guest, home))
                for guest in guests
                if _belongs_home(guest, home, uuids)
            )
    return returns


def left_from(host: str, left: t.Iterable[LeftGuest]) -> set[str]:
    """Return the UUIDs of guests that were moved away from a host.

    A row of a report or a step result counts if its source is this host and it moved. A step of a plan has no outcome
    and counts as moved.
    """
    return {_uuid(row) for row in left if isinstance(row, str) or _moved_from(host, row)}


def _moved_from(host: str, row: t.Mapping[str, t.Any]) -> bool:
    return row.get("source", host) == host and row.get("outcome", "moved") in ("moved", "already_there", "unclear")


def _uuid(row: LeftGuest) -> str:
    if isinstance(row, str):
        return row
    guest = row.get("guest")
    return str(row.get("uuid") or (guest["uuid"] if isinstance(guest, t.Mapping) else guest))


def _belongs_home(guest: Domain, home: str, left: t.Collection[str]) -> bool:
    if is_off(guest):
        return False
    own = metadata_of(guest).get("home")
    return own == home if own else guest["uuid"] in left


def _why(guest: Domain, home: str) -> str:
    return f"{home} is its home" if metadata_of(guest).get("home") == home else f"it was moved away from {home}"
