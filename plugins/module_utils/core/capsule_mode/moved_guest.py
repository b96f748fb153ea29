# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What is known of a guest that is to be at the far end, and of what the far end has of it already."""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.disk_writes import IDLE, DiskWrites
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import curve_of

#: One read of a guest on a disk that has not come yet.
READ_BYTES = 65536.0


@dataclasses.dataclass(frozen=True)
class Disk:
    """A disk that has to be at the far end.

    Attributes:
        target: its name.
        data_bytes: of its image, without zeros.
        size_bytes: of the image as the guest sees it; less than C(data_bytes) counts as that.
        layer_bytes: what is not as in its base.
        base_there: the far end has the base, by its digest.
        changed_bytes: what is not as in anything that the far end has; None: not known, or it has nothing.
        hashed_bytes: what the far end has in other images, by digest. None: not known before the digests are compared.
        compressed_share: bytes after compression over before.
        writes: what the guest does to it.
    """

    target: str
    data_bytes: float
    size_bytes: float = 0.0
    layer_bytes: float = 0.0
    base_there: bool = False
    changed_bytes: float | None = None
    hashed_bytes: float | None = None
    compressed_share: float = 1.0
    writes: DiskWrites = IDLE

    @property
    def copy_bytes(self) -> float:
        """What a mirror copies: it knows bases, and no earlier capsules."""
        return min(self.layer_bytes, self.data_bytes) if self.base_there else self.data_bytes

    @property
    def raw_bytes(self) -> float:
        """What is sent of it as a part of a capsule, before compression."""
        left = self.copy_bytes if self.changed_bytes is None else min(self.changed_bytes, self.data_bytes)
        return max(0.0, left - (self.hashed_bytes or 0.0))

    @property
    def send_bytes(self) -> float:
        """The same, compressed."""
        return self.compressed_share * self.raw_bytes


@dataclasses.dataclass(frozen=True)
class Guest:
    """A guest that is to be at the far end.

    Attributes:
        working_set: its document C(kvmops.working_set/1).
        disks: those that the far end does not share.
        seed_age_s: seconds since the memory that the far end has was saved; None: it has none.
        memory_changed_bytes: what of memory differs from that, compressed; None: as the working set tells.
        balloon_bytes: what the balloon takes from the guest and gives back before it is saved: memory that the guest
            has touched and does not use. It is zero afterwards.
        back_bytes: what the far end sends meanwhile. The link carries both at once.
        prepare_s: before anything is sent, with the guest stopped.
        first_read_bytes: what the guest must read of its disks to be of use.
        pack_exponent: how much better than in the sample of its working set its memory compresses on this path.
        changes_factor: what it changes of its memory over what its working set says. For bands.
    """

    working_set: t.Mapping[str, t.Any]
    disks: tuple[Disk, ...] = ()
    seed_age_s: float | None = None
    memory_changed_bytes: float | None = None
    balloon_bytes: float = 0.0
    back_bytes: float = 0.0
    prepare_s: float = 0.0
    first_read_bytes: float = READ_BYTES
    pack_exponent: float = 1.0
    changes_factor: float = 1.0

    @property
    def name(self) -> str:
        return str(self.working_set["guest"]["name"])

    @property
    def writes(self) -> tuple[DiskWrites, ...]:
        return tuple(disk.writes for disk in self.disks)

    @property
    def touched_bytes(self) -> float:
        return float(self.working_set["touched_bytes"])

    @property
    def kept_bytes(self) -> float:
        """Memory that is not zero when the guest is saved."""
        return max(0.0, self.touched_bytes - self.balloon_bytes)

    @property
    def memory_share(self) -> float:
        """Bytes of memory after compression over before."""
        return math.pow(float(self.working_set["compressed_share"] or 1.0), self.pack_exponent)

    def dirtied_bytes(self, seconds: float) -> float:
        """What memory costs on the link when the far end has it as it was so many seconds ago."""
        share = float(self.working_set.get("hot_compressed_share") or self.memory_share)
        dirtied = self.changes_factor * curve_of(self.working_set).value(seconds)
        # Never more than all of it.
        return share * min(dirtied, self.touched_bytes)

    @property
    def memory_bytes(self) -> float:
        """What memory costs on the link as a part of a capsule."""
        whole = self.kept_bytes * self.memory_share
        if self.memory_changed_bytes is not None:
            return min(whole, self.memory_changed_bytes) if whole else self.memory_changed_bytes
        return whole if self.seed_age_s is None else min(whole, self.dirtied_bytes(self.seed_age_s))

    @property
    def disk_bytes(self) -> float:
        """What the disks cost on the link as parts of a capsule."""
        return math.fsum(disk.send_bytes for disk in self.disks)

    @property
    def copy_bytes(self) -> float:
        """What mirrors of the disks copy."""
        return math.fsum(disk.copy_bytes for disk in self.disks)
