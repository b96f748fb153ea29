# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The load of hosts and guests as snapshots show it, and averages for guests that were not measured."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import (
    NOTHING_EXPECTED,
    Constraints,
    Expected,
)


def pressures(snapshots: t.Mapping[str, Snapshot]) -> dict[str, float]:
    """Return the share of the last minute in which something waited for a CPU, by host, for hosts that tell it."""
    shares = {host: (snapshot.get("pressure") or {}).get("cpu") for host, snapshot in snapshots.items()}
    return {host: float(share) for host, share in shares.items() if share is not None}


def used_cpus(snapshots: t.Mapping[str, Snapshot]) -> dict[str, Expected]:
    """Return the CPUs that each guest uses, by UUID, for guests that were watched."""
    return {
        domain["uuid"]: Expected(cpus=float(domain["cpus_used"]))
        for snapshot in snapshots.values()
        for domain in snapshot.get("domains") or []
        if domain.get("cpus_used") is not None and not is_off(domain)
    }


def usual_rate(constraints: Constraints) -> float:
    """Return the average bytes of memory per second of all guests with a forecast; 0 if there are none."""
    memory: list[int] = []
    seconds: list[float] = []
    if any(one.seconds is not None for one in constraints.expected.values()):
        for snapshot in constraints.snapshots.values():
            for domain in snapshot.get("domains") or []:
                one = constraints.expected.get(domain["uuid"], NOTHING_EXPECTED)
                if one.seconds is not None:
                    memory.append(int(domain["memory_bytes"]) if one.bytes is None else one.bytes)
                    seconds.append(max(one.seconds, 1e-3))
    # Summed up exactly: else the order in which the hosts answered would show in the plan.
    return sum(memory) / math.fsum(seconds) if seconds else 0.0


def usual_use(constraints: Constraints) -> float:
    """Return the average of used CPUs per virtual CPU of all guests that were measured; 1 if there are none."""
    used: list[float] = []
    promised = 0
    if any(one.cpus is not None for one in constraints.expected.values()):
        for snapshot in constraints.snapshots.values():
            for domain in snapshot.get("domains") or []:
                measured = constraints.expected.get(domain["uuid"], NOTHING_EXPECTED).cpus
                if measured is not None:
                    used.append(measured)
                    promised += int(domain.get("vcpus") or 1)
    # Exactly, as above.
    return (math.fsum(used) / promised if promised else 0.0) or 1.0
