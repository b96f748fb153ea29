# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Say why a guest has no destination: which constraint binds, and what would give it one."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import group_of, is_open
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import Evacuation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import resource_refusals
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.placement_rules import refusal_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility, memory_demand
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.path_refusals import refusals_for
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed

#: What others on a host keep a guest from, so that it may help if they can leave.
MOVING_HELPS = frozenset({"room", "vcpus", "pages", "apart"})


def refusals(
    numbered: NumberedCluster,
    state: State,
    unit: int,
    member: int,
    closing: t.Collection[str],
    found: Evacuation,
    *,
    may_move_others: bool = True,
) -> list[Refusal]:
    """Return why this member of a unit stays: one refusal for each cause, then the answer for all guests together.

    ``state`` is how things are after the plan. ``may_move_others``: others were allowed to make room.
    """
    causes = _causes(numbered, state, unit, closing)
    refused = [_refusals_of(numbered, state, unit, member, cause, hosts) for cause, hosts in causes.items()]
    told = [one for some in refused for one in some]
    if told and set(causes) == {"kind"}:
        # Each host has something against the guest itself, and no move of others would change that.
        return told
    return [*told, _answer(numbered, state, unit, causes, found, may_move_others=may_move_others)]


def refusals_of_host(numbered: NumberedCluster, state: State, unit: int, member: int, host: int) -> list[Refusal]:
    """Return why this member of a unit cannot go to this host, with ``state`` as it is."""
    return _refusals_of(numbered, state, unit, member, _cause(state, unit, host), [host])


def _causes(numbered: NumberedCluster, state: State, unit: int, closing: t.Collection[str]) -> dict[str, list[int]]:
    """Group the hosts by what keeps the unit from them, the most useful cause first."""
    found: dict[str, list[int]] = {
        cause: [] for cause in ("room", "vcpus", "pages", "apart", "older", "kind", "closed", "ring")
    }
    home = numbered.cluster.units[unit].host
    for host, name in enumerate(numbered.names):
        if host != home and name not in closing:
            found[_cause(state, unit, host)].append(host)
    return {cause: hosts for cause, hosts in found.items() if hosts}


def _cause(state: State, unit: int, host: int) -> str:
    if not state.is_open[host]:
        return "closed"
    if state.level[host] < state.level[state.where[unit]] and not state.cluster.compatibility.may_downgrade:
        return "older"
    if not state.may_go(unit, host):
        return "kind"
    if not state.is_apart(unit, host):
        return "apart"
    if state.free_vcpus[host] < state.vcpus[unit]:
        return "vcpus"
    if state.free[host] < state.need[unit]:
        return "room"
    return "ring" if state.has_room(unit, host) else "pages"


def _refusals_of(
    numbered: NumberedCluster, state: State, unit: int, member: int, cause: str, hosts: t.Sequence[int]
) -> list[Refusal]:
    if cause in ("closed", "kind"):
        return _against_hosts(numbered, state, unit, member, hosts)
    host = max(hosts, key=lambda one: (state.free[one], -one))
    code, reason, remedy = _shortage(numbered, state, unit, cause, host)
    return [refusal(code, reason + _likewise(numbered, hosts, host), remedy)]


def _against_hosts(
    numbered: NumberedCluster, state: State, unit: int, member: int, hosts: t.Sequence[int]
) -> list[Refusal]:
    """Return what hosts have against the guest: once for all hosts that have the same against it."""
    alike: dict[tuple[t.Any, ...], list[int]] = {}
    told: dict[int, list[Refusal]] = {}
    for host in sorted(hosts, key=lambda one: (-state.free[one], one)):
        name = numbered.names[host]
        told[host] = _against_host(numbered, unit, member, name)
        key = tuple((one["code"], one["remedy"].replace(name, "")) for one in told[host])
        alike.setdefault(key, []).append(host)
    return [
        refusal(one["code"], one["reason"] + _likewise(numbered, group, group[0]), one["remedy"])
        for group in alike.values()
        for one in told[group[0]]
    ]


def _against_host(numbered: NumberedCluster, unit: int, member: int, name: str) -> list[Refusal]:
    domain = numbered.domains[unit][member]
    source = numbered.constraints.snapshots[numbered.names[numbered.cluster.units[unit].host]]
    there = numbered.constraints.snapshots[name]
    found = compatibility.destination_refusals(domain, source, there, numbered.intents[unit][member])
    rules = numbered.constraints.rules.get(domain["uuid"], ())
    found += [one for one in (refusal_of(domain, there, rule) for rule in rules) if one]
    found = found or refusals_for(numbered.constraints.paths, source["host"], name, domain["uuid"])
    found = found or memory_demand.cell_refusals(name, memory_demand.free_memory(there), domain)
    companions = [one["name"] for one in numbered.domains[unit] if one is not domain]
    return found or [_not_said(name, domain["name"], companions)]


def _likewise(numbered: NumberedCluster, hosts: t.Sequence[int], host: int) -> str:
    others = [numbered.names[one] for one in hosts if one != host]
    return f"; likewise for {listed(others)}" if others else ""


def _not_said(host: str, guest: str, companions: t.Sequence[str]) -> Refusal:
    """It is not the guest: its companions cannot go there, or the host cannot tell what it has."""
    if companions:
        return refusal(
            "keep_together",
            f"{host} cannot take {listed(list(companions))}, with which {guest} is kept together",
            f"choose a host for all of them, or take {guest} out of that group",
        )
    return refusal(
        "memory_unknown",
        f"{host} did not report its available memory",
        f"take a new snapshot of {host}, and look at /proc/meminfo there if that does not help",
    )


def _shortage(numbered: NumberedCluster, state: State, unit: int, cause: str, host: int) -> tuple[str, str, str]:
    name, guest = numbered.names[host], numbered.cluster.name_of(unit)
    if cause == "apart":
        return _apart(numbered, state, unit, host)
    if cause == "older":
        home = numbered.names[state.where[unit]]
        there, here = (_qemu(numbered, one) for one in (name, home))
        if there is None:
            return (
                "older_hypervisor",
                f"{name} did not report its QEMU version, so it may be older than the {here or 'QEMU'} on {home}",
                f"take a new snapshot of {name}, or permit an older QEMU (may_downgrade)",
            )
        return (
            "older_hypervisor",
            f"{name} runs an older QEMU than the host of {guest} ({there}; {home} runs {here or 'an unknown one'})",
            f"upgrade QEMU on {name}, or permit it (may_downgrade)",
        )
    if cause == "vcpus":
        short = state.vcpus[unit] - state.free_vcpus[host]
        return (
            "vcpus",
            f"{name} can promise {max(0, state.free_vcpus[host])} virtual CPUs, but {guest} has {state.vcpus[unit]}",
            f"free {short} of them on {name}, or permit more virtual CPUs for each physical one (vcpu_ratio)",
        )
    if cause == "ring":
        return (
            "waits_in_a_ring",
            f"{guest} and guests on {name} wait for each other to leave, and no third host has room for one of them",
            "free memory on another host, then plan again",
        )
    if cause == "pages":
        needs = dict(numbered.cluster.units[unit].pages)
        size = next(size for size, count in needs.items() if state.free_pages.get((host, size), 0) < count)
        free_pages = max(0, state.free_pages.get((host, size), 0))
        return (
            "huge_pages",
            f"{name} will have {free_pages} free huge pages of {human_bytes(size)}, but {guest} needs {needs[size]}",
            (
                f"reserve {needs[size] - free_pages} more on {name} "
                f"(/sys/kernel/mm/hugepages/hugepages-{size // 1024}kB/nr_hugepages)"
            ),
        )
    need, free = state.need[unit], state.free[host]
    reserve = numbered.constraints.reserve_bytes
    kept = f" in addition to the {human_bytes(reserve)} that stay free" if reserve else ""
    return (
        "memory",
        f"{name} will have room for {human_bytes(max(0, free))} of guests{kept}, but {guest} needs {human_bytes(need)}",
        f"free {human_bytes(need - free)} on {name}, or add a host",
    )


def _apart(numbered: NumberedCluster, state: State, unit: int, host: int) -> tuple[str, str, str]:
    """Return the refusal of a keep-apart group, or of a name or a fixed number that several guests have."""
    name, guest = numbered.names[host], numbered.cluster.name_of(unit)
    company = [one for other in state.on[host] if other != unit for one in numbered.domains[other]]
    groups = {group_of(domain, "apart") for domain in company}
    for domain in numbered.domains[unit]:
        group = group_of(domain, "apart")
        if group and group in groups:
            return (
                "keep_apart",
                (
                    f"{name} runs or will run {_company(numbered, state, unit, host)}, from which {guest} is kept "
                    f"apart (group {group})"
                ),
                f"add a host that runs no guest of group {group}, or take {guest} out of that group",
            )
    for domain in numbered.domains[unit]:
        for other in company:
            taken = resource_refusals.taken(domain, other, name, at_any_address=True)
            if taken:
                return taken[0]["code"], taken[0]["reason"], taken[0]["remedy"]
    namesake = next(one for one in company if any(one["name"] == own["name"] for own in numbered.domains[unit]))
    return (
        "name_clash",
        f"{name} runs or will run another guest called {namesake['name']} (UUID {namesake['uuid']})",
        f"rename one of the two (virsh domrename, while it is off), or choose another host than {name}",
    )


def _qemu(numbered: NumberedCluster, host: str) -> str | None:
    """The release of QEMU that a host says it runs, if that can be read."""
    release = (numbered.constraints.snapshots[host].get("versions") or {}).get("qemu")
    return str(release) if versions.parsed(release) else None


def _company(numbered: NumberedCluster, state: State, unit: int, host: int) -> str:
    """Return the names of guests on a host that are in a keep-apart group of the unit."""
    units = numbered.cluster.units
    groups = set(units[unit].apart)
    return listed(
        [numbered.cluster.name_of(other) for other in sorted(state.on[host]) if groups & set(units[other].apart)]
    )


def _answer(
    numbered: NumberedCluster,
    state: State,
    unit: int,
    causes: t.Mapping[str, list[int]],
    found: Evacuation,
    *,
    may_move_others: bool,
) -> Refusal:
    """Say whether there is no placement, or none was found, or no order reaches it; and what would give one."""
    if unit in found.stuck:
        code = "waits_in_a_ring"
        reason = (
            f"there is a place for {numbered.cluster.name_of(unit)}, but guests wait for each other to leave, and no "
            "third host has room for one of them"
        )
    elif found.is_proven:
        code = "no_placement"
        reason = "there is no placement for all guests at once, " + (
            "whichever guest moves where" if may_move_others else "unless other guests move to make room"
        )
    else:
        code = "none_found"
        reason = f"no placement for all guests at once was found in {found.tries} tries; there may be one"
    ways = list(_ways_out(numbered, state, unit, causes))
    if not may_move_others and MOVING_HELPS.intersection(causes):
        ways.insert(0, "permit other guests to move (may_move_others)")
    return refusal(code, reason, ", or ".join(ways) or "leave the guest where it is, or shut it down")


def _could_take(numbered: NumberedCluster, state: State, unit: int, host: int) -> bool:
    """Return whether a closed host could take the unit if it were open."""
    if is_open(numbered.constraints.snapshots[numbered.names[host]]):
        return False
    was = state.is_open[host]
    state.is_open[host] = True
    able = state.can_take(unit, host)
    state.is_open[host] = was
    return able


def _ways_out(numbered: NumberedCluster, state: State, unit: int, causes: t.Mapping[str, list[int]]) -> t.Iterator[str]:
    """Yield what would help: open this host, shut that guest down, add so much memory."""
    need = state.need[unit]
    back = [host for host in causes.get("closed", ()) if _could_take(numbered, state, unit, host)]
    if back:
        host = min(back, key=lambda one: (state.free[one], one))
        yield f"open {numbered.names[host]} again (it has room for it)"
    short = causes.get("room")
    if short:
        host = max(short, key=lambda one: (state.free[one], -one))
        missing = need - state.free[host]
        enough = [one for one in state.on[host] if state.need[one] >= missing]
        if enough:
            down = min(enough, key=lambda one: (state.need[one], one))
            yield f"shut {numbered.cluster.name_of(down)} down on {numbered.names[host]}"
        yield f"give {numbered.names[host]} {human_bytes(missing)} more"
