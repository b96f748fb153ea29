# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How much of a mirror's progress is data that was sent."""

from __future__ import annotations


def sent_bytes(processed_bytes: int, total_bytes: int, data_bytes: int, capacity_bytes: int) -> int:
    """What a mirror has sent, by its progress.

    QEMU counts the holes of an image as work that is done, although nearly nothing is sent for them. Where it knows
    that the target is empty, it does not count them at all. What the guest writes meanwhile comes on top of the total.

    Args:
        processed_bytes, total_bytes: as the job counts them, over all disks.
        data_bytes: what a copy sends of the images as they were at the start, without their holes.
        capacity_bytes: size of the disks as the guest sees them.

    >>> sent_bytes(256, 256, data_bytes=50, capacity_bytes=256)
    50
    >>> sent_bytes(276, 276, data_bytes=50, capacity_bytes=256)
    70
    >>> sent_bytes(128, 256, data_bytes=50, capacity_bytes=256)
    25
    >>> sent_bytes(60, 60, data_bytes=50, capacity_bytes=256)
    60
    """
    if total_bytes < capacity_bytes or data_bytes >= capacity_bytes or capacity_bytes <= 0:
        return processed_bytes
    once = min(processed_bytes, capacity_bytes)
    return once * data_bytes // capacity_bytes + processed_bytes - once
