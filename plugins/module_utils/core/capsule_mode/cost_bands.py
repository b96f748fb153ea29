# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How far the figures of a mode may be off: value, low and high of each, one standard deviation of all errors together.

Each thing that is not known for sure is taken one standard deviation higher and lower, and the mode is reckoned again.
The errors do not depend on each other, so their squares are added.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.mode_costs import Cost, NoCost
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.moved_guest import Disk, Guest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.thin_path import Path

Band = dict[str, t.Optional[float]]
CostOf = t.Callable[[Guest, Path], t.Union[Cost, NoCost]]

#: How much a sample of memory says of what all of it compresses to.
SHARE_ERROR = 0.1
#: What a guest changes in one time, over what it changed in another.
CHANGES_ERROR = 0.25
#: Of the times that no bandwidth shortens: hosts differ, and are busy.
OVERHEADS_ERROR = 0.3

_FIELDS: tuple[tuple[str, str], ...] = (
    ("bytes", "sent_bytes"),
    ("running_s", "running_s"),
    ("useful_s", "useful_s"),
    ("downtime_s", "downtime_s"),
    ("fill_s", "fill_s"),
    ("fill_bytes", "fill_bytes"),
)
NAMES = tuple(name for name, dummy in _FIELDS)


def bands(likely: Cost, cost_of: CostOf, guest: Guest, path: Path) -> dict[str, Band]:
    """Each figure of a mode with its band.

    Args:
        likely: what it costs.
        cost_of: gives what it would cost.
        guest, path: see there.

    Returns:
        C(value), C(low) and C(high) by the name of the figure. C(high) is null if the mode would not end in one of the
        cases.
    """
    lower = dict.fromkeys(NAMES, 0.0)
    higher = dict.fromkeys(NAMES, 0.0)
    ends = True
    for two in _cases(guest, path):
        costs = [cost_of(*case) for case in two]
        found = [cost for cost in costs if isinstance(cost, Cost)]
        ends = ends and len(found) == len(costs)
        for name, field in _FIELDS:
            value = getattr(likely, field)
            differences = [getattr(cost, field) - value for cost in found] or [0.0]
            lower[name] += min(0.0, *differences) ** 2
            higher[name] += max(0.0, *differences) ** 2
    return {name: _band(name, getattr(likely, field), lower[name], higher[name], ends) for name, field in _FIELDS}


def no_bands() -> dict[str, Band]:
    """Those of a mode that does not end."""
    return {name: {"value": None, "low": None, "high": None} for name in NAMES}


def _band(name: str, value: float, lower: float, higher: float, ends: bool) -> Band:
    low = max(0.0, value - math.sqrt(lower))
    return {
        "value": _plain(name, value),
        "low": _plain(name, low),
        "high": _plain(name, value + math.sqrt(higher)) if ends else None,
    }


def _plain(name: str, value: float) -> float:
    return round(value) if name.endswith("bytes") else round(value, 3)


def _cases(guest: Guest, path: Path) -> t.Iterator[tuple[tuple[Guest, Path], tuple[Guest, Path]]]:
    for made in (_with_link, _with_touched, _with_share, _with_changes, _with_overheads):
        yield made(guest, path, 1.0), made(guest, path, -1.0)


def _with_link(guest: Guest, path: Path, deviations: float) -> tuple[Guest, Path]:
    return guest, dataclasses.replace(path, link=path.link.varied(deviations))


def _with_touched(guest: Guest, path: Path, deviations: float) -> tuple[Guest, Path]:
    before = guest.working_set
    touched = guest.touched_bytes * max(0.0, 1 + deviations * float(before["touched_error"] or 0.0))
    touched = min(touched, float(before["memory_bytes"]))
    return dataclasses.replace(guest, working_set={**before, "touched_bytes": touched}), path


def _with_share(guest: Guest, path: Path, deviations: float) -> tuple[Guest, Path]:
    factor = 1 + deviations * SHARE_ERROR
    shares = {
        name: min(1.0, float(guest.working_set[name]) * factor)
        for name in ("compressed_share", "hot_compressed_share")
        if guest.working_set.get(name)
    }
    disks = tuple(
        dataclasses.replace(disk, compressed_share=min(1.0, disk.compressed_share * factor)) for disk in guest.disks
    )
    return dataclasses.replace(guest, working_set={**guest.working_set, **shares}, disks=disks), path


def _with_changes(guest: Guest, path: Path, deviations: float) -> tuple[Guest, Path]:
    factor = 1 + deviations * CHANGES_ERROR
    disks = tuple(_writing(disk, factor) for disk in guest.disks)
    memory = None if guest.memory_changed_bytes is None else guest.memory_changed_bytes * factor
    changed = dataclasses.replace(
        guest, changes_factor=guest.changes_factor * factor, memory_changed_bytes=memory, disks=disks
    )
    return changed, path


def _writing(disk: Disk, factor: float) -> Disk:
    return dataclasses.replace(disk, writes=dataclasses.replace(disk.writes, per_s=disk.writes.per_s * factor))


def _with_overheads(guest: Guest, path: Path, deviations: float) -> tuple[Guest, Path]:
    overheads = path.overheads.scaled(1 + deviations * OVERHEADS_ERROR)
    return guest, dataclasses.replace(path, overheads=overheads)
