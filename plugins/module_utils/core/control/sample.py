# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a running migration shows at one moment, and the figures that follow from it."""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB

#: The next guest is looked at and forecast in about half a second, and in more where hosts are busy.
NEARLY_S = 2.0


@dataclasses.dataclass(frozen=True)
class Sample:
    """Job statistics at one moment.

    Attributes:
        at_s: seconds since the job was started.
        iteration: number of the round (0 before the first).
        remaining_bytes: still to be sent.
        processed_bytes: sent so far.
        bytes_per_s: rate as the hypervisor sees it, 0 when unknown.
        disk_remaining_bytes: still to be mirrored, 0 when there is none.
        delta_pages: pages that xbzrle sent as what changed of them.
        whole_pages: pages that it could not: not in its cache, or changed all over.
        disk_total_bytes: of all disks that are mirrored, holes included; 0 when there is none.
        disk_sent_bytes: what was sent of them so far.
    """

    at_s: float
    iteration: int
    remaining_bytes: int
    processed_bytes: int
    bytes_per_s: int
    disk_remaining_bytes: int = 0
    delta_pages: int = 0
    whole_pages: int = 0
    disk_total_bytes: int = 0
    disk_sent_bytes: int = 0


def downtime_for(left_bytes: float, bytes_per_s: float) -> int | None:
    """Milliseconds to send what is left with the guest stopped, or None when the rate is unknown.

    >>> downtime_for(64 * 1024 * 1024, 23_900_000)
    2807
    """
    return int(left_bytes * 1000 // bytes_per_s) if bytes_per_s > 0 else None


def mib(count: float) -> str:
    """Bytes in words.

    >>> mib(67108864)
    '64.0 MiB'
    """
    return f"{count / MIB:.1f} MiB"


def percent_done(sample: Sample, total_bytes: int) -> int:
    """How much of the first pass, or of the move as a whole, is done; never 100 before the end.

    Later rounds send pages again, so what is sent says little: what remains of all memory does.
    """
    if total_bytes <= 0:
        return 0
    done = 100 * (total_bytes - sample.remaining_bytes) // total_bytes
    return max(0, min(99, done))


def disk_percent_done(sample: Sample) -> int | None:
    """How much of the disks is mirrored, or None for a move that copies none.

    >>> disk_percent_done(Sample(1.0, 0, 0, 0, 0, disk_remaining_bytes=39, disk_total_bytes=100))
    61
    """
    if sample.disk_total_bytes <= 0:
        return None
    done = 100 * (sample.disk_total_bytes - sample.disk_remaining_bytes) // sample.disk_total_bytes
    return max(0, min(100, done))


def seconds_left(sample: Sample) -> int | None:
    """Seconds until this round ends at the rate of now, or None when the rate is unknown."""
    if sample.bytes_per_s <= 0:
        return None
    return int((sample.remaining_bytes + sample.disk_remaining_bytes) / sample.bytes_per_s + 0.5)


def is_nearly_over(sample: Sample, expected_s: float | None) -> bool:
    """Whether memory will be over in a moment: rounds repeat, little is left, or it was forecast so.

    Nothing is before the first byte: until then both hosts are busy with this move.

    Args:
        sample: of now.
        expected_s: what the move as a whole was to take, or None.
    """
    if sample.processed_bytes <= 0 or sample.disk_remaining_bytes:
        return False
    if sample.iteration > 1:
        return True
    left = seconds_left(sample)
    return (left is not None and left <= NEARLY_S) or (expected_s is not None and sample.at_s >= expected_s - NEARLY_S)
