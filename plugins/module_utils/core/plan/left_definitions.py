# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find definitions that a host still has of guests that run on another host.

A migration without ``--undefinesource`` leaves one. With autostart, the host starts the guest a second time when it
boots, from the same disks.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.disks_in_use import DiskInUse, disks_in_use
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted, undefine_command
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: The code of a definition that would start its guest a second time. No host that has one may be rebooted.
STARTS_TWICE = "left_over_autostart"
#: The code of a definition that does no harm by itself.
HARMLESS = "left_over"


class LeftDefinition(t.NamedTuple):
    """A definition of a guest that runs elsewhere."""

    domain: Domain
    host: str
    runs_on: str


def left_definitions(hosts: t.Iterable[str], snapshots: t.Mapping[str, Snapshot]) -> list[LeftDefinition]:
    """Return the definitions on these hosts whose guest is active on another host that answers."""
    active = {
        domain["uuid"]: host
        for host in sorted(snapshots, reverse=True)
        for domain in snapshots[host].get("domains") or []
        if not is_off(domain)
    }
    return [
        LeftDefinition(domain, host, active[domain["uuid"]])
        for host in hosts
        if host in snapshots
        for domain in sorted(snapshots[host].get("domains") or [], key=lambda one: (one["name"], one["uuid"]))
        if is_off(domain) and active.get(domain["uuid"], host) != host
    ]


def remarks(hosts: t.Iterable[str], snapshots: t.Mapping[str, Snapshot]) -> list[Refusal]:
    """Return what is to be said of left definitions on these hosts: those that would start a guest twice first."""
    hosts = list(hosts)
    found = left_definitions(hosts, snapshots)
    by_host: dict[str, list[LeftDefinition]] = {}
    for left in found:
        if not left.domain.get("autostart"):
            by_host.setdefault(left.host, []).append(left)
    return [*dangerous(hosts, snapshots), *(_harmless(host, lefts) for host, lefts in by_host.items())]


def dangerous(hosts: t.Iterable[str], snapshots: t.Mapping[str, Snapshot]) -> list[Refusal]:
    """Return why these hosts must not be rebooted, and the commands that mend it."""
    hosts = list(hosts)
    left = [one for one in left_definitions(hosts, snapshots) if one.domain.get("autostart")]
    # What a guest has left is told by that, whatever its disks are.
    told = {(one.host, one.domain["uuid"]) for one in left}
    others = [one for one in disks_in_use(hosts, snapshots) if (one.host, one.domain["uuid"]) not in told]
    return [*map(_starts_twice, left), *map(_takes_disk, others)]


def _takes_disk(found: DiskInUse) -> Refusal:
    name = found.domain["name"]
    return refusal(
        STARTS_TWICE,
        f"{found.host} would start {name} at boot from {found.source}, to which {found.user} on {found.runs_on} writes",
        f"let it start nothing: virsh autostart --disable {quoted(name)} on {found.host}; or give it another disk",
    )


def _starts_twice(left: LeftDefinition) -> Refusal:
    name = left.domain["name"]
    return refusal(
        STARTS_TWICE,
        f"{left.host} would start {name} at boot, which runs on {left.runs_on}",
        f"remove the definition that was left behind: {_undefine(left)} on {left.host}; or keep it and let it start"
        f" nothing: virsh autostart --disable {quoted(name)} on {left.host}",
    )


def _harmless(host: str, lefts: t.Sequence[LeftDefinition]) -> Refusal:
    names = [left.domain["name"] for left in lefts]
    elsewhere = sorted({left.runs_on for left in lefts})
    one = len(lefts) == 1
    return refusal(
        HARMLESS,
        f"{host} still has {'a definition' if one else 'definitions'} of {listed(names)}, which"
        f" {'runs' if one else 'run'} on {listed(elsewhere)}",
        f"{_undefine(lefts[0])} on {host}{'' if one else ', and so on'}, if nobody needs {'it' if one else 'them'}"
        " there",
    )


def _undefine(left: LeftDefinition) -> str:
    return undefine_command(left.domain["name"], tpm=bool(left.domain.get("tpm")))
