# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the hosts before and after a run, or as a plan leaves them.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.parts import Host, HostBar

Load = t.Mapping[str, t.Any] | None


def hosts(found: t.Iterable[t.Mapping[str, t.Any]], is_plan: bool = False) -> tuple[Host, ...]:
    """Each host with its bars.

    Args:
        found: C(hosts) of a report.
        is_plan: what comes after is planned.
    """
    names = ("now", "as planned") if is_plan else ("before", "after")
    return tuple(_host(one, names) for one in found)


def _host(one: t.Mapping[str, t.Any], names: tuple[str, str]) -> Host:
    loads = ((names[0], one["before"]), (names[1], one["after"]))
    return Host(
        name=one["host"],
        memory=tuple(_memory(when, load) for when, load in loads),
        cpu=tuple(_cpu(when, load) for when, load in loads),
        guests=_change(loads[0][1], loads[1][1], "guests"),
        state=str((one["after"] or one["before"] or {}).get("maintenance") or ""),
    )


def _memory(when: str, load: Load) -> HostBar:
    if not load or not load["memory_bytes"] or load["available_bytes"] is None:
        return HostBar(when, None, "not known")
    used = load["memory_bytes"] - load["available_bytes"]
    share = _share(used, load["memory_bytes"])
    return HostBar(when, share, f"{human_bytes(used)} of {human_bytes(load['memory_bytes'])} in use ({share:.0f} %)")


def _cpu(when: str, load: Load) -> HostBar:
    if not load or not load["cpus"]:
        return HostBar(when, None, "not known")
    promised = f"{load['vcpus']} vCPUs on {load['cpus']} CPUs"
    if load["cpus_used"] is None:
        return HostBar(when, None, promised)
    return HostBar(when, _share(load["cpus_used"], load["cpus"]), f"{load['cpus_used']:.1f} used, {promised}")


def _share(part: float, whole: float) -> float:
    return round(100 * min(1.0, max(0.0, part / whole)), 1)


def _change(before: Load, after: Load, name: str) -> str:
    first, last = (str(load[name]) if load else "?" for load in (before, after))
    return first if first == last else f"{first} \N{RIGHTWARDS ARROW} {last}"
