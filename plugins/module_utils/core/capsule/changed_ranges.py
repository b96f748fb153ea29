# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which segments of an image are read and hashed: those that a hint names, or all of them, and then why.

A hint is what a dirty bitmap or a copy-on-write layer says was written since an earlier capsule. It saves reading, and
it can be lost: bitmaps do not survive a crash. A lost hint costs time at the source and not one byte on the link. It
could also be wrong, and then a capsule would silently hold old blocks. So with each capsule some segments that the hint
does not name are read as well, others each time. If one of them has changed, the hint is not believed.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest, bytes_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    SEGMENT_BYTES,
    Segment,
    segments_in,
)

#: One in so many segments that no hint names is read. After as many capsules each has been read once.
CONTROL_INTERVAL = 64


class Hint(t.NamedTuple):
    """What was written since an earlier capsule, as the hypervisor tells.

    Attributes:
        since: name of the image that the ranges are relative to (C(BlockManifest.name)).
        ranges: start and length in bytes, in any order.
        lost_because: why the ranges cannot be used, as a part of a sentence; None where they can.
    """

    since: str
    ranges: tuple[tuple[int, int], ...] = ()
    lost_because: str | None = None


class HashPlan(t.NamedTuple):
    """What is read.

    Attributes:
        segments: numbers of the segments to read, in order.
        control: those of them that the hint does not name.
        full_because: why all of them are read, as a sentence without a full stop; None where a hint saves that.
    """

    segments: t.Sequence[int]
    control: tuple[int, ...]
    full_because: str | None


def hash_plan(disk: str, size_bytes: int, earlier: BlockManifest | None, hint: Hint | None, turn: int) -> HashPlan:
    """What is to be read of an image.

    Args:
        disk: name of the disk, for messages.
        size_bytes: of the image as it is now.
        earlier: manifest of the image in the capsule before; None: there is none here.
        hint: None: the hypervisor keeps no record of what is written.
        turn: grows by one with each capsule, so that the control segments are others each time.
    """
    count = segments_in(size_bytes)
    why = _full_because(disk, size_bytes, earlier, hint)
    if why or earlier is None or hint is None:
        return HashPlan(range(count), (), why)
    named: set[int] = set()
    for start, length in hint.ranges:
        if length:
            named.update(range(start // SEGMENT_BYTES, segments_in(start + length)))
    for number in range(count):
        if number >= len(earlier.segments) or bytes_of(size_bytes, number) != bytes_of(earlier.size_bytes, number):
            named.add(number)
    control = tuple(number for number in range(turn % CONTROL_INTERVAL, count, CONTROL_INTERVAL) if number not in named)
    return HashPlan(sorted(named.union(control)), control, None)


def _full_because(disk: str, size_bytes: int, earlier: BlockManifest | None, hint: Hint | None) -> str | None:
    if earlier is None:
        return f"there is no block manifest of an earlier capsule of {disk} here"
    if hint is None:
        return f"nothing records what is written to {disk}"
    if hint.lost_because:
        return f"the record of what was written to {disk} is lost: {hint.lost_because}"
    if hint.since != earlier.name:
        return f"the record of what was written to {disk} begins at another image than the earlier capsule"
    for start, length in hint.ranges:
        if start < 0 or length < 0 or start + length > size_bytes:
            return f"the record of what was written to {disk} names bytes {start} to {start + length} of {size_bytes}"
    return None


def missed(disk: str, plan: HashPlan, earlier: BlockManifest, hashed: t.Mapping[int, Segment]) -> str | None:
    """Why the hint is not believed once its segments were read, or None. Then all segments are to be read.

    Args:
        disk: name of the disk, for messages.
        plan: what was read.
        earlier: manifest of the image in the capsule before.
        hashed: what was read, by number.
    """
    for number in plan.control:
        if hashed[number].digest != earlier.segments[number].digest:
            return (
                f"the record of what was written to {disk} is wrong: it does not name segment {number}"
                f" (bytes from {number * SEGMENT_BYTES}), which has changed"
            )
    return None
