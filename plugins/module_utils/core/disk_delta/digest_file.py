# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The digests of an image that stays behind, in a file beside it, of which any part can be read on its own.

The guest comes home from a host that reads this file over libvirt: first the index, which has 48 bytes for each MiB,
and then the rows of those segments that differ. docs/contracts.md describes it ("Digests of an old copy").
"""

from __future__ import annotations

import hashlib
import struct
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import blocks_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    BLOCK_DIGEST_BYTES,
    BLOCKS_PER_SEGMENT,
    DIGEST_BYTES,
    SEGMENT_BYTES,
    Segment,
    segments_in,
    zero_segment,
)

#: What is appended to the name of an image.
SUFFIX = ".kvmops-digests"
ROW_BYTES = BLOCKS_PER_SEGMENT * BLOCK_DIGEST_BYTES
ENTRY_BYTES = DIGEST_BYTES + BLOCK_DIGEST_BYTES

_HEADER = struct.Struct(">8sIII4xQQQ16x")
HEADER_BYTES = _HEADER.size
_MAGIC = b"KVMOPSOD"
_ZEROS = bytes(BLOCK_DIGEST_BYTES)
_ZERO_ROW = bytes(ROW_BYTES)


class DigestFileError(Exception):
    """What is no digest file, or not the one of this disk; says why in words."""


class Made(t.NamedTuple):
    """Of which file the digests were made.

    Attributes:
        size_bytes: of the disk, as the guest sees it.
        file_bytes: length of the image's file.
        mtime_ns: when the file was last written to.
    """

    size_bytes: int
    file_bytes: int
    mtime_ns: int


def index_bytes(size_bytes: int) -> int:
    """Length of header and index of a disk of so many bytes."""
    return _HEADER.size + ENTRY_BYTES * segments_in(size_bytes)


def row_at(size_bytes: int, segment: int) -> int:
    """Where in the file the row of a segment is."""
    return -(-index_bytes(size_bytes) // ROW_BYTES) * ROW_BYTES + segment * ROW_BYTES


def file_bytes(size_bytes: int) -> int:
    """Length of the file for a disk of so many bytes."""
    return row_at(size_bytes, segments_in(size_bytes))


def row_of(segment: Segment) -> bytes:
    """The row of a segment."""
    if segment.is_zero:
        return _ZERO_ROW
    row = b"".join(digest or _ZEROS for digest in segment.listed())
    return row.ljust(ROW_BYTES, b"\0")


def entry_of(segment: Segment, row: bytes) -> bytes:
    """The entry of a segment in the index."""
    return segment.digest + _short(row)


def encoded(made: Made, entries: bytes) -> bytes:
    """Header and index."""
    header = _HEADER.pack(_MAGIC, 1, BLOCK_BYTES, SEGMENT_BYTES, made.size_bytes, made.file_bytes, made.mtime_ns)
    return header + entries


def name_of(index: bytes) -> str:
    """What names the file: the digest of header and index, as it stands in a record."""
    return "sha256:" + hashlib.sha256(index).hexdigest()


def made_of(header: bytes) -> Made | None:
    """Of which file the digests were made whose file begins so; None: it is no such file."""
    if len(header) < HEADER_BYTES:
        return None
    magic, version, block, segment, size, length, mtime_ns = _HEADER.unpack_from(header)
    if magic != _MAGIC or (version, block, segment) != (1, BLOCK_BYTES, SEGMENT_BYTES):
        return None
    return Made(size, length, mtime_ns)


class Index:
    """Header and index of a digest file.

    Args:
        data: as it was read.
        size_bytes: of the disk that it must belong to.

    Attributes:
        made: of which file.

    Raises: DigestFileError for other data.
    """

    def __init__(self, data: bytes, size_bytes: int) -> None:
        made = made_of(data)
        if made is None:
            raise DigestFileError("they are of another kind or version")
        if made.size_bytes != size_bytes:
            raise DigestFileError(f"the disk has {size_bytes} bytes now, and had {made.size_bytes}")
        if len(data) != index_bytes(size_bytes):
            raise DigestFileError("they are not whole")
        self.made = made
        self._data = data

    def is_same(self, segment: int, now: Segment) -> bool:
        """Whether a segment has the content that it had then."""
        at = _HEADER.size + segment * ENTRY_BYTES
        return self._data[at : at + DIGEST_BYTES] == now.digest

    def is_zero(self, segment: int) -> bool:
        """Whether a segment had nothing but zeros then, so that its row is known."""
        return self.is_same(segment, zero_segment(blocks_of(self.made.size_bytes, segment)))

    def is_right(self, segment: int, row: bytes) -> bool:
        """Whether a row is the one that was written then."""
        at = _HEADER.size + segment * ENTRY_BYTES + DIGEST_BYTES
        return self._data[at : at + BLOCK_DIGEST_BYTES] == _short(row)


def changed_blocks(row: bytes, now: Segment) -> tuple[list[int], list[int]]:
    """The blocks of a segment that are not as they were, by their numbers in it: those with content, those of zeros.

    Args:
        row: of then.
        now: the segment as it is now.
    """
    data: list[int] = []
    zeros: list[int] = []
    for number, digest in enumerate(now.listed()):
        before = row[number * BLOCK_DIGEST_BYTES : (number + 1) * BLOCK_DIGEST_BYTES]
        if before != (digest or _ZEROS):
            (data if digest else zeros).append(number)
    return data, zeros


def _short(row: bytes) -> bytes:
    return hashlib.sha256(row).digest()[:BLOCK_DIGEST_BYTES]
