# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The hosts before a run and after it: memory, CPU and guests, by their snapshots."""

from __future__ import annotations

import typing as t

#: A guest in one of these states takes memory and CPU of its host.
ACTIVE = ("running", "paused", "shutting_down", "pmsuspended")

Snapshots = t.Mapping[str, t.Mapping[str, t.Any]]


def host_changes(hosts: t.Iterable[str], before: Snapshots, after: Snapshots) -> list[dict[str, t.Any]]:
    """Each host with what it was before and is after; null where it gave no snapshot.

    Args:
        hosts: in the order in which they are told.
        before, after: snapshots by host.
    """
    return [{"host": host, "before": load(before.get(host)), "after": load(after.get(host))} for host in hosts]


def load(snapshot: t.Mapping[str, t.Any] | None) -> dict[str, t.Any] | None:
    """What a host has, and what of it is in use."""
    if snapshot is None:
        return None
    capacity = snapshot.get("capacity") or {}
    domains = [one for one in snapshot.get("domains") or () if one.get("state") in ACTIVE]
    measured = [one["cpus_used"] for one in domains if one.get("cpus_used") is not None]
    return {
        "memory_bytes": capacity.get("memory_bytes"),
        "available_bytes": capacity.get("available_bytes"),
        "cpus": capacity.get("cpus"),
        "cpus_used": round(sum(measured), 3) if measured or not domains else None,
        "vcpus": sum(one.get("vcpus") or 0 for one in domains),
        "guests": len(domains),
        "guest_memory_bytes": sum(one.get("memory_bytes") or 0 for one in domains),
        "pressure": dict(snapshot.get("pressure") or {}),
        "maintenance": (snapshot.get("maintenance") or {}).get("state"),
    }


def planned_changes(
    hosts: t.Iterable[str], before: Snapshots, steps: t.Iterable[t.Mapping[str, t.Any]]
) -> list[dict[str, t.Any]]:
    """Each host as it is, and as it will be after the steps of a plan.

    Memory counts with the whole size of a guest: what it really takes is seen only when it has come.
    """
    loads = {host: load(before.get(host)) for host in hosts}
    after = {host: dict(found) if found else None for host, found in loads.items()}
    vcpus = {one["uuid"]: one.get("vcpus") or 0 for seen in before.values() for one in seen.get("domains") or ()}
    for step in steps:
        for host, sign in ((step["source"], -1), (step["destination"], 1)):
            _shift(after.get(host), sign, step["memory_bytes"], vcpus.get(step["guest"]["uuid"], 0))
    return [{"host": host, "before": loads[host], "after": after[host]} for host in loads]


def _shift(found: dict[str, t.Any] | None, sign: int, memory_bytes: int, vcpus: int) -> None:
    if found is None:
        return
    found["guests"] += sign
    found["vcpus"] += sign * vcpus
    found["guest_memory_bytes"] += sign * memory_bytes
    # Nobody knows how much a guest will use there.
    found["cpus_used"] = None
    if found["available_bytes"] is not None:
        found["available_bytes"] = max(0, found["available_bytes"] - sign * memory_bytes)
