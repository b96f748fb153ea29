# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The table of bytes: what of an image is sent, and what is not and why."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest, bytes_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import (
    BASE,
    KEEP,
    SEND,
    Delta,
    SegmentDelta,
    ground_blocks,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES, DIGEST_BYTES

#: What a segment that is not as in the ground costs before its content: its number and digest, and word of its end.
SEGMENT_COST_BYTES = 4 + DIGEST_BYTES + 9

_SENT, _BASE, _ZERO, _PREVIOUS, _HASH = "sent", "base", "zero", "previous", "hash"


def bytes_table(
    delta: Delta,
    *,
    base: BlockManifest | None = None,
    balloon_bytes: int = 0,
    full_because: str | None = None,
    skip: t.Collection[int] = (),
) -> dict[str, t.Any]:
    """What is sent of an image, and what is avoided. What is avoided and what is sent make the whole image.

    Args:
        delta: what must travel.
        base: where the ground is an earlier capsule, the base of that: what is still as in the base is avoided by it.
        balloon_bytes: of the zeros, what is zero only because the balloon took it from the guest.
        full_because: why the whole image was read; see C(changed_ranges).
        skip: segments that the far end has from an earlier run. They count as avoided by that (C(previous)).

    Returns:
        C(image_bytes), C(send_bytes) before compression, C(digest_bytes), C(avoided_by) with C(base), C(zero),
        C(balloon), C(previous) and C(hash), all in bytes, and C(full_because). Where the whole image was not read, and
        yet nothing could be kept, that says why.
    """
    if delta.ground is not None and delta.sources[0].kind == BASE:
        base = delta.ground
    count = dict.fromkeys((_SENT, _BASE, _ZERO, _PREVIOUS, _HASH), 0)
    changed = set(delta.changed)
    for number in range(len(delta.image.segments)):
        if number not in changed:
            _count(delta, SegmentDelta(number, b"", ()), base, count)
    for segment in delta.segments(skip=skip):
        _count(delta, segment, base, count)
    count[_PREVIOUS] += sum(bytes_of(delta.image.size_bytes, number) for number in changed.intersection(skip))
    by_balloon = min(balloon_bytes, count[_ZERO])
    if full_because is None and delta.ground is None and count[_SENT]:
        full_because = "the far end has no image that has more in common with this one than zeros"
    return {
        "image_bytes": delta.image.size_bytes,
        "send_bytes": count[_SENT],
        "digest_bytes": (len(delta.changed) - len(changed.intersection(skip))) * SEGMENT_COST_BYTES,
        "avoided_by": {
            "base": count[_BASE],
            "zero": count[_ZERO] - by_balloon,
            "balloon": by_balloon,
            "previous": count[_PREVIOUS],
            "hash": count[_HASH],
        },
        "full_because": full_because,
    }


def _count(delta: Delta, segment: SegmentDelta, base: BlockManifest | None, count: dict[str, int]) -> None:
    """Add the bytes of one segment. Without runs, it is as in the ground."""
    wanted = delta.image.segments[segment.number]
    kinds = [run.kind for run in segment.runs for dummy in range(run.blocks)] or [KEEP] * wanted.blocks
    in_base = ground_blocks(base, segment.number, wanted.blocks)
    why = _ZERO
    for digest, kind, as_base in zip(wanted.listed(), kinds, in_base):
        if digest is None:
            why = _ZERO
        elif kind == KEEP:
            why = _BASE if digest == as_base else _PREVIOUS
        else:
            why = _SENT if kind == SEND else _HASH
        count[why] += BLOCK_BYTES
    # The last block of an image may be shorter.
    count[why] -= wanted.blocks * BLOCK_BYTES - bytes_of(delta.image.size_bytes, segment.number)
