# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Clusters as text files of Ganeti's htools (``hbal -t file``): read for comparison, and written for it.

The format is that of htools(1), "text backend": five sections, separated by one empty line each: groups, nodes,
instances, cluster tags, policies. Memory is in MiB. Only what bears on a move of running guests over shared storage is
used: memory, virtual CPUs, offline nodes, node groups and exclusion tags.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import (
    NO_LIMIT,
    Cluster,
    Compatibility,
    HostFacts,
    UnitFacts,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB

SECTIONS = ("groups", "nodes", "instances", "tags", "policies")
#: A cluster tag that declares tags beginning with what follows as exclusion tags.
EXCLUSION = "htools:iextags:"
GROUP = "default"
GROUP_ID = "00000000-0000-4000-8000-000000000001"
#: Instance sizes that a policy allows: memory, CPUs, disk, disks, NICs, spindles.
_SMALLEST, _LARGEST = "128,1,0,0,0,1", "1048576,512,1048576000,16,8,12"


class HtoolsError(ValueError):
    """A text that is no htools cluster; the message says where it goes wrong and what to do."""


def read(text: str) -> Cluster:
    """A cluster from the text of an htools file.

    Guests are known by their names. Offline (``Y``) and drained hosts are closed. A guest goes only to hosts of its own
    node group, as in Ganeti.
    """
    sections = _sections(text)
    groups = {row[1]: number for number, row in enumerate(_rows(sections["groups"], 2, "group"))}
    nodes = _rows(sections["nodes"], 9, "node")
    ratios = _vcpu_ratios(sections["policies"])
    group_names = {row[1]: row[0] for row in _rows(sections["groups"], 2, "group")}
    hosts = [_host(row, groups, ratios.get(group_names.get(row[8], ""), ratios.get(""))) for row in nodes]
    index = {host.name: number for number, host in enumerate(hosts)}
    prefixes = tuple(line[len(EXCLUSION) :] for line in sections["tags"] if line.startswith(EXCLUSION))
    apart: dict[str, int] = {}
    units = [_unit(row, index, prefixes, apart) for row in _rows(sections["instances"], 7, "instance")]
    hosts = _with_what_is_theirs(hosts, units, nodes)
    count = max([*groups.values(), 0]) + 1
    return Cluster(
        hosts, units, Compatibility(lambda dummy, host_class: [host_class == other for other in range(count)])
    )


def write(cluster: Cluster, where: t.Sequence[int] | None = None) -> str:
    """The text of an htools file for a cluster, with its guests where they start or at ``where``."""
    places = [unit.host for unit in cluster.units] if where is None else where
    free = [host.memory_bytes - host.base_bytes for host in cluster.hosts]
    for unit, place in zip(cluster.units, places):
        free[place] -= unit.need_bytes
    nodes = [
        f"{host.name}|{host.memory_bytes // MIB}|{host.base_bytes // MIB}|{left // MIB}|1048576|1048576|{host.cpus:g}|"
        f"{'N' if host.is_open else 'Y'}|{GROUP_ID}|1||N|0|{host.base_vcpus}|1.0"
        for host, left in zip(cluster.hosts, free)
    ]
    apart = {group for unit in cluster.units for group in unit.apart}
    instances = [
        f"{unit.guests[0]}|{unit.need_bytes // MIB}|0|{unit.vcpus}|running|Y|{cluster.hosts[place].name}||rbd|"
        f"{','.join(f'apart:{group}' for group in unit.apart)}|1|-"
        for unit, place in zip(cluster.units, places)
    ]
    tags = [f"{EXCLUSION}apart"] if apart else []
    limits = [host.vcpu_limit / host.cpus for host in cluster.hosts if host.vcpu_limit != NO_LIMIT and host.cpus]
    policy = f"{_SMALLEST}|{_SMALLEST};{_LARGEST}|rbd,drbd,plain|{min(limits, default=1024.0):.3f}|1024.0"
    sections = [[f"{GROUP}|{GROUP_ID}|preferred||"], nodes, instances, tags, [f"|{policy}", f"{GROUP}|{policy}"]]
    return "\n".join("".join(f"{line}\n" for line in section) for section in sections)


def _sections(text: str) -> dict[str, list[str]]:
    """Each section's lines. Every empty line ends a section, so that two in a row stand for an empty one."""
    found: list[list[str]] = [[]]
    for line in text.replace("\r\n", "\n").rstrip("\n").split("\n"):
        if line:
            found[-1].append(line)
        else:
            found.append([])
    if len(found) < 3:
        raise HtoolsError(
            f"the text has {len(found)} sections, and an htools cluster has five (groups, nodes, instances, tags, "
            "policies), separated by one empty line each: write it with hscan, or with 'hbal -L -S file'"
        )
    return dict(zip(SECTIONS, [*found, [], []]))


def _rows(lines: t.Sequence[str], least: int, what: str) -> list[list[str]]:
    rows = [line.split("|") for line in lines]
    for row in rows:
        if len(row) < least:
            raise HtoolsError(
                f"{what} {row[0]!r} has {len(row)} fields, at least {least} are needed: look at that line of the file"
            )
    return rows


def _number(text: str, what: str) -> int:
    try:
        return int(float(text))
    except ValueError:
        raise HtoolsError(f"{what} is {text!r}, which is no number: correct it in the file") from None


def _host(row: t.Sequence[str], groups: t.Mapping[str, int], ratio: float | None) -> HostFacts:
    memory, own = _number(row[1], f"t_mem of {row[0]}"), _number(row[2], f"n_mem of {row[0]}")
    cpus = _number(row[6], f"cpus of {row[0]}")
    return HostFacts(
        name=row[0],
        capacity_bytes=(memory - own) * MIB,
        memory_bytes=memory * MIB,
        cpus=cpus,
        vcpu_limit=int(cpus * ratio) if ratio and cpus else NO_LIMIT,
        is_open=row[7] == "N" or row[7] == "M",
        host_class=groups.get(row[8], 0),
        base_bytes=own * MIB,
        base_vcpus=_number(row[13], f"node_cpu of {row[0]}") if len(row) > 13 and row[13] else 0,
    )


def _unit(
    row: t.Sequence[str], index: t.Mapping[str, int], prefixes: tuple[str, ...], apart: dict[str, int]
) -> UnitFacts:
    if row[6] not in index:
        raise HtoolsError(f"instance {row[0]} is on {row[6]!r}, which is not among the nodes: correct that line")
    memory = _number(row[1], f"mem of {row[0]}") * MIB
    vcpus = _number(row[3], f"vcpus of {row[0]}")
    tags = row[9].split(",") if len(row) > 9 and row[9] else []
    groups = tuple(sorted(apart.setdefault(tag, len(apart)) for tag in tags if prefixes and tag.startswith(prefixes)))
    return UnitFacts((row[0],), index[row[6]], memory, memory, vcpus=vcpus, cpu=float(vcpus), apart=groups)


def _vcpu_ratios(lines: t.Sequence[str]) -> dict[str, float]:
    """Virtual CPUs a physical one, by the policy's owner; "" is the cluster."""
    rows = [line.split("|") for line in lines]
    return {row[0]: float(row[4]) for row in rows if len(row) > 4 and row[4]}


def _with_what_is_theirs(
    hosts: t.Sequence[HostFacts], units: t.Sequence[UnitFacts], nodes: t.Sequence[t.Sequence[str]]
) -> list[HostFacts]:
    """Take off what is neither free nor a guest's: f_mem is what the hypervisor said, and it knows better."""
    left = [host.capacity_bytes for host in hosts]
    for unit in units:
        left[unit.host] -= unit.need_bytes
    told = [_number(row[3], f"f_mem of {row[0]}") * MIB for row in nodes]
    missing = [max(0, here - free) for here, free in zip(left, told)]
    return [
        host._replace(capacity_bytes=host.capacity_bytes - lost, base_bytes=host.base_bytes + lost)
        for host, lost in zip(hosts, missing)
    ]
