# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The documents of docs/contracts.md as types: what a type checker needs, and nothing that runs.

Snapshots and domains are read-only mappings here, because half of what they hold may be null and is asked for with
care where it is needed. Plans and their parts are spelled out, because this collection builds them.
"""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal

SNAPSHOT = "kvmops.snapshot/1"
PATH = "kvmops.path/1"
PLAN = "kvmops.plan/1"
REPORT = "kvmops.report/1"

#: The collection's XML namespace in a guest's metadata.
NAMESPACE = "https://kvmops.cluster/xmlns/guest/1"

Snapshot = t.Mapping[str, t.Any]
Domain = t.Mapping[str, t.Any]
Intent = t.Mapping[str, t.Any]


class Guest(t.TypedDict):
    name: str
    uuid: str


class Step(t.TypedDict):
    id: str
    guest: Guest
    source: str
    destination: str
    memory_bytes: int
    intent: dict[str, t.Any]
    reason: str
    strategy: str | None
    forecast: dict[str, t.Any] | None
    after: list[str]


class Stay(t.TypedDict):
    guest: Guest
    host: str
    refusals: list[Refusal]


class Placement(t.NamedTuple):
    """Who goes where, in order, and who stays."""

    steps: list[Step]
    stays: list[Stay]


class Off(t.TypedDict):
    guest: Guest
    host: str


class Goal(t.TypedDict):
    kind: str
    hosts: list[str]


class PlanHost(t.TypedDict):
    host_uuid: str
    connect_uri: str | None
    migration_address: str | None
    bandwidth_mib_s: float | None
    qemu: str | None


class Wave(t.TypedDict):
    hosts: list[str]
    seconds: float
    moves: list[dict[str, t.Any]]


class Plan(t.TypedDict):
    schema: str
    id: str
    goal: Goal
    created_at: str
    intent: dict[str, t.Any]
    snapshots: dict[str, str]
    hosts: dict[str, PlanHost]
    steps: list[Step]
    stays: list[Stay]
    off: list[Off]
    expected: dict[str, t.Any]
    remarks: list[Refusal]
    figures: dict[str, t.Any]
    waves: list[Wave]


def guest_of(domain: Domain) -> Guest:
    return {"name": domain["name"], "uuid": domain["uuid"]}


def is_off(domain: Domain) -> bool:
    """Shut off: there is no memory to move. A crashed guest still holds its memory and is not off."""
    return plain_state(domain) == "shutoff"


def plain_state(domain: Domain) -> str:
    """The state of a domain in one word, also where a tool writes ``shut off`` or ``in shutdown``."""
    return _plain(str(domain.get("state") or "unknown"))


# There are only so many states, and a plan asks each guest for its own many times.
@functools.lru_cache(maxsize=64)
def _plain(state: str) -> str:
    state = state.lower().replace(" ", "").replace("_", "").replace("-", "")
    return {"inshutdown": "shutdown", "shuttingdown": "shutdown", "idle": "running", "blocked": "running"}.get(
        state, state
    )


def metadata_of(domain: Domain) -> t.Mapping[str, t.Any]:
    return domain.get("metadata") or {}


def group_of(domain: Domain, kind: str) -> str | None:
    """The guest's ``apart`` or ``together`` group."""
    group = metadata_of(domain).get("group") or {}
    return group.get(kind) or None


def is_open(snapshot: Snapshot) -> bool:
    """May this host be a destination? A host that has never been in maintenance has no record."""
    record = snapshot.get("maintenance") or {}
    return (record.get("state") or "active") == "active"
