# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan of a run that only finishes moves that broke off. It is the record of that run; nobody reviews it."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PLAN
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import directory_name
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan_shape import MIGRATE

#: What the names of such plans begin with.
RECOVER = "recover"


def plan_of(
    source: str,
    steps: t.Sequence[t.Mapping[str, t.Any]],
    hosts: t.Mapping[str, t.Mapping[str, t.Any]],
    created_at: str,
    nonce: str,
) -> dict[str, t.Any]:
    """Return the plan of some moves from one host.

    Args:
        source: the host.
        steps: the moves.
        hosts: all that they touch, each with C(host_uuid), C(connect_uri) and C(migration_address).
        created_at: the time of now (UTC, whole seconds).
        nonce: tells it from another one of this host in the same second.
    """
    return {
        "schema": PLAN,
        "id": directory_name(RECOVER, source, created_at, nonce),
        "goal": {"kind": MIGRATE, "hosts": [source]},
        "created_at": created_at,
        "intent": intents.normalise({}),
        "snapshots": {},
        "hosts": {name: dict(host) for name, host in hosts.items()},
        "steps": [dict(step) for step in steps],
        "stays": [],
        "off": [],
        "expected": {"seconds": None, "fits_window": None},
        "remarks": [],
        "figures": {},
        "waves": [],
    }
