# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Remark what of a plan the cluster itself depends on: storage that a host or a guest serves, and the controller."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import EMPTYING, Request
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import infrastructure


def infrastructure_remarks(request: Request, constraints: Constraints, placement: Placement) -> list[Refusal]:
    """Return a remark for each host that will be away and serves storage, and for each guest that the cluster depends
    on and that moves, or stays although it should move.
    """
    snapshots = constraints.snapshots
    remarks: list[Refusal] = []
    if request.kind in (*EMPTYING, "upgrade"):
        serving = infrastructure.serving_hosts(snapshots)
        remarks += [
            infrastructure.host_remark(host, serving[host]) for host in sorted(request.hosts) if host in serving
        ]
    concerned = {one["guest"]["uuid"]: one["guest"]["name"] for one in (*placement.steps, *placement.stays)}
    guests = infrastructure.serving_guests(snapshots)
    remarks += [
        infrastructure.guest_remark(name, guests[uuid]) for uuid, name in sorted(concerned.items()) if uuid in guests
    ]
    running = infrastructure.controllers(snapshots, constraints.controller_uuids)
    remarks += [infrastructure.controller_remark(name) for uuid, name in sorted(concerned.items()) if uuid in running]
    return remarks
