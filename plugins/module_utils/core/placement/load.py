# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What snapshots say of the load of hosts and guests, as far as anybody measured it."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import Expected


def pressures(snapshots: t.Mapping[str, Snapshot]) -> dict[str, float]:
    """The share of the last minute for which something waited for a CPU, by host; without hosts that do not say."""
    shares = {host: (snapshot.get("pressure") or {}).get("cpu") for host, snapshot in snapshots.items()}
    return {host: float(share) for host, share in shares.items() if share is not None}


def used_cpus(snapshots: t.Mapping[str, Snapshot]) -> dict[str, Expected]:
    """CPUs that each guest uses, by UUID; without guests that nobody watched."""
    return {
        domain["uuid"]: Expected(cpus=float(domain["cpus_used"]))
        for snapshot in snapshots.values()
        for domain in snapshot.get("domains") or []
        if domain.get("cpus_used") is not None and not is_off(domain)
    }
