# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan document: its id, its content, and whether it is for these hosts."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    PLAN,
    Domain,
    Goal,
    Off,
    Plan,
    PlanHost,
    Snapshot,
    Step,
    Wave,
    is_off,
    metadata_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Planned
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed


class PlanError(ValueError):
    """A plan that cannot be made or used. ``refusal`` says why and what to do; ``str()`` says both in one line."""

    def __init__(self, code: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.refusal = refusal(code, reason, remedy)


def build(
    *,
    plan_id: str,
    goal: Goal,
    created_at: str,
    intent: t.Mapping[str, t.Any],
    snapshots: t.Mapping[str, Snapshot],
    connect: t.Mapping[str, t.Mapping[str, t.Any]],
    planned: Planned,
    off: list[Off],
    waves: list[Wave] | None = None,
) -> Plan:
    """Return the plan document.

    Args:
        connect: how hosts reach each other's libvirtd, and what their links give, by host.
        planned: what a goal's planner found.
        waves: the outline of a whole rolling upgrade, of which the steps are the first wave.
    """
    return {
        "schema": PLAN,
        "id": plan_id,
        "goal": goal,
        "created_at": created_at,
        "intent": dict(intent),
        "snapshots": {host: snapshot_digest(snapshots[host]) for host in sorted(snapshots)},
        "hosts": {host: _host(snapshots[host], connect.get(host) or {}) for host in sorted(snapshots)},
        "steps": planned.placement.steps,
        "stays": planned.placement.stays,
        "off": off,
        "expected": planned.expected,
        "remarks": [*planned.remarks, *guest_remarks(planned.placement.steps, snapshots, intent)],
        "figures": planned.figures,
        "waves": list(waves or ()),
    }


def guest_remarks(
    steps: t.Iterable[Step], snapshots: t.Mapping[str, Snapshot], run_intent: t.Mapping[str, t.Any]
) -> list[Refusal]:
    """Return what is to be known of the guests that move. What holds for several of them is told once."""
    known = {
        (host, domain["uuid"]): [*(domain.get("remarks") or []), *_not_granted(domain, run_intent)]
        for host, snapshot in snapshots.items()
        for domain in snapshot.get("domains") or []
    }
    names: dict[tuple[str, str, str], list[str]] = {}
    for step in steps:
        for remark in known.get((step["source"], step["guest"]["uuid"]), []):
            told = names.setdefault((remark["code"], remark["reason"], remark["remedy"] or ""), [])
            told.append(step["guest"]["name"])
    return [refusal(code, f"{listed(guests)}: {reason}", remedy) for (code, reason, remedy), guests in names.items()]


def _not_granted(domain: Domain, run_intent: t.Mapping[str, t.Any]) -> list[Refusal]:
    """What a guest's metadata asks for that only the operator can permit."""
    own = metadata_of(domain).get("intent")
    try:
        words = intents.not_granted(run_intent, own)
    except intents.IntentError:
        # The plan has a refusal for this guest.
        return []
    if not words:
        return []
    asked = intents.stated(own)
    return [
        refusal(
            "intent_not_granted",
            f"the metadata asks for {', '.join(f'{word}={intents.shown(asked[word])}' for word in words)}, and only the"
            " run can permit that",
            "permit it in the intent of the run if it is to be so",
        )
    ]


def new_id(goal: Goal, created_at: str, nonce: str) -> str:
    """Return a plan's id. It is also the name of its directory on the hosts.

    >>> new_id({"kind": "drain", "hosts": ["h1", "h2 b"]}, "2026-11-24T02:00:00Z", "3f9a")
    'drain-h1-and-1-more-20261124T020000Z-3f9a'
    """
    more = f"-and-{len(goal['hosts']) - 1}-more" if len(goal["hosts"]) > 1 else ""
    return directory_name(goal["kind"], goal["hosts"][0] if goal["hosts"] else "cluster", created_at, nonce, more=more)


def directory_name(kind: str, name: str, created_at: str, nonce: str, *, more: str = "") -> str:
    """Return a plan's id for a host or a guest of any name.

    >>> directory_name("migrate", "web 1", "2026-11-24T02:00:00Z", "3f9a")
    'migrate-web_1-20261124T020000Z-3f9a'
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[:48].strip("._-")
    return f"{kind}-{plain or 'host'}{more}-{re.sub(r'[-:]', '', created_at)}-{nonce}"


def snapshot_digest(snapshot: Snapshot) -> str:
    """Return a hash of what a plan depends on: hosts, versions, maintenance and guests. Running counters are left
    out.
    """
    capacity, versions = snapshot.get("capacity") or {}, snapshot.get("versions") or {}
    matters = {
        "host": snapshot["host"],
        "host_uuid": snapshot.get("host_uuid"),
        "versions": [versions.get("libvirt"), versions.get("qemu")],
        "capacity": [capacity.get("cpus"), capacity.get("memory_bytes")],
        "cpu": snapshot.get("cpu"),
        "state": (snapshot.get("maintenance") or {}).get("state") or "active",
        "domains": sorted(
            (_domain_matters(domain) for domain in snapshot.get("domains") or []), key=lambda d: str(d[0])
        ),
    }
    text = json.dumps(matters, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def steps_of(plan: Plan, host: str) -> list[Step]:
    """Return the steps that start on this host, in their order."""
    return [step for step in plan["steps"] if step["source"] == host]


def check_cluster(plan: Plan, host_uuids: t.Mapping[str, str | None]) -> None:
    """Refuse a plan for other machines than these.

    ``host_uuids`` says for some or all hosts of the plan what they call themselves now; a null is not held against it.
    """
    unknown = sorted(set(host_uuids) - set(plan["hosts"]))
    known = {host: uuid for host, uuid in host_uuids.items() if host in plan["hosts"]}
    wrong = sorted(host for host, uuid in known.items() if uuid and uuid != plan["hosts"][host]["host_uuid"])
    if unknown and not known:
        raise PlanError(
            "other_cluster",
            f"plan {plan['id']} is for another cluster: it does not know {', '.join(unknown)}, "
            f"only {', '.join(sorted(plan['hosts']))}",
            "give the plan that was made for these hosts",
        )
    if wrong and len(wrong) == len(known) and len(known) > 1:
        raise PlanError(
            "other_cluster",
            f"plan {plan['id']} is for another cluster: {', '.join(wrong)} are other machines (their UUIDs differ)",
            "give the plan that was made for these hosts",
        )
    if wrong:
        host = wrong[0]
        raise PlanError(
            "host_reinstalled",
            f"{host} is not the host that plan {plan['id']} was made for: its UUID was "
            f"{plan['hosts'][host]['host_uuid']} and is now {known[host]}",
            "make a new plan",
        )


def _host(snapshot: Snapshot, connect: t.Mapping[str, t.Any]) -> PlanHost:
    return {
        "host_uuid": snapshot["host_uuid"],
        "connect_uri": connect.get("connect_uri"),
        "migration_address": connect.get("migration_address"),
        "bandwidth_mib_s": connect.get("bandwidth_mib_s"),
        "qemu": (snapshot.get("versions") or {}).get("qemu"),
    }


def _domain_matters(domain: Domain) -> list[t.Any]:
    blockers = sorted(blocker["code"] for blocker in domain.get("blockers") or [])
    disks = [[disk.get("target"), disk.get("source"), disk.get("shared")] for disk in domain.get("disks") or []]
    keys = ("uuid", "name", "memory_bytes", "hugepage_bytes", "vcpus", "machine", "metadata")
    return [*(domain.get(key) for key in keys), is_off(domain), blockers, disks]
