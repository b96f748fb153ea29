# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find guests that are active on several hosts while no migration explains it. They may destroy their disk."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Snapshot,
    is_off,
    plain_state,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: A migration has two ends, and the guest is active on both until it is over.
ENDS = 2


def duplicates(snapshots: t.Mapping[str, Snapshot]) -> dict[str, Refusal]:
    """What is wrong with each guest that is active more than once, by UUID; empty where all is well."""
    seen: dict[str, list[tuple[str, Domain]]] = {}
    for host in sorted(snapshots):
        for domain in snapshots[host].get("domains") or []:
            if not is_off(domain):
                seen.setdefault(domain["uuid"], []).append((host, domain))
    return {uuid: _duplicate(uuid, copies) for uuid, copies in seen.items() if not _is_explained(copies)}


def is_moving(domain: Domain) -> bool:
    """Return whether a migration works on this guest, here as its source or its destination.

    The reason of a running guest tells how it started to run, as long as it runs: after a migration that was cancelled
    months ago it still says so.
    """
    job, why = domain.get("job") or {}, str(domain.get("state_reason") or "")
    if "migration" in str(job.get("operation") or ""):
        return True
    if plain_state(domain) == "paused":
        return why in ("migration", "starting_up") or why.startswith("postcopy")
    return why.startswith("postcopy")


def _is_explained(copies: t.Sequence[tuple[str, Domain]]) -> bool:
    hosts = {host for host, dummy in copies}
    return len(hosts) == 1 or (len(hosts) == ENDS and any(is_moving(domain) for dummy, domain in copies))


def _duplicate(uuid: str, copies: t.Sequence[tuple[str, Domain]]) -> Refusal:
    count = "two" if len(copies) == ENDS else len(copies)
    told = listed([f"{domain['name']} on {host}" for host, domain in copies])
    return refusal(
        "duplicate_uuid",
        f"UUID {uuid} is active on {count} hosts: {told}",
        "move nothing until this is resolved: if it is one guest that runs twice, its disk is in danger; "
        "if it is a copy, give the copy a UUID of its own",
    )
