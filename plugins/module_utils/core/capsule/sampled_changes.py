# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How much of a guest is not as in a capsule any more, estimated from samples and the capsule's block manifests.

A guest's own rate of writes times the age of the capsule says it badly: of a guest of 96 MiB, libvirt samples 48 pages,
so that one page stands for 2 MiB. The manifests say for each block whether it has changed since, whenever that was.
"""

from __future__ import annotations

import math
import typing as t
import zlib

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    BLOCK_DIGEST_BYTES,
    BLOCKS_PER_SEGMENT,
    block_digest,
)

#: Level 6 of zlib packs about as zstd does.
LEVEL = 6
#: The digests of an image up to this size are held in memory, 20 MB. Of a larger one those that samples have, and them.
SMALL_BYTES = 512 * 1024**2


class Changes(t.NamedTuple):
    """What has changed of an image.

    Attributes:
        changed_bytes: estimate for all of it; blocks that are zero now are not counted, as they cost nothing to send.
        compressed_share: bytes after compression over before, of the changed blocks that were seen; 1.0 without any.
        sampled_bytes: what was looked at.
        error: one relative standard deviation of C(changed_bytes).
    """

    changed_bytes: int
    compressed_share: float
    sampled_bytes: int
    error: float


def of_memory(pieces: t.Iterable[bytes], manifest: BlockManifest, memory_bytes: int) -> Changes | None:
    """What has changed of memory.

    A page counts as unchanged if any block of the saved memory is the same. So it does not matter where in its file the
    save put it.

    Args:
        pieces: of memory, evenly spread, whole pages each.
        manifest: of the saved memory.
        memory_bytes: size of the guest's memory.

    Returns:
        None if nothing was looked at, or if no page is as it was saved: the file then has pages in a form of its own.
    """
    changed, seen, is_known = _not_in(pieces, manifest)
    return _estimate(changed, seen, memory_bytes) if is_known else None


def of_clusters(pieces: t.Iterable[bytes], manifest: BlockManifest, written_bytes: int) -> Changes | None:
    """What has changed of a disk, from clusters of which nobody knows where in the image they are.

    A block counts as unchanged if any block of the image is the same. A cluster has more than its guest has written:
    the rest was copied from the image.

    Args:
        pieces: of such clusters, evenly spread, whole blocks each.
        manifest: of the image below the layer that has these clusters.
        written_bytes: size of all such clusters.

    Returns:
        None if nothing was looked at.
    """
    changed, seen, _dummy = _not_in(pieces, manifest)
    return _estimate(changed, seen, written_bytes) if seen else None


def both(one: Changes, other: Changes) -> Changes:
    """What has changed of two parts of an image together."""
    changed = one.changed_bytes + other.changed_bytes
    packed = one.changed_bytes * one.compressed_share + other.changed_bytes * other.compressed_share
    sd = math.hypot(one.changed_bytes * one.error, other.changed_bytes * other.error)
    return Changes(
        changed_bytes=changed,
        compressed_share=round(packed / changed, 4) if changed else 1.0,
        sampled_bytes=one.sampled_bytes + other.sampled_bytes,
        error=round(sd / changed, 4) if changed else max(one.error, other.error),
    )


def of_disk(blocks: t.Iterable[tuple[int, bytes]], manifest: BlockManifest, written_bytes: int) -> Changes | None:
    """What has changed of a disk.

    Args:
        blocks: where in the image, and content, evenly spread over what its top layer has.
        manifest: of the image below that layer.
        written_bytes: what that layer has.

    Returns:
        None if nothing was looked at.
    """
    changed, seen, listed = [], 0, {}
    for place, piece in blocks:
        for number, block in enumerate(_blocks(piece), place // BLOCK_BYTES):
            segment, within = divmod(number, BLOCKS_PER_SEGMENT)
            if segment not in listed:
                inside = segment < len(manifest.segments)
                listed[segment] = manifest.segments[segment].listed() if inside else []
            digest, before = _short(block), listed[segment]
            seen += 1
            old = before[within] if within < len(before) else None
            if digest is not None and digest != old:
                changed.append(block)
    return _estimate(changed, seen, written_bytes) if seen else None


def _estimate(changed: t.Sequence[bytes], seen: int, total_bytes: int) -> Changes:
    share = len(changed) / seen
    # Of a whole look nothing is uncertain. Drawn a little towards one half (Agresti and Coull), as "none of 100 pages"
    # is no certainty.
    drawn = (len(changed) + 0.5) / (seen + 1)
    unseen = max(0.0, 1 - seen * BLOCK_BYTES / total_bytes) if total_bytes else 0.0
    sd = math.sqrt(drawn * (1 - drawn) / seen * unseen)
    raw = len(changed) * BLOCK_BYTES
    packed = min(raw, len(zlib.compress(b"".join(changed), LEVEL)))
    return Changes(
        changed_bytes=round(share * total_bytes),
        compressed_share=round(packed / raw, 4) if raw else 1.0,
        sampled_bytes=seen * BLOCK_BYTES,
        error=round(sd / drawn, 4),
    )


def _not_in(pieces: t.Iterable[bytes], manifest: BlockManifest) -> tuple[list[bytes], int, bool]:
    """Blocks that are nowhere in an image and are not zero, how many blocks there were, and whether one is there."""
    if manifest.size_bytes > SMALL_BYTES:
        pieces = list(pieces)
        wanted = {_short(block) for piece in pieces for block in _blocks(piece)}
    else:
        wanted = None
    known = _found(manifest, wanted)
    changed, seen, is_known = [], 0, False
    for piece in pieces:
        for block in _blocks(piece):
            digest = _short(block)
            seen += 1
            if digest in known:
                is_known = True
            elif digest is not None:
                changed.append(block)
    return changed, seen, is_known


def _found(manifest: BlockManifest, wanted: t.Collection[bytes | None] | None) -> set[bytes]:
    """Those of some digests that an image has; None: all that it has. One segment is in memory at a time."""
    found: set[bytes] = set()
    for segment in manifest.segments:
        digests = segment.digests
        each = (digests[at : at + BLOCK_DIGEST_BYTES] for at in range(0, len(digests), BLOCK_DIGEST_BYTES))
        found.update(each if wanted is None else (one for one in each if one in wanted))
    return found


def _short(block: bytes) -> bytes | None:
    """What manifests keep of the digest of a block; None: it is zero."""
    digest = block_digest(block)
    return None if digest is None else digest[:BLOCK_DIGEST_BYTES]


def _blocks(content: bytes) -> t.Iterator[bytes]:
    for start in range(0, len(content), BLOCK_BYTES):
        yield content[start : start + BLOCK_BYTES]
