# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""From snapshots to a placement for one goal, with the refusals that concern the whole cluster."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import compatibility, goals
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    SNAPSHOT,
    Domain,
    Off,
    Snapshot,
    is_off,
    is_open,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.paths import refusals_by_path
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import Placement, Wish, place
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.restore import Left, restore

#: What the planner can do today; the other goals of a plan come with the planner proper.
GOALS = ("drain", "restore")


def by_host(snapshots: t.Any) -> dict[str, Snapshot]:
    """Snapshots by host, from a list of them or from a mapping; PlanError for what is no snapshot."""
    documents = list(snapshots.values()) if isinstance(snapshots, t.Mapping) else list(snapshots)
    found: dict[str, Snapshot] = {}
    for number, document in enumerate(documents):
        schema = document.get("schema") if isinstance(document, t.Mapping) else None
        if schema != SNAPSHOT:
            raise PlanError(
                "not_a_snapshot",
                f"snapshots[{number}] is not a snapshot: its schema is {schema or 'missing'}, not {SNAPSHOT}",
                "give what host_info returned as snapshot, of the same release of kvmops.cluster",
            )
        if document["host"] in found:
            raise PlanError(
                "host_twice",
                f"there are two snapshots of {document['host']}",
                "give one of each host, the newest",
            )
        found[document["host"]] = document
    return found


def make(
    kind: str,
    hosts: t.Sequence[str],
    snapshots: t.Mapping[str, Snapshot],
    *,
    intent: t.Mapping[str, t.Any],
    paths: t.Iterable[t.Mapping[str, t.Any]] = (),
    reserve_bytes: int = 0,
    excluded: t.Collection[str] = (),
    left: t.Iterable[Left] = (),
) -> tuple[Placement, list[Off]]:
    """Place the guests that the goal concerns.

    Args:
        kind: one of ``GOALS``.
        hosts: the hosts to empty, or to bring guests home to.
        snapshots: every host that may play a part, by name.
        intent: the run's intent as the operator stated it.
        paths: what the sources see of the destinations.
        reserve_bytes: memory that must stay free on every destination.
        excluded: UUIDs of guests to leave where they are.
        left: guests that left these hosts earlier (restore only).

    Raises:
        PlanError: for what is wrong with the whole cluster; what is wrong with one guest is in its stay.
    """
    _check_hosts(hosts, snapshots)
    _check_duplicates(snapshots)
    if kind == "drain":
        wishes = goals.drain(hosts, snapshots)
        _check_somewhere_to_go(wishes, hosts, snapshots)
        off = goals.off(hosts, snapshots)
    else:
        wishes, off = restore(hosts, snapshots, left), []
    placement = place(
        wishes, snapshots, intent, reserve_bytes=reserve_bytes, paths=refusals_by_path(paths), excluded=excluded
    )
    return placement, off


def _check_hosts(hosts: t.Sequence[str], snapshots: t.Mapping[str, Snapshot]) -> None:
    if not hosts:
        raise PlanError("no_host", "no host is named", "name at least one host")
    unknown = [host for host in hosts if host not in snapshots]
    if unknown:
        raise PlanError(
            "unknown_host",
            f"there is no snapshot of {', '.join(unknown)}, only of {', '.join(sorted(snapshots)) or 'no host at all'}",
            "check the name against the inventory, and that host_info ran there",
        )
    for host in hosts:
        if list(hosts).count(host) > 1:
            raise PlanError("host_twice", f"{host} is named twice", "name each host once")


def _check_duplicates(snapshots: t.Mapping[str, Snapshot]) -> None:
    """A guest that is active on two hosts, while no migration explains it, may be destroying its disk."""
    seen: dict[str, tuple[str, Domain]] = {}
    for host in sorted(snapshots):
        for domain in snapshots[host].get("domains") or []:
            if is_off(domain):
                continue
            other_host, other = seen.setdefault(domain["uuid"], (host, domain))
            if other_host != host and not _is_moving(domain) and not _is_moving(other):
                raise PlanError(
                    "duplicate_uuid",
                    f"UUID {domain['uuid']} is active on two hosts: {other['name']} on {other_host} and "
                    f"{domain['name']} on {host}",
                    "move nothing until that is cleared up: if it is one guest that runs twice, its disk is in danger; "
                    "if it is a copy, give the copy a UUID of its own",
                )


def _is_moving(domain: Domain) -> bool:
    why = str(domain.get("state_reason") or "")
    return bool(domain.get("job")) or "migrati" in why or "postcopy" in why or why == "starting_up"


def _check_somewhere_to_go(
    wishes: t.Sequence[Wish], hosts: t.Sequence[str], snapshots: t.Mapping[str, Snapshot]
) -> None:
    others = [snapshot for host, snapshot in sorted(snapshots.items()) if host not in hosts]
    if not wishes or any(is_open(snapshot) for snapshot in others):
        return
    closed: list[Refusal] = [refused for refused in map(compatibility.closed, others) if refused]
    why = ", and ".join(refused["reason"] for refused in closed) or "there is no other host"
    raise PlanError(
        "no_destination",
        f"no host is open to the guests of {', '.join(hosts)}: {why}",
        "open one of them again (host_maintenance with state: active), or add a host to the inventory",
    )
