# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What must be right about snapshots and hosts before anything is planned; a PlanError says what is not."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import SNAPSHOT, Snapshot, is_off, is_open
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.duplicates import duplicates


def by_host(snapshots: t.Any) -> dict[str, Snapshot]:
    """Snapshots by host, from a list of them or from a mapping; PlanError for what is no snapshot."""
    found: dict[str, Snapshot] = {}
    for number, document in enumerate(_documents(snapshots)):
        schema = document.get("schema") if isinstance(document, t.Mapping) else None
        if schema != SNAPSHOT:
            raise PlanError(
                "not_a_snapshot",
                f"snapshots[{number}] is not a snapshot: its schema is {schema or 'missing'}, not {SNAPSHOT}",
                "give what host_info returned as snapshot, of the same release of kvmops.cluster",
            )
        _check_whole(document, f"snapshots[{number}]")
        if document["host"] in found:
            raise PlanError(
                "host_twice",
                f"there are two snapshots of {document['host']}",
                "give one of each host, the newest",
            )
        found[document["host"]] = document
    return found


def _documents(snapshots: t.Any) -> list[t.Any]:
    if isinstance(snapshots, t.Mapping) and "schema" not in snapshots:
        return list(snapshots.values())
    if isinstance(snapshots, t.Sequence) and not isinstance(snapshots, (str, bytes)):
        return list(snapshots)
    raise PlanError(
        "not_a_snapshot",
        "snapshots must be a list of snapshots, or a mapping of hosts to snapshots",
        "give what host_info returned as snapshot on each host",
    )


def _check_whole(snapshot: t.Mapping[str, t.Any], place: str) -> None:
    """Refuse a snapshot that lacks what every plan rests on; whatever else is missing is null to the planner."""
    if not _is_text(snapshot.get("host")):
        raise _damaged(place, "host", "the name of the host")
    if not isinstance(snapshot.get("capacity") or {}, t.Mapping):
        raise _damaged(place, "capacity", "a mapping")
    domains = snapshot.get("domains")
    if not isinstance(domains or [], t.Sequence) or isinstance(domains, str):
        raise _damaged(place, "domains", "a list of guests")
    for number, domain in enumerate(domains or []):
        where = f"{place}.domains[{number}]"
        if not isinstance(domain, t.Mapping):
            raise _damaged(place, f"domains[{number}]", "a guest")
        for key in ("name", "uuid"):
            if not _is_text(domain.get(key)):
                raise _damaged(where, key, "a text")
        memory = domain.get("memory_bytes")
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 0:
            raise _damaged(where, "memory_bytes", "a whole number of 0 or more")


def _is_text(value: t.Any) -> bool:
    return isinstance(value, str) and bool(value)


def _damaged(place: str, field: str, what: str) -> PlanError:
    return PlanError(
        "snapshot_damaged",
        f"{place} is damaged: its {field} is not {what}",
        "take a new snapshot (host_info), and give it unedited",
    )


def check_hosts(hosts: t.Sequence[str], snapshots: t.Mapping[str, Snapshot]) -> None:
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


def check_duplicates(snapshots: t.Mapping[str, Snapshot]) -> None:
    for found in duplicates(snapshots).values():
        raise PlanError(**found)


def check_destinations(hosts: t.Sequence[str], snapshots: t.Mapping[str, Snapshot]) -> None:
    others = [snapshot for host, snapshot in sorted(snapshots.items()) if host not in hosts]
    active = any(not is_off(domain) for host in hosts for domain in snapshots[host].get("domains") or [])
    if not active or any(is_open(snapshot) for snapshot in others):
        return
    closed: list[Refusal] = [refused for refused in map(compatibility.cordon_refusal, others) if refused]
    why = ", and ".join(refused["reason"] for refused in closed) or "there is no other host"
    raise PlanError(
        "no_destination",
        f"no host is open to the guests of {', '.join(hosts)}: {why}",
        "open one of them again (host_maintenance with state: active), or add a host to the inventory",
    )
