# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the modes cost in which the guest stands still for a while.

C(suspended): the guest is saved, what the far end lacks is sent, and it is started there; C(carry): a disk with the
capsule is carried there while the guest runs, and then the guest goes on as with C(suspended).
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.mode_costs import (
    Cost,
    NoCost,
    filled_later,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.moved_guest import Guest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.thin_path import Path

#: A seed is sent first, with the guest running, where it makes the whole at most so much longer. It takes minutes off
#: the time for which the guest stands still, and what is left afterwards is rather taken too high: of its disks each
#: write counts as one to a new place.
SEED_FIRST_FACTOR = 1.15
MOST_SEEDS = 3
#: A further seed must take so many times as much off the time for which the guest stands still as it adds to the whole.
FURTHER_SAVES = 3.0
#: Until a guest with lazy disks is filled, it depends on the link. So that must save at least this share of the time.
LAZY_SAVES = 0.2


def suspended(
    guest: Guest, path: Path, cap_ms: int, *, lazy_disks: bool = True, fill_bytes_per_s: float | None = None
) -> Cost:
    """The guest is saved, what the far end lacks is sent, and it is started there.

    Where that keeps the guest down for longer than the cap, and the whole becomes hardly longer by it, everything is
    sent once or more often while the guest runs, and then what it has changed meanwhile. Where the disks are what takes
    long, it is started before they have come.

    Args:
        guest, path: see there.
        cap_ms: longest downtime that is accepted.
        lazy_disks: whether a guest may be started before its disks have come.
        fill_bytes_per_s: rate of the fill then; None: the whole link.
    """
    direct = _stopped(guest, path, guest.memory_bytes, guest.disk_bytes)
    if direct.downtime_s * 1000 <= cap_ms:
        return direct
    if lazy_disks and guest.disk_bytes:
        early = _before_the_disks(guest, path, fill_bytes_per_s)
        if early.useful_s <= (1 - LAZY_SAVES) * direct.useful_s:
            return early
    return _seeded_first(guest, path, direct, cap_ms)


def _seeded_first(guest: Guest, path: Path, direct: Cost, cap_ms: int) -> Cost:
    """So many seeds that the downtime is below the cap, as long as each one saves some and costs little time."""
    best = direct
    seconds, sent, left = 0.0, 0.0, direct.sent_bytes
    for number in range(1, MOST_SEEDS + 1):
        # A seed is a capsule as well: the guest is saved for it, and goes on.
        step = _pause_s(guest, path) + path.overheads.tasks_s + path.connect_s + left / path.bytes_per_s
        seconds, sent = seconds + step, sent + left
        found = _after(guest, path, sent, seconds, since_s=step, seeds=number)
        left = found.sent_bytes - sent
        saved, added = best.downtime_s - found.downtime_s, found.useful_s - best.useful_s
        if saved <= 0 or found.useful_s > SEED_FIRST_FACTOR * direct.useful_s:
            break
        if number > 1 and saved < FURTHER_SAVES * added:
            break
        best = found
        if best.downtime_s * 1000 <= cap_ms:
            break
    return best


def _before_the_disks(guest: Guest, path: Path, fill_bytes_per_s: float | None) -> Cost:
    """Only memory is sent; the disks are read over the link. They are not compressed then."""
    memory = _stopped(guest, path, guest.memory_bytes, 0.0)
    running = memory.running_s + path.overheads.lazy_setup_s
    moved = dataclasses.replace(
        memory,
        running_s=running,
        downtime_s=memory.downtime_s + path.overheads.lazy_setup_s,
        settings={**memory.settings, "lazy": True},
    )
    left = math.fsum(disk.raw_bytes for disk in guest.disks)
    return filled_later(moved, left, guest, path, fill_bytes_per_s)


def _pause_s(guest: Guest, path: Path) -> float:
    """How long the guest stands still while it is saved and started again."""
    return path.overheads.save_s + path.overheads.restore_s + 2 * guest.kept_bytes / path.overheads.memory_bytes_per_s


def _stopped(guest: Guest, path: Path, memory_bytes: float, disk_bytes: float) -> Cost:
    sending = max(memory_bytes + disk_bytes, guest.back_bytes) / path.bytes_per_s
    # The guest stops when the far end has answered, and from then on nothing waits for the controller.
    down = guest.prepare_s + _pause_s(guest, path) + path.ask_s + sending
    before = path.overheads.tasks_s + path.connect_s + guest.balloon_bytes / path.overheads.balloon_bytes_per_s
    running = before + down
    settings: dict[str, t.Any] = {"seeds": 0, "lazy": False, "balloon": guest.balloon_bytes > 0}
    return Cost(memory_bytes + disk_bytes, running, running + 2 * path.delay_s, down, settings=settings)


def _after(guest: Guest, path: Path, sent_bytes: float, seconds: float, *, since_s: float, seeds: int = 0) -> Cost:
    """What is left to send, and to do, after the seeds.

    Args:
        guest, path: see there.
        sent_bytes: for the seeds.
        seconds: until the last of them is there.
        since_s: how long ago the guest was as in that.
        seeds: how many.
    """
    left = dataclasses.replace(guest, back_bytes=0.0, prepare_s=0.0)
    disks = math.fsum(
        min(disk.data_bytes, disk.writes.different_bytes(since_s)) * disk.compressed_share for disk in guest.disks
    )
    stop = _stopped(left, path, guest.dirtied_bytes(since_s), disks)
    return dataclasses.replace(
        stop,
        sent_bytes=sent_bytes + stop.sent_bytes,
        running_s=seconds + stop.running_s,
        useful_s=seconds + stop.useful_s,
        settings={**stop.settings, "seeds": seeds},
    )


def carry(guest: Guest, path: Path) -> Cost | NoCost:
    """A disk with the capsule is carried to the far end; what the guest changed meanwhile is sent."""
    if path.carry_s is None:
        return NoCost("nobody said how long it takes to carry a disk there", "set carry_s to these seconds")
    whole = math.fsum(disk.data_bytes for disk in guest.disks) + guest.kept_bytes
    seconds = path.carry_s + 2 * whole / path.carried_bytes_per_s
    made = _after(guest, path, 0.0, seconds, since_s=seconds)
    return dataclasses.replace(made, settings={"carried_bytes": round(whole), "balloon": guest.balloon_bytes > 0})
