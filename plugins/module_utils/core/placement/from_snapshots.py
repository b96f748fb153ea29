# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Turn snapshots into a cluster in numbers: capacities, equivalence classes, groups, and pinned guests."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Snapshot,
    group_of,
    is_off,
    is_open,
    metadata_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import load
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import (
    NO_LIMIT,
    Cluster,
    Compatibility,
    HostFacts,
    UnitFacts,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import (
    NOTHING_EXPECTED,
    Constraints,
    Expected,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.identity_clashes import (
    clashes,
    fixed_numbers,
    same_machines,
    shared_names,
    shared_numbers,
    taken_numbers,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import infrastructure
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.placement_rules import (
    Rule,
    names_of,
    rule_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import evacuability, memory_demand
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.equivalence import EquivalenceClasses


class NumberedCluster:
    """The numbers, and the way back from them to the documents.

    ``cluster`` is in numbers; ``hosts`` and ``units`` give numbers by host and by UUID; ``domains`` and ``intents``
    give documents by number of the unit.
    """

    def __init__(self, constraints: Constraints, *, closing: t.Collection[str] = ()) -> None:
        """``closing`` are hosts that are to be emptied, so that no one goes there."""
        self.constraints = constraints
        self.names = sorted(constraints.snapshots)
        self.hosts = {name: number for number, name in enumerate(self.names)}
        self.classes = EquivalenceClasses(constraints.snapshots.values())
        self.domains: list[list[Domain]] = []
        self.intents: list[list[dict[str, t.Any]]] = []
        self.units: dict[str, int] = {}
        self._groups: dict[tuple[str, str], int] = {}
        self._shared_names = shared_names(constraints.snapshots)
        self._shared_numbers = shared_numbers(constraints.snapshots)
        self.serving = infrastructure.serving_guests(constraints.snapshots)
        self.controllers = infrastructure.controllers(constraints.snapshots, constraints.controller_uuids)
        self._together: dict[str, int] = {}
        self._several: dict[tuple[int, ...], int] = {}
        self._of_host: dict[tuple[int, int], list[Refusal]] = {}
        self._merged: dict[str, dict[str, t.Any]] = {}
        self._wrong_intent: dict[str, Refusal] = {}
        self._usual_use = load.usual_use(constraints)
        self._usual_rate = load.usual_rate(constraints)
        classes = [self.classes.host_class(constraints.snapshots[name]) for name in self.names]
        units = [
            self._unit(number, members)
            for number, name in enumerate(self.names)
            for members in _together(constraints.snapshots[name])
        ]
        self.cluster = Cluster(
            self._host_facts(units, classes, closing),
            units,
            self._compatibility(),
            {domain["uuid"]: domain["name"] for members in self.domains for domain in members},
        )

    def pinned_by(self, unit: int) -> list[Refusal]:
        """Return why a unit does not leave its host; empty if it may."""
        own = [refused for member in range(len(self.domains[unit])) for refused in self.pinned_by_itself(unit, member)]
        return own or self._contradiction(self.domains[unit])

    def pinned_by_itself(self, unit: int, member: int) -> list[Refusal]:
        """Return why this member of a unit does not leave its host, apart from the other members."""
        return self._against_leaving(self.domains[unit][member], self.cluster.units[unit].host)

    def _unit(self, host: int, members: list[Domain]) -> UnitFacts:
        number = len(self.domains)
        merged = [self._intent(domain) for domain in members]
        self.domains.append(members)
        self.intents.append(merged)
        for domain in members:
            self.units.setdefault(domain["uuid"], number)
        expected = [self.constraints.expected.get(domain["uuid"], NOTHING_EXPECTED) for domain in members]
        groups = {("group", str(group)) for group in (group_of(domain, "apart") for domain in members) if group}
        # A host has a name but once, whatever else is there when the guest comes.
        groups |= {("name", domain["name"]) for domain in members if domain["name"] in self._shared_names}
        if self._shared_numbers:
            groups |= {number for domain in members for number in self._shared_numbers & fixed_numbers(domain)}
        together = group_of(members[0], "together")
        guest_class = {self.classes.guest_class(domain, intent) for domain, intent in zip(members, merged)}
        pages: dict[int, int] = {}
        for domain in members:
            for size, count in memory_demand.need_pages(domain).items():
                pages[size] = pages.get(size, 0) + count
        return UnitFacts(
            guests=tuple(domain["uuid"] for domain in members),
            host=host,
            need_bytes=sum(memory_demand.need_bytes(domain) for domain in members),
            move_bytes=sum(
                int(domain["memory_bytes"]) if one.bytes is None else one.bytes
                for domain, one in zip(members, expected)
            ),
            move_s=math.fsum(self._seconds(domain, one) for domain, one in zip(members, expected)),
            vcpus=sum(int(domain.get("vcpus") or 1) for domain in members),
            cpu=math.fsum(self._cpus(domain, one) for domain, one in zip(members, expected)),
            guest_class=self._guest_class(sorted(guest_class)),
            apart=tuple(sorted(self._groups.setdefault(group, len(self._groups)) for group in groups)),
            pages=tuple(sorted(pages.items())),
            together=self._together.setdefault(together, len(self._together)) if together else None,
            is_pinned=bool(self._contradiction(members))
            or any(self._against_leaving(domain, host) for domain in members),
            is_risky=any(one.is_risky for one in expected),
            goes_last=any(domain["uuid"] in self.serving or domain["uuid"] in self.controllers for domain in members),
        )

    def _guest_class(self, classes: list[int]) -> int:
        """Return one class for members of several classes: it may go only where each of them may."""
        if len(classes) == 1:
            return classes[0]
        return self._several.setdefault(tuple(classes), -1 - len(self._several))

    def _seconds(self, domain: Domain, expected: Expected) -> float:
        """Return the forecast seconds; without a forecast, seconds from the average rate of those that have one."""
        if expected.seconds is not None:
            return max(expected.seconds, 1e-3)
        size = int(domain["memory_bytes"]) if expected.bytes is None else expected.bytes
        return size / self._usual_rate if self._usual_rate else 0.0

    def _cpus(self, domain: Domain, expected: Expected) -> float:
        if expected.cpus is not None:
            return expected.cpus
        return int(domain.get("vcpus") or 1) * self._usual_use

    def _intent(self, domain: Domain) -> dict[str, t.Any]:
        own = metadata_of(domain).get("intent")
        key = repr(own) if own else ""
        if key not in self._merged:
            try:
                self._merged[key] = intents.merge(self.constraints.intent, own, whose=f"metadata of {domain['name']}")
            except intents.IntentError as exc:
                self._wrong_intent[domain["uuid"]] = refusal(
                    "intent", str(exc), "correct the kvmops:intent element in the guest's metadata"
                )
                return self._merged.setdefault("", intents.merge(self.constraints.intent, None))
        return self._merged[key]

    def _against_leaving(self, domain: Domain, host: int) -> list[Refusal]:
        if domain["uuid"] in self.constraints.excluded:
            return [refusal("excluded", f"{domain['name']} is excluded", "to move it, do not exclude it")]
        if domain["uuid"] in self._wrong_intent:
            return [self._wrong_intent[domain["uuid"]]]
        if domain["uuid"] in self.constraints.refused_guests:
            return list(self.constraints.refused_guests[domain["uuid"]])
        intent, source = self._intent(domain), self.constraints.snapshots[self.names[host]]
        if not _is_plain(domain):
            return evacuability.refusals(domain, source, intent)
        # Only its host can keep such a guest, and then it keeps them all: asked once.
        found = self._of_host.get((host, id(intent)))
        if found is None:
            found = self._of_host[host, id(intent)] = evacuability.refusals(domain, source, intent)
        return found

    def _contradiction(self, members: t.Sequence[Domain]) -> list[Refusal]:
        groups = [group for group in (group_of(domain, "apart") for domain in members) if group]
        if len(groups) == len(set(groups)):
            return []
        together = group_of(members[0], "together")
        names = " and ".join(domain["name"] for domain in members)
        return [
            refusal(
                "groups_contradict",
                f"{names} are kept together (group {together}) and apart (group {groups[0]})",
                "take one of them out of one of the two groups",
            )
        ]

    def _host_facts(
        self, units: t.Sequence[UnitFacts], classes: t.Sequence[int], closing: t.Collection[str]
    ) -> list[HostFacts]:
        need, pages = [0] * len(self.names), [dict[int, int]() for dummy in self.names]
        for unit in units:
            need[unit.host] += unit.need_bytes
            for size, count in unit.pages:
                pages[unit.host][size] = pages[unit.host].get(size, 0) + count
        levels = _levels([self.constraints.snapshots[name] for name in self.names])
        return [
            self._one_host(number, classes[number], levels[number], need[number], pages[number], closing)
            for number in range(len(self.names))
        ]

    def _one_host(
        self,
        number: int,
        host_class: int,
        level: int,
        need: int,
        pages: t.Mapping[int, int],
        closing: t.Collection[str],
    ) -> HostFacts:
        name = self.names[number]
        snapshot, constraints = self.constraints.snapshots[name], self.constraints
        left = memory_demand.free_memory(snapshot)
        capacity = snapshot.get("capacity") or {}
        cpus = float(capacity.get("cpus") or 0)
        return HostFacts(
            name=name,
            capacity_bytes=(left.memory_bytes or 0) + need - constraints.reserve_bytes,
            memory_bytes=int(capacity.get("memory_bytes") or 0),
            cpus=cpus or 1.0,
            vcpu_limit=int(cpus * constraints.vcpu_ratio) if constraints.vcpu_ratio and cpus else NO_LIMIT,
            is_open=is_open(snapshot)
            and name not in closing
            and left.memory_bytes is not None
            and bool(capacity.get("memory_bytes")),
            host_class=host_class,
            level=level,
            pages={size: left.huge_pages.get(size, 0) + pages.get(size, 0) for size in {*left.huge_pages, *pages}},
            pressure=float(constraints.pressure.get(name, 0.0)),
        )

    def _compatibility(self) -> Compatibility:
        several = {number: classes for classes, number in self._several.items()}

        def row(guest_class: int, host_class: int) -> t.Sequence[bool]:
            rows = [self.classes.row(one, host_class) for one in several.get(guest_class, (guest_class,))]
            return [all(answers) for answers in zip(*rows)]

        hosts, paths = self.hosts, self.constraints.paths
        by_path = {
            (hosts[source], hosts[destination])
            for source, destination, uuid in paths
            if not uuid and source in hosts and destination in hosts
        }
        by_guest = {
            (self.units[uuid], hosts[destination])
            for source, destination, uuid in paths
            if uuid in self.units and destination in hosts
        }
        snapshots = self.constraints.snapshots
        clashing = clashes(self.names, snapshots, self.domains) | taken_numbers(self.names, snapshots, self.domains)
        return Compatibility(
            row,
            barred_paths=by_path | same_machines(self.names, snapshots),
            barred_guests=by_guest | clashing | self._ruled_out() | self._without_pages(),
            may_downgrade=self.constraints.may_downgrade,
        )

    def rules(self, domain: Domain) -> list[Rule]:
        """Return what is said of the hosts for this guest: by the run, and by its metadata."""
        own = rule_of(domain)
        return [*self.constraints.rules.get(domain["uuid"], ()), *([own] if own else [])]

    def _ruled_out(self) -> set[tuple[int, int]]:
        """Return (unit, host) where the operator does not want a guest of the unit."""
        names = [names_of(self.constraints.snapshots[name]) for name in self.names]
        return {
            (unit, host)
            for unit, members in enumerate(self.domains)
            for domain in members
            for rule in self.rules(domain)
            for host in range(len(names))
            if rule.forbids(names[host])
        }

    def _without_pages(self) -> set[tuple[int, int]]:
        """Return (unit, host) where NUMA cells of the host can never have the huge pages that a guest is bound to."""
        bound = [
            (unit, domain)
            for unit, members in enumerate(self.domains)
            for domain in members
            if memory_demand.is_bound_to_cells(domain)
        ]
        return {
            (unit, number)
            for unit, domain in bound
            for number, name in enumerate(self.names)
            if memory_demand.can_never_have_pages(self.constraints.snapshots[name], domain)
        }


def _is_plain(domain: Domain) -> bool:
    """Return whether neither its state, a device, a manager nor its size can keep this guest (evacuability.py)."""
    return (
        domain.get("state") == "running"
        and not domain.get("job")
        and not domain.get("blockers")
        and not domain.get("managed_by")
        and not str(domain.get("state_reason") or "").startswith("postcopy")
        and int(domain["memory_bytes"]) < versions.TLS_SAFE_BYTES
    )


def _together(snapshot: Snapshot) -> list[list[Domain]]:
    """Return the active guests of a host by name; those of one keep-together group are in one list."""
    found: dict[tuple[str, str], list[Domain]] = {}
    active = [domain for domain in snapshot.get("domains") or [] if not is_off(domain)]
    for domain in sorted(active, key=lambda one: (one["name"], one["uuid"])):
        group = group_of(domain, "together")
        found.setdefault(("group", group) if group else ("guest", domain["uuid"]), []).append(domain)
    return list(found.values())


def _levels(snapshots: t.Sequence[Snapshot]) -> list[int]:
    """Return ranks of the QEMU releases. Only major and minor version count."""
    parsed = [versions.parsed((snapshot.get("versions") or {}).get("qemu")) for snapshot in snapshots]
    known = sorted({version[:2] for version in parsed if version})
    ranks = {version: rank for rank, version in enumerate(known)}
    return [ranks[version[:2]] if version else 0 for version in parsed]
