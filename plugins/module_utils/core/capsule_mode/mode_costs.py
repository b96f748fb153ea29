# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the modes cost in which the guest migrates: bytes, seconds until it runs and until it is of use, downtime.

C(live): disks are mirrored, then memory migrates; C(lazy): memory migrates onto a layer of its own and the disks come
afterwards. What the modes cost in which the guest stands still is in C(stopped_costs).
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.disk_writes import (
    mirror,
    while_memory_goes,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.moved_guest import READ_BYTES, Guest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.thin_path import Path
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes

LIVE, LAZY, SUSPENDED, CARRY = "live", "lazy", "suspended", "carry"
MODES = (LIVE, LAZY, SUSPENDED, CARRY)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a mode costs.

    Attributes:
        sent_bytes: on the link until the guest is of use, in the direction of the far end.
        running_s: until it runs there.
        useful_s: until it answers and has read what it needs.
        downtime_s: how long it stands still.
        fill_s: from then on until its disks are there.
        fill_bytes: what is sent for that.
        settings: how the mode is done.
    """

    sent_bytes: float
    running_s: float
    useful_s: float
    downtime_s: float
    fill_s: float = 0.0
    fill_bytes: float = 0.0
    settings: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


class NoCost(t.NamedTuple):
    """A mode that does not come to an end, or not within the intent: why, and what would help."""

    reason: str
    remedy: str


def migrated_memory(guest: Guest, path: Path, cap_ms: int, methods: t.Sequence[str]) -> Cost | NoCost:
    """The migration of the memory alone, by the method that ends first.

    Args:
        guest, path: see there.
        cap_ms: longest downtime that is accepted.
        methods: those of a forecast that may be used.
    """
    made = forecast(guest.working_set, path.link, cap_ms=cap_ms, chosen=methods, with_needs=False)
    ending = [one for one in made["outcomes"].items() if one[1]["verdict"] == "converges"]
    if not ending:
        first = next(iter(made["outcomes"].values()))
        return NoCost(first["reason"], f"raise max_downtime_ms (the least is {made['floor_ms']}), or permit suspend")
    name, best = min(ending, key=lambda one: t.cast(float, one[1]["total_s"]["value"]))
    seconds = best["total_s"]["value"]
    return Cost(
        best["bytes"]["value"],
        seconds,
        seconds + 2 * path.delay_s,
        best["downtime_ms"]["value"] / 1000,
        settings={"method": name},
    )


def live(guest: Guest, path: Path, memory: Cost | NoCost) -> Cost | NoCost:
    """Disks are mirrored, then memory migrates. Of the two kinds of mirror the one that sends less.

    Args:
        guest, path: see there.
        memory: see L(migrated_memory).
    """
    if isinstance(memory, NoCost) or not guest.disks:
        return memory
    found = [one for one in (behind(guest, path, memory), in_step(guest, path, memory)) if one]
    if not found:
        rate = sum(disk.writes.bytes_per_s for disk in guest.disks)
        return NoCost(
            f"it writes {human_bytes(rate)}/s to its disks, and the link carries {human_bytes(path.bytes_per_s)}/s",
            "permit suspend (allow_suspend: true)",
        )
    return min(found, key=lambda one: one.running_s)


def behind(guest: Guest, path: Path, memory: Cost) -> Cost | None:
    """The mirror copies what was written afterwards, by the cluster."""
    copied = mirror(guest.copy_bytes, guest.writes, path.bytes_per_s)
    if copied is None:
        return None
    more = while_memory_goes(memory.running_s, guest.writes, path.bytes_per_s)
    return _with_disks(path, memory, copied.sent_bytes, more, sync_writes=False)


def in_step(guest: Guest, path: Path, memory: Cost) -> Cost | None:
    """Each write goes over the link at once (C(VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES)), by the byte."""
    share = sum(one.bytes_per_s for one in guest.writes) / path.bytes_per_s
    if share >= 1:
        return None
    seconds = (guest.copy_bytes / path.bytes_per_s + memory.running_s) / (1 - share)
    return _with_disks(path, memory, guest.copy_bytes, share * seconds * path.bytes_per_s, sync_writes=True)


def _with_disks(path: Path, memory: Cost, copied: float, more: float, *, sync_writes: bool) -> Cost:
    running = memory.running_s + (copied + more) / path.bytes_per_s
    return Cost(
        memory.sent_bytes + copied + more,
        running,
        running + 2 * path.delay_s,
        memory.downtime_s,
        settings={**memory.settings, "sync_writes": sync_writes},
    )


def lazy(guest: Guest, path: Path, memory: Cost | NoCost, fill_bytes_per_s: float | None) -> Cost | NoCost:
    """Memory migrates onto a new layer; what is below it is read over the link, and filled afterwards.

    Args:
        guest, path, memory: as for L(live).
        fill_bytes_per_s: rate of the fill; None: the whole link.
    """
    if isinstance(memory, NoCost):
        return memory
    # The layer begins empty, and gets what is written meanwhile.
    more = while_memory_goes(memory.running_s, guest.writes, path.bytes_per_s)
    running = path.overheads.lazy_setup_s + memory.running_s + more / path.bytes_per_s
    moved = Cost(memory.sent_bytes + more, running, running, memory.downtime_s, settings=memory.settings)
    return filled_later(moved, guest.copy_bytes - more, guest, path, fill_bytes_per_s)


def filled_later(moved: Cost, left_bytes: float, guest: Guest, path: Path, fill_bytes_per_s: float | None) -> Cost:
    """A guest that runs before its disks have come: what it reads first, and how long the rest takes.

    Args:
        moved: until it runs.
        left_bytes: of its disks, then.
        guest, path: see there.
        fill_bytes_per_s: rate of the fill; None: the whole link.
    """
    read = max(0.0, min(guest.first_read_bytes, left_bytes))
    useful = moved.running_s + read / path.bytes_per_s + 2 * path.delay_s * (1 + math.ceil(read / READ_BYTES))
    left = max(0.0, left_bytes - read)
    rate = min(path.bytes_per_s, fill_bytes_per_s or path.bytes_per_s)
    return dataclasses.replace(
        moved, sent_bytes=moved.sent_bytes + read, useful_s=useful, fill_s=left / rate, fill_bytes=left
    )
