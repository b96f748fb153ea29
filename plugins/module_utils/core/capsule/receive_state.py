# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How far an image has been received: what survives an interruption, at any byte.

The state is written after the data that it speaks of is on disk, so it may be older than the data and never newer. A
segment counts once its content has the right digest. Of a segment that has begun, the blocks that are there need not be
sent again, so that a link that is cut every few seconds still makes progress.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    IMAGE_PREFIX,
    MOST_IMAGE_BYTES,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCKS_PER_SEGMENT,
    blocks_in,
    segments_in,
)

SCHEMA = "kvmops.receive_state/1"
#: Segments are verified in order, with a gap where one was damaged. With more gaps than these all are sent again.
MOST_RANGES = 4096


class ReceiveState:
    """What of an image is there.

    Attributes:
        image: name of the image (C(BlockManifest.name)).
        ground: name of the image that it was started from; None: from zeros.
        size_bytes: of the image.
        verified: numbers of the segments whose content had the right digest.
        begun: numbers of the blocks that are there of segments that are not verified, by segment.
    """

    def __init__(self, image: str, ground: str | None, size_bytes: int) -> None:
        self.image = image
        self.ground = ground
        self.size_bytes = size_bytes
        self.verified: set[int] = set()
        self.begun: dict[int, set[int]] = {}

    def blocks_arrived(self, first: int, count: int) -> None:
        """These blocks are on disk, sent, copied or zero. All of them are in one segment."""
        self.begun.setdefault(first // BLOCKS_PER_SEGMENT, set()).update(range(first, first + count))

    def segment_verified(self, number: int) -> None:
        """The segment has the right digest."""
        self.begun.pop(number, None)
        self.verified.add(number)

    def segment_damaged(self, number: int) -> None:
        """The segment has another digest: nothing of it counts."""
        self.begun.pop(number, None)
        self.verified.discard(number)

    def document(self, needed: t.Collection[int] = ()) -> dict[str, t.Any]:
        """The state as plain JSON (docs/contracts.md, "Receive state").

        Args:
            needed: the segments that are not as in the ground. With them, ranges go on over those that are, so that few
                ranges say much. What does not fit into so many ranges is left out, and is then sent again.
        """
        begun = as_ranges(block for number in sorted(self.begun) for block in self.begun[number])
        return {
            "schema": SCHEMA,
            "image": self.image,
            "ground": self.ground,
            "size_bytes": self.size_bytes,
            "verified": as_ranges(self.verified, needed)[:MOST_RANGES],
            "begun": begun[:MOST_RANGES],
        }


def as_ranges(numbers: t.Iterable[int], needed: t.Collection[int] = ()) -> list[list[int]]:
    """Numbers as pairs of a first one and how many.

    Args:
        numbers: those numbers.
        needed: a range may go on over numbers that are not in it, where it is not empty.

    >>> as_ranges([7, 1, 2, 3, 8]), as_ranges([7, 1, 2, 3, 8], {1, 2, 3, 5, 7, 8}), as_ranges([1, 4], {1, 4})
    ([[1, 3], [7, 2]], [[1, 3], [7, 2]], [[1, 4]])
    """
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and (
            sum(ranges[-1]) == number or (needed and not any(one in needed for one in range(sum(ranges[-1]), number)))
        ):
            ranges[-1][1] = number + 1 - ranges[-1][0]
        else:
            ranges.append([number, 1])
    return ranges


def from_document(document: t.Any, what: str) -> ReceiveState:
    """The state in a document, which is not trusted.

    Args:
        document: see L(ReceiveState.document).
        what: which image it is of, for messages.

    Raises:
        CapsuleError: it is damaged.
    """
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise _damaged(what, f"its schema is not {SCHEMA}")
    size_bytes: t.Any = document.get("size_bytes")
    image: t.Any = document.get("image")
    ground: t.Any = document.get("ground")
    if not _is_number(size_bytes) or size_bytes > MOST_IMAGE_BYTES:
        raise _damaged(what, f"its size_bytes is {size_bytes!r}"[:100])
    if not is_image_name(image) or not (ground is None or is_image_name(ground)):
        raise _damaged(what, "it does not name its images")
    state = ReceiveState(image, ground, size_bytes)
    state.verified.update(_from_ranges(document.get("verified"), segments_in(size_bytes), what, "verified"))
    for block in _from_ranges(document.get("begun"), blocks_in(size_bytes), what, "begun"):
        if block // BLOCKS_PER_SEGMENT in state.verified:
            raise _damaged(what, f"block {block} is of a segment that is verified")
        state.blocks_arrived(block, 1)
    return state


def is_image_name(name: t.Any) -> bool:
    """Whether this is a digest of an image as documents write it."""
    if not isinstance(name, str) or not name.startswith(IMAGE_PREFIX):
        return False
    digits = name[len(IMAGE_PREFIX) :]
    return len(digits) == 64 and not set(digits) - set("0123456789abcdef")


def _from_ranges(ranges: t.Any, end: int, what: str, key: str) -> t.Iterator[int]:
    if not isinstance(ranges, list) or len(ranges) > MOST_RANGES:
        raise _damaged(what, f"its {key} is no list of at most {MOST_RANGES} ranges")
    last = 0
    for one in ranges:
        if not (isinstance(one, list) and len(one) == 2 and all(_is_number(number) for number in one)):
            raise _damaged(what, f"its {key} has a range that is no pair of numbers")
        first, count = one
        if first < last or count < 1 or first + count > end:
            raise _damaged(what, f"its {key} has the range {first}, {count}, which is out of order or of 0 to {end}")
        last = first + count
        yield from range(first, last)


def _is_number(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _damaged(what: str, why: str) -> CapsuleError:
    return CapsuleError(
        "receive_state_damaged",
        f"how far {what} was received cannot be read: {why}",
        "remove that file; the image is then sent from its begin, and what the base has is not sent",
    )
