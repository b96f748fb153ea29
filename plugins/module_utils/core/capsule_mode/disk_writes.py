# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a guest writes to a disk in a time, and what a mirror of that disk sends because of it."""

from __future__ import annotations

import dataclasses
import math
import typing as t

#: QEMU's mirror and a qcow2 layer of the usual kind copy a whole cluster for each write.
CLUSTER_BYTES = 65536
#: With less than this left to copy, the mirror counts as in step: libvirt waits for that before it sends memory.
_IN_STEP_S = 0.05
_MOST_PASSES = 60


@dataclasses.dataclass(frozen=True)
class DiskWrites:
    """How a guest writes.

    Attributes:
        per_s: writes in a second, at random places in C(area_bytes).
        write_bytes: of each.
        area_bytes: 0: each write goes to a new place.
    """

    per_s: float = 0.0
    write_bytes: float = 4096.0
    area_bytes: float = 0.0

    @property
    def bytes_per_s(self) -> float:
        return self.per_s * self.write_bytes

    def different_bytes(self, seconds: float, granule_bytes: float = 4096.0) -> float:
        """Bytes of the different granules that are written in so many seconds: n (1 - e^(-w t / n)) of them.

        Args:
            seconds: the time.
            granule_bytes: a write to any part of a granule counts as the whole.
        """
        touched = self.per_s * seconds * max(1.0, self.write_bytes / granule_bytes)
        count = self.area_bytes / granule_bytes
        if count < 1:
            return touched * granule_bytes
        return count * -math.expm1(-touched / count) * granule_bytes


#: A disk that nobody writes to.
IDLE = DiskWrites()


class Mirror(t.NamedTuple):
    """Copying disks before memory is sent: seconds, and bytes on the link."""

    seconds: float
    sent_bytes: float


def mirror(copy_bytes: float, disks: t.Sequence[DiskWrites], bytes_per_s: float) -> Mirror | None:
    """Passes over what is not copied yet, until nearly nothing is left; None where the guest writes too fast.

    Args:
        copy_bytes: what is copied in the first pass.
        disks: what the guest writes meanwhile.
        bytes_per_s: rate of the link.
    """
    left, sent = copy_bytes, 0.0
    for dummy in range(_MOST_PASSES):
        seconds = left / bytes_per_s
        sent += left
        if seconds <= _IN_STEP_S:
            return Mirror(sent / bytes_per_s, sent)
        left = sum(disk.different_bytes(seconds, CLUSTER_BYTES) for disk in disks)
    return None


def while_memory_goes(memory_s: float, disks: t.Sequence[DiskWrites], bytes_per_s: float) -> float:
    """What the mirror sends while memory is sent: each cluster once, however often it is written meanwhile.

    Args:
        memory_s: what memory alone takes.
        disks: what the guest writes.
        bytes_per_s: rate of the link.
    """
    seconds = memory_s
    for dummy in range(_MOST_PASSES):
        more = sum(disk.different_bytes(seconds, CLUSTER_BYTES) for disk in disks)
        seconds = memory_s + min(more, 10 * memory_s * bytes_per_s) / bytes_per_s
    return (seconds - memory_s) * bytes_per_s
