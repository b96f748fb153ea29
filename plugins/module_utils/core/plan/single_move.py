# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan of a single move, which an operator asks for without a planner."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PLAN
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import directory_name
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan_shape import MIGRATE

STEP = "move"


def step_of(
    guest: t.Mapping[str, str],
    source: str,
    destination: str,
    memory_bytes: int,
    intent: t.Mapping[str, t.Any],
) -> dict[str, t.Any]:
    """Return the one step of such a plan.

    Args:
        guest: C(name) and C(uuid).
        intent: complete.
    """
    return {
        "id": STEP,
        "guest": dict(guest),
        "source": source,
        "destination": destination,
        "memory_bytes": memory_bytes,
        "intent": dict(intent),
        "reason": "the operator chose this host",
        "strategy": None,
        "forecast": None,
        "after": [],
    }


def plan_of(
    step: t.Mapping[str, t.Any], hosts: t.Mapping[str, t.Mapping[str, t.Any]], created_at: str, nonce: str
) -> dict[str, t.Any]:
    """Return the plan of one step. Nobody compares it with snapshots: its guest was looked at a moment ago.

    Args:
        step: of the move, from L(step_of).
        hosts: source and destination, each with C(host_uuid), C(connect_uri) and C(migration_address).
        created_at: the time of now (UTC, whole seconds).
        nonce: tells it from another move of this guest in the same second.
    """
    return {
        "schema": PLAN,
        "id": directory_name(MIGRATE, step["guest"]["name"], created_at, nonce),
        "goal": {"kind": MIGRATE, "hosts": [step["source"]]},
        "created_at": created_at,
        "intent": dict(step["intent"]),
        "snapshots": {},
        "hosts": {name: dict(host) for name, host in hosts.items()},
        "steps": [dict(step)],
        "stays": [],
        "off": [],
        "expected": {"seconds": None, "fits_window": None},
        "remarks": [],
        "figures": {},
        "waves": [],
    }


def is_same_move(plan: t.Any, step: t.Mapping[str, t.Any]) -> bool:
    """Return whether a plan on record is that of a single move of this guest to this destination."""
    steps = plan.get("steps") if isinstance(plan, t.Mapping) else None
    if not isinstance(steps, list) or len(steps) != 1 or not isinstance(steps[0], t.Mapping):
        return False
    goal, guest = plan.get("goal"), steps[0].get("guest")
    if not isinstance(goal, t.Mapping) or not isinstance(guest, t.Mapping) or goal.get("kind") != MIGRATE:
        return False
    known = (guest.get("uuid"), steps[0].get("source"), steps[0].get("destination"))
    return known == (step["guest"]["uuid"], step["source"], step["destination"])
