# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The digests of an image that stays behind, in a file beside it, of which any part can be read on its own.

The guest comes home from a host that reads this file over libvirt: first the index, which has 48 bytes for each MiB,
and then the rows of those segments that differ. docs/contracts.md describes it ("Digests of an old copy").

A row has 8 bytes for each block, because a row may be read for a single block that differs. The bytes depend on a
random salt of the file, which no guest sees. So nobody can make two blocks that look the same here, and two that differ
do so with a probability of 2**-64.
"""

from __future__ import annotations

import hashlib
import struct
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import blocks_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    BLOCKS_PER_SEGMENT,
    DIGEST_BYTES,
    SEGMENT_BYTES,
    Segment,
    segments_in,
    zero_segment,
)

#: What is appended to the name of an image.
SUFFIX = ".kvmops-digests"
#: What a row has of each block.
SHORT_BYTES = 8
ROW_BYTES = BLOCKS_PER_SEGMENT * SHORT_BYTES
CHECK_BYTES = 16
ENTRY_BYTES = DIGEST_BYTES + CHECK_BYTES
SALT_BYTES = 16

_HEADER = struct.Struct(f">8sIII4xQQQQ{SALT_BYTES}s8x")
HEADER_BYTES = _HEADER.size
_MAGIC = b"KVMOPSOD"
_VERSION = 2
_ZEROS = bytes(SHORT_BYTES)
_ZERO_ROW = bytes(ROW_BYTES)
_ALMOST_ZEROS = b"\1".rjust(SHORT_BYTES, b"\0")


class DigestFileError(Exception):
    """What is no digest file, or not the one of this disk; says why in words."""


class Made(t.NamedTuple):
    """Of which file the digests were made.

    Attributes:
        size_bytes: of the disk, as the guest sees it.
        file_bytes: length of the image's file.
        mtime_ns: when the file was last written to. Whoever writes to it can set this time back.
        ctime_ns: when anything of the file was last changed, in the file system's own record, which nobody can set.
        salt: of the rows.
    """

    size_bytes: int
    file_bytes: int
    mtime_ns: int
    ctime_ns: int
    salt: bytes


def index_bytes(size_bytes: int) -> int:
    """Length of header and index of a disk of so many bytes."""
    return _HEADER.size + ENTRY_BYTES * segments_in(size_bytes)


def row_at(size_bytes: int, segment: int) -> int:
    """Where in the file the row of a segment is."""
    return -(-index_bytes(size_bytes) // ROW_BYTES) * ROW_BYTES + segment * ROW_BYTES


def file_bytes(size_bytes: int) -> int:
    """Length of the file for a disk of so many bytes."""
    return row_at(size_bytes, segments_in(size_bytes))


def row_of(segment: Segment, salt: bytes) -> bytes:
    """The row of a segment."""
    if segment.is_zero:
        return _ZERO_ROW
    return b"".join(_shorts(segment, salt)).ljust(ROW_BYTES, b"\0")


def entry_of(segment: Segment, row: bytes) -> bytes:
    """The entry of a segment in the index."""
    return segment.digest + _check(row)


def encoded(made: Made, entries: bytes) -> bytes:
    """Header and index."""
    return _HEADER.pack(_MAGIC, _VERSION, BLOCK_BYTES, SEGMENT_BYTES, *made) + entries


def name_of(index: bytes) -> str:
    """What names the file: the digest of header and index, as it stands in a record."""
    return "sha256:" + hashlib.sha256(index).hexdigest()


def made_of(header: bytes) -> Made | None:
    """Of which file the digests were made whose file begins so; None: it is no such file."""
    if len(header) < HEADER_BYTES:
        return None
    magic, version, block, segment, *made = _HEADER.unpack_from(header)
    if magic != _MAGIC or (version, block, segment) != (_VERSION, BLOCK_BYTES, SEGMENT_BYTES):
        return None
    return Made(*made)


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
        return self._data[at : at + CHECK_BYTES] == _check(row)

    def changed_blocks(self, row: bytes, now: Segment) -> tuple[list[int], list[int]]:
        """The blocks of a segment that are not as they were, by their numbers in it: with content, and of zeros.

        Args:
            row: of then.
            now: the segment as it is now.
        """
        data: list[int] = []
        zeros: list[int] = []
        for number, short in enumerate(_shorts(now, self.made.salt)):
            if row[number * SHORT_BYTES : (number + 1) * SHORT_BYTES] != short:
                (zeros if short == _ZEROS else data).append(number)
        return data, zeros


def _shorts(segment: Segment, salt: bytes) -> t.Iterator[bytes]:
    """What a row has of each block of a segment; zeros for a block of zeros, and for no other."""
    for digest in segment.listed():
        if digest is None:
            yield _ZEROS
            continue
        short = hashlib.sha256(salt + digest).digest()[:SHORT_BYTES]
        yield short if short != _ZEROS else _ALMOST_ZEROS


def _check(row: bytes) -> bytes:
    return hashlib.sha256(row).digest()[:CHECK_BYTES]
