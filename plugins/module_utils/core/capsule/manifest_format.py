# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A block manifest as bytes for a file. What is read is not trusted.

All numbers are unsigned and big-endian:

    header    8 bytes "KVMOPSBM", version (2), block size (4), segment size (4), size of the image (8), its digest (32)
    segment   kind (1): 0 all blocks are zero, nothing follows; 1 no block is zero; 2 some are
              1, 2: digest of the segment (32)
              2: bit map of zero blocks, the first block in the lowest bit of the first byte
              1, 2: 16 bytes for each block that is not zero
    end       SHA-256 of everything before it (32)

One manifest has one encoding: what could be written in another way is refused. Within a file of 1 TiB that is empty,
a segment takes one byte; one that is full takes 4129 bytes, 0.4 % of its content.
"""

from __future__ import annotations

import array
import hashlib
import struct
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    MOST_IMAGE_BYTES,
    BlockManifest,
    blocks_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    BLOCK_DIGEST_BYTES,
    DIGEST_BYTES,
    SEGMENT_BYTES,
    Segment,
    segments_in,
    zero_segment,
)

MAGIC = b"KVMOPSBM"
VERSION = 1

_HEADER = struct.Struct(f">8sHIIQ{DIGEST_BYTES}s")
_ZERO, _FULL, _MIXED = 0, 1, 2
_REMEDY = "send its capsule again from a host that has it (capsule_send); a base is hashed anew by capsule_base"


def encoded(manifest: BlockManifest) -> t.Iterator[bytes]:
    """The manifest as bytes, in pieces of at most one segment's digests."""
    whole = _checksum()
    for piece in _pieces(manifest):
        whole.update(piece)
        yield piece
    yield whole.digest()


def _pieces(manifest: BlockManifest) -> t.Iterator[bytes]:
    yield _HEADER.pack(MAGIC, VERSION, BLOCK_BYTES, SEGMENT_BYTES, manifest.size_bytes, manifest.image_digest)
    for segment in manifest.segments:
        if segment.is_zero:
            yield bytes([_ZERO])
        elif not segment.zeros:
            yield bytes([_FULL]) + segment.digest + segment.digests
        else:
            zeros = segment.zeros.to_bytes(-(-segment.blocks // 8), "little")
            yield bytes([_MIXED]) + segment.digest + zeros + segment.digests


def parsed(data: bytes, what: str) -> BlockManifest:
    """The manifest in these bytes.

    Args:
        data: the bytes; a mapped file will do, as segments are read when they are asked for.
        what: whose manifest it is, for messages.

    Raises:
        CapsuleError: it is damaged, or of a version that is not known here.
    """
    if len(data) < _HEADER.size + DIGEST_BYTES:
        raise _damaged(what, f"it has {len(data)} bytes only")
    magic, version, block, segment, size_bytes, digest = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise _damaged(what, "it is something else, as its first bytes show")
    if (version, block, segment) != (VERSION, BLOCK_BYTES, SEGMENT_BYTES):
        raise CapsuleError(
            "manifest_version",
            f"the block manifest of {what} has version {version} with blocks of {block} and segments of {segment}"
            f" bytes; this host reads version {VERSION} with {BLOCK_BYTES} and {SEGMENT_BYTES}",
            "use the same version of kvmops.cluster on both hosts",
        )
    if size_bytes > MOST_IMAGE_BYTES:
        raise _damaged(what, f"its image would have {size_bytes} bytes, and {MOST_IMAGE_BYTES} is the most")
    whole = _checksum()
    whole.update(memoryview(data)[:-DIGEST_BYTES])
    if whole.digest() != data[-DIGEST_BYTES:]:
        raise _damaged(what, "its checksum does not match")
    manifest = BlockManifest(size_bytes, _StoredSegments(data, size_bytes, what))
    if manifest.image_digest != digest:
        raise _damaged(what, "the digest of the image does not match those of its segments")
    return manifest


class _StoredSegments(t.Sequence[Segment]):
    """Segments in bytes. The constructor walks over all of them, so that no later access can fail."""

    def __init__(self, data: bytes, size_bytes: int, what: str) -> None:
        self._data = data
        self._size_bytes = size_bytes
        self._starts = array.array("Q")
        at, end = _HEADER.size, len(data) - DIGEST_BYTES
        for number in range(segments_in(size_bytes)):
            if at >= end:
                raise _damaged(what, f"it ends before segment {number} of {segments_in(size_bytes)}")
            self._starts.append(at)
            at += self._length(number, at, end, what)
        if at != end:
            raise _damaged(what, f"{end - at} bytes follow its last segment")

    def _length(self, number: int, at: int, end: int, what: str) -> int:
        """Bytes of the segment that starts there."""
        kind, blocks = self._data[at], blocks_of(self._size_bytes, number)
        if kind == _ZERO:
            return 1
        if kind not in (_FULL, _MIXED):
            raise _damaged(what, f"segment {number} is of the unknown kind {kind}")
        left, length = blocks, 1 + DIGEST_BYTES
        if kind == _MIXED:
            at_map, length = at + length, length + -(-blocks // 8)
            zeros = int.from_bytes(self._data[at_map : min(end, at + length)], "little")
            # The other kinds are for these, and no block is beyond the end.
            if not 0 < zeros < (1 << blocks) - 1:
                raise _damaged(what, f"the zero blocks of segment {number} are not possible")
            left -= bin(zeros).count("1")
        length += left * BLOCK_DIGEST_BYTES
        if at + length > end:
            raise _damaged(what, f"it ends within segment {number} of {segments_in(self._size_bytes)}")
        return length

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: t.Any) -> t.Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        at = self._starts[number]
        blocks = blocks_of(self._size_bytes, number % len(self))
        kind = self._data[at]
        if kind == _ZERO:
            return zero_segment(blocks)
        at += 1
        digest = bytes(self._data[at : at + DIGEST_BYTES])
        at, zeros = at + DIGEST_BYTES, 0
        if kind == _MIXED:
            bitmap = self._data[at : at + -(-blocks // 8)]
            at, zeros = at + len(bitmap), int.from_bytes(bitmap, "little")
        length = (blocks - bin(zeros).count("1")) * BLOCK_DIGEST_BYTES
        return Segment(blocks, zeros, bytes(self._data[at : at + length]), digest)


def _checksum() -> t.Any:
    return hashlib.sha256()


def _damaged(what: str, why: str) -> CapsuleError:
    return CapsuleError("manifest_damaged", f"the block manifest of {what} cannot be used: {why}", _REMEDY)
