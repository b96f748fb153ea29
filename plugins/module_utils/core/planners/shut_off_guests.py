# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find guests that are shut off on the hosts of a goal. They do not move."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Off,
    Snapshot,
    guest_of,
    is_off,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.left_definitions import left_definitions


def shut_off(hosts: t.Sequence[str], snapshots: t.Mapping[str, Snapshot]) -> list[Off]:
    """Return guests that are shut off on these hosts. They do not move, but cannot start while the host is away.

    A definition of a guest that runs elsewhere is no guest that is shut off.
    """
    left = {(found.host, found.domain["uuid"]) for found in left_definitions(hosts, snapshots)}
    return [
        {"guest": guest_of(domain), "host": host}
        for host in hosts
        for domain in _guests(snapshots[host])
        if is_off(domain) and (host, domain["uuid"]) not in left
    ]


def _guests(snapshot: Snapshot) -> list[Domain]:
    return sorted(snapshot.get("domains") or [], key=lambda domain: (domain["name"], domain["uuid"]))
