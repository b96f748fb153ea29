# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What each mode of a capsule's move costs: bytes, seconds until the guest runs and until it is of use, downtime.

C(live): disks are mirrored, then memory migrates; C(lazy): memory migrates onto a layer of its own and the disks come
afterwards; C(suspended): the guest is saved, what the far end lacks is sent, and it is started there; C(carry): a disk
with the capsule is carried there while the guest runs, and then the guest goes on as with C(suspended).
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.disk_writes import (
    IDLE,
    DiskWrites,
    mirror,
    while_memory_goes,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import curve_of

LIVE, LAZY, SUSPENDED, CARRY = "live", "lazy", "suspended", "carry"
MODES = (LIVE, LAZY, SUSPENDED, CARRY)

#: What libvirt and QEMU exchange before the first page: 8.7 s at 48 kB/s, 0.25 s on a fast link.
SETUP_BYTES = 400_000.0
#: Of a TCP send buffer that was made small, as is done for a thin link.
SMALL_QUEUE_BYTES = 300_000.0
#: Round trips of ssh, of libvirt's own protocol and of the transfer before something is sent.
ROUND_TRIPS = 8
#: Freezing the disks on a layer, starting the export, and connecting to it (0.01 to 0.3 s measured).
LAZY_SETUP_S = 0.3
#: Saving and restoring a guest, beside reading and writing its memory.
SAVE_S = 0.5
MEMORY_BYTES_PER_S = 400e6
#: One read of a guest on a disk that has not come yet.
READ_BYTES = 65536.0
#: A seed is sent first, with the guest running, where it makes the whole at most so much longer.
SEED_FIRST_FACTOR = 1.1


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk that has to be at the far end.

    Attributes:
        target: its name.
        data_bytes: of its image, without zeros.
        layer_bytes: what is not as in its base.
        base_there: the far end has the base, by its digest.
        changed_bytes: what is not as in anything that the far end has; None: not known, or it has nothing.
        compressed_share: bytes after compression over before.
        writes: what the guest does to it.
    """

    target: str
    data_bytes: float
    layer_bytes: float = 0.0
    base_there: bool = False
    changed_bytes: float | None = None
    compressed_share: float = 1.0
    writes: DiskWrites = IDLE

    @property
    def copy_bytes(self) -> float:
        """What a mirror copies: it knows bases, and no earlier capsules."""
        return self.layer_bytes if self.base_there else self.data_bytes

    @property
    def send_bytes(self) -> float:
        """What is sent of it as a part of a capsule, compressed."""
        return self.compressed_share * (self.copy_bytes if self.changed_bytes is None else self.changed_bytes)


@dataclasses.dataclass(frozen=True)
class Guest:
    """A guest that is to be at the far end.

    Attributes:
        working_set: its document C(kvmops.working_set/1).
        disks: those that the far end does not share.
        seed_age_s: seconds since the memory that the far end has was saved; None: it has none.
        memory_changed_bytes: what of memory differs from that; None: as the working set tells.
        back_bytes: what the far end sends meanwhile. The link carries both at once.
        prepare_s: before anything is sent, with the guest stopped.
        first_read_bytes: what the guest must read of its disks to be of use.
    """

    working_set: t.Mapping[str, t.Any]
    disks: tuple[Disk, ...] = ()
    seed_age_s: float | None = None
    memory_changed_bytes: float | None = None
    back_bytes: float = 0.0
    prepare_s: float = 0.0
    first_read_bytes: float = READ_BYTES

    @property
    def writes(self) -> tuple[DiskWrites, ...]:
        return tuple(disk.writes for disk in self.disks)

    def dirtied_bytes(self, seconds: float) -> float:
        """What memory costs on the link when the far end has it as it was so many seconds ago."""
        share = self.working_set.get("hot_compressed_share") or self.working_set["compressed_share"] or 1.0
        return float(share) * curve_of(self.working_set).value(seconds)

    @property
    def memory_bytes(self) -> float:
        """What memory costs on the link as a part of a capsule."""
        whole = float(self.working_set["touched_bytes"]) * float(self.working_set["compressed_share"] or 1.0)
        if self.memory_changed_bytes is not None:
            return self.memory_changed_bytes
        return whole if self.seed_age_s is None else min(whole, self.dirtied_bytes(self.seed_age_s))


@dataclasses.dataclass(frozen=True)
class Path:
    """The way to the far end.

    Attributes:
        link: what memory migrates over.
        delay_s: in one direction.
        carry_s: how long it takes to carry a disk there; None: nobody does.
        carried_bytes_per_s: writing that disk, and reading it.
    """

    link: Link
    delay_s: float = 0.0
    carry_s: float | None = None
    carried_bytes_per_s: float = 100e6

    @property
    def bytes_per_s(self) -> float:
        return self.link.bandwidth_bytes_per_s

    @property
    def connect_s(self) -> float:
        return 2 * ROUND_TRIPS * self.delay_s


def thin_path(bytes_per_s: float, delay_s: float, carry_s: float | None = None) -> Path:
    """A path over a link of so many bytes in a second, with the start of a migration as long as it then takes."""
    link = Link(
        bandwidth_bytes_per_s=bytes_per_s,
        queue_bytes=min(Link.queue_bytes, SMALL_QUEUE_BYTES),
        before_s=0.25 + SETUP_BYTES / bytes_per_s + 2 * ROUND_TRIPS * delay_s,
        after_s=0.21 + 4 * delay_s,
    )
    return Path(link, delay_s, carry_s)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a mode costs.

    Attributes:
        sent_bytes: on the link until the guest is of use, in the direction of the far end.
        running_s: until it runs there.
        useful_s: until it answers and has read what it needs.
        downtime_s: how long it stands still.
        fill_s: from then on until its disks are there.
        settings: how the mode is done.
    """

    sent_bytes: float
    running_s: float
    useful_s: float
    downtime_s: float
    fill_s: float = 0.0
    settings: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


class NoCost(t.NamedTuple):
    """A mode that does not come to an end, or not within the intent: why, and what would help."""

    reason: str
    remedy: str


def live(guest: Guest, path: Path, cap_ms: int, methods: t.Sequence[str]) -> Cost | NoCost:
    """Disks are mirrored, then memory migrates. Of the two kinds of mirror the one that sends less.

    Args:
        guest, path: see there.
        cap_ms: longest downtime that is accepted.
        methods: those of L(forecast) that may be used.
    """
    memory = _memory(guest, path, cap_ms, methods)
    if isinstance(memory, NoCost) or not guest.disks:
        return memory
    copy = sum(disk.copy_bytes for disk in guest.disks)
    found = [one for one in (_behind(guest, path, memory, copy), _in_step(guest, path, memory, copy)) if one]
    if not found:
        rate = sum(disk.writes.bytes_per_s for disk in guest.disks)
        return NoCost(
            f"it writes {human_bytes(rate)}/s to its disks, and the link carries {human_bytes(path.bytes_per_s)}/s",
            "permit suspend (allow_suspend: true)",
        )
    return min(found, key=lambda one: one.running_s)


def _behind(guest: Guest, path: Path, memory: Cost, copy_bytes: float) -> Cost | None:
    """The mirror copies what was written afterwards, by the cluster."""
    copied = mirror(copy_bytes, guest.writes, path.bytes_per_s)
    if copied is None:
        return None
    more = while_memory_goes(memory.running_s, guest.writes, path.bytes_per_s)
    return _with_disks(path, memory, copied.sent_bytes, more, sync_writes=False)


def _in_step(guest: Guest, path: Path, memory: Cost, copy_bytes: float) -> Cost | None:
    """Each write goes over the link at once (C(VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES)), by the byte."""
    share = sum(one.bytes_per_s for one in guest.writes) / path.bytes_per_s
    if share >= 1:
        return None
    seconds = (copy_bytes / path.bytes_per_s + memory.running_s) / (1 - share)
    return _with_disks(path, memory, copy_bytes, share * seconds * path.bytes_per_s, sync_writes=True)


def _with_disks(path: Path, memory: Cost, copied: float, more: float, *, sync_writes: bool) -> Cost:
    running = memory.running_s + (copied + more) / path.bytes_per_s
    return Cost(
        memory.sent_bytes + copied + more,
        running,
        running + 2 * path.delay_s,
        memory.downtime_s,
        settings={**memory.settings, "sync_writes": sync_writes},
    )


def lazy(
    guest: Guest, path: Path, cap_ms: int, methods: t.Sequence[str], fill_bytes_per_s: float | None
) -> Cost | NoCost:
    """Memory migrates onto a new layer; what is below it is read over the link, and filled afterwards.

    Args:
        guest, path, cap_ms, methods: as for L(live).
        fill_bytes_per_s: rate of the fill; None: the whole link.
    """
    memory = _memory(guest, path, cap_ms, methods)
    if isinstance(memory, NoCost):
        return memory
    # The layer begins empty, and gets what is written meanwhile.
    more = while_memory_goes(memory.running_s, guest.writes, path.bytes_per_s)
    read = min(guest.first_read_bytes, sum(disk.copy_bytes for disk in guest.disks))
    running = LAZY_SETUP_S + memory.running_s + more / path.bytes_per_s
    left = max(0.0, sum(disk.copy_bytes for disk in guest.disks) - more - read)
    rate = min(path.bytes_per_s, fill_bytes_per_s or path.bytes_per_s)
    reads = math.ceil(read / READ_BYTES)
    useful = running + read / path.bytes_per_s + 2 * path.delay_s * (1 + reads)
    sent = memory.sent_bytes + more + read
    return Cost(sent, running, useful, memory.downtime_s, left / rate, settings=memory.settings)


def _memory(guest: Guest, path: Path, cap_ms: int, methods: t.Sequence[str]) -> Cost | NoCost:
    made = forecast(guest.working_set, path.link, cap_ms=cap_ms, chosen=methods)
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


def suspended(guest: Guest, path: Path, cap_ms: int) -> Cost:
    """The guest is saved, what the far end lacks is sent, and it is started there.

    Where that keeps the guest down for longer than the cap, and the whole becomes hardly longer by it, everything is
    sent once while the guest runs, and then what it has changed meanwhile.
    """
    direct = _stopped(guest, path, guest.memory_bytes, sum(disk.send_bytes for disk in guest.disks))
    if direct.downtime_s * 1000 <= cap_ms:
        return direct
    seeded = _after(guest, path, direct.sent_bytes, direct.sent_bytes / path.bytes_per_s + path.connect_s)
    settings = {**seeded.settings, "seed_first": True}
    seed_first = dataclasses.replace(seeded, settings=settings)
    better = seed_first.downtime_s < direct.downtime_s and seed_first.useful_s <= SEED_FIRST_FACTOR * direct.useful_s
    return seed_first if better else direct


def _stopped(guest: Guest, path: Path, memory_bytes: float, disk_bytes: float) -> Cost:
    memory = 2 * float(guest.working_set["touched_bytes"]) / MEMORY_BYTES_PER_S
    sending = max(memory_bytes + disk_bytes, guest.back_bytes) / path.bytes_per_s
    seconds = guest.prepare_s + SAVE_S + memory + path.connect_s + sending
    return Cost(
        memory_bytes + disk_bytes,
        seconds,
        seconds + 2 * path.delay_s,
        seconds,
        settings={"seed_first": False},
    )


def _after(guest: Guest, path: Path, seed_bytes: float, seconds: float) -> Cost:
    """What is left to send when the far end has the guest as it was so many seconds ago."""
    left = dataclasses.replace(guest, back_bytes=0.0, prepare_s=0.0)
    disks = sum(
        min(disk.data_bytes, disk.writes.different_bytes(seconds)) * disk.compressed_share for disk in guest.disks
    )
    stop = _stopped(left, path, guest.dirtied_bytes(seconds), disks)
    return dataclasses.replace(
        stop,
        sent_bytes=seed_bytes + stop.sent_bytes,
        running_s=seconds + stop.running_s,
        useful_s=seconds + stop.useful_s,
    )


def carry(guest: Guest, path: Path) -> Cost | NoCost:
    """A disk with the capsule is carried to the far end; what the guest changed meanwhile is sent."""
    if path.carry_s is None:
        return NoCost("nobody said how long it takes to carry a disk there", "set carry_s to these seconds")
    whole = sum(disk.data_bytes for disk in guest.disks) + float(guest.working_set["touched_bytes"])
    seconds = path.carry_s + 2 * whole / path.carried_bytes_per_s
    made = _after(guest, path, 0.0, seconds)
    return dataclasses.replace(made, settings={"carried_bytes": round(whole)})
