# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Refusals that several planners make: N+1 does not hold after the plan, or a guest cannot leave its host."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Stay
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import n_plus_one
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import stays_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed


def n_plus_one_remarks(numbered: NumberedCluster, after: State, spare: str) -> list[Refusal]:
    """Return a remark if a host must not fail after the plan; none if ``spare`` is off."""
    if spare == "off":
        return []
    hosts = n_plus_one.unprotected(after)
    if not hosts:
        return []
    need = {host: sum(after.need[unit] for unit in after.on[host]) for host in hosts}
    worst = max(hosts, key=lambda host: (need[host], -host))
    free = sum(max(0, left) for host, left in enumerate(after.free) if after.is_open[host] and host != worst)
    names = [numbered.names[host] for host in hosts]
    return [
        refusal(
            "n_plus_one",
            f"after this plan, the other hosts could not take the guests of {listed(names)} if it failed "
            f"({numbered.names[worst]} needs {human_bytes(need[worst])}; {human_bytes(free)} are free elsewhere)",
            "move fewer guests, open another host, or permit it (warn or off)",
        )
    ]


def stays_of_pinned(numbered: NumberedCluster, unit: int, otherwise: list[Refusal]) -> list[Stay]:
    """Return the stays of guests that do not leave: for their own reasons, or because a companion stays."""
    own = [numbered.pinned_by_itself(unit, member) for member in range(len(numbered.domains[unit]))]
    names = [domain["name"] for domain in numbered.domains[unit]]

    def refusals(member: int) -> list[Refusal]:
        if own[member] or not any(own):
            return own[member] or numbered.pinned_by(unit) or otherwise
        staying = [name for name, reasons in zip(names, own) if reasons]
        host = numbered.names[numbered.cluster.units[unit].host]
        return [
            refusal(
                "keep_together",
                f"{names[member]} is kept together with {listed(staying)}, which "
                f"{'does' if len(staying) == 1 else 'do'} not leave {host}",
                f"let {listed(staying)} move too, or take {names[member]} out of that group",
            )
        ]

    return stays_of(numbered, unit, refusals)
