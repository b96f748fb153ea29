# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A qcow2 file that holds some blocks of a disk and rests on an image with all others, written from begin to end.

Where each byte goes follows from which blocks it holds. So the file can be sent while its blocks are read, and needs
no room at the sender. Clusters have subclusters of 4 KiB (``extended_l2``, QEMU 5.2 or later), so that a single block
needs no neighbours. The rest of its cluster is a hole, for which nothing is sent.

The format is described in QEMU's docs/interop/qcow2.rst.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES

CLUSTER_BITS = 17
CLUSTER_BYTES = 1 << CLUSTER_BITS
BLOCKS_PER_CLUSTER = CLUSTER_BYTES // BLOCK_BYTES
#: An entry of a second table: where the cluster is, and what each of its subclusters is.
L2_ENTRY = struct.Struct(">QQ")
L2_ENTRIES = CLUSTER_BYTES // L2_ENTRY.size
REFCOUNTS_PER_CLUSTER = CLUSTER_BYTES // 2

#: Tables are sent in units of this size where they are not all zeros.
SECTOR_BYTES = 512

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQIIB7x")
_EXTENDED_L2 = 1 << 4
_BACKING_FORMAT = 0xE2792ACA
#: Exactly one user: QEMU may write to it in place.
_COPIED = 1 << 63
#: The longest name of a backing file that the format permits.
MOST_BACKING_NAME_BYTES = 1023

#: A first block, and how many.
Range = tuple[int, int]


class Changes(t.NamedTuple):
    """What a disk has that the image below it has not.

    Attributes:
        data: ranges of blocks with content, in order; none touches another.
        zeros: ranges of blocks of zeros, in order.
    """

    data: tuple[Range, ...]
    zeros: tuple[Range, ...] = ()

    @property
    def data_bytes(self) -> int:
        """Bytes of blocks with content."""
        return BLOCK_BYTES * sum(count for dummy, count in self.data)


class Piece(t.NamedTuple):
    """A part of the file, which follows the part before it.

    Attributes:
        kind: C(bytes), C(hole) or C(blocks).
        content: of C(bytes).
        length: in bytes, of all kinds.
        first_block: of C(blocks): they are to be read from the disk.
    """

    kind: str
    length: int
    content: bytes = b""
    first_block: int = 0


class _Cluster(t.NamedTuple):
    """A cluster of the disk: its number, and its blocks that have content, and those of zeros, as bits."""

    number: int
    data: int
    zeros: int


class OverlayFile:
    """The file.

    Args:
        size_bytes: of the disk, as the guest sees it.
        backing: path of the image below it, where the file will be opened.
        backing_format: C(raw) or C(qcow2); always named, because a raw image could name another format itself.
        changes: what the file holds.

    Attributes:
        length: of the file.

    Raises: ValueError for a size or a path that the format cannot hold.
    """

    def __init__(self, size_bytes: int, backing: str, backing_format: str, changes: Changes) -> None:
        name = backing.encode()
        if not 0 < len(name) <= MOST_BACKING_NAME_BYTES:
            raise ValueError(f"the path of a backing file has 1 to {MOST_BACKING_NAME_BYTES} bytes, not {len(name)}")
        if size_bytes <= 0 or size_bytes % 512:
            raise ValueError(f"the size of a disk is a multiple of 512 bytes, and not {size_bytes}")
        self._size_bytes = size_bytes
        self._backing, self._backing_format = name, backing_format.encode()
        self._clusters = _clusters(changes)
        self._tables = sorted({cluster.number // L2_ENTRIES for cluster in self._clusters})
        self._l1_entries = -(-size_bytes // (L2_ENTRIES * CLUSTER_BYTES))
        l1_clusters = -(-self._l1_entries * 8 // CLUSTER_BYTES)
        held = sum(1 for cluster in self._clusters if cluster.data)
        others = 2 + l1_clusters + len(self._tables) + held
        self._refcount_clusters = _refcount_clusters(others)
        self._l1_at = 2 + self._refcount_clusters
        self._l2_at = self._l1_at + l1_clusters
        self._data_at = self._l2_at + len(self._tables)
        self._end = self._data_at + held
        self.length = self._end * CLUSTER_BYTES

    def pieces(self) -> t.Iterator[Piece]:
        """The parts of the file, one after the other."""
        return _joined(self._all_pieces())

    def _all_pieces(self) -> t.Iterator[Piece]:
        yield from _padded(self._header())
        yield from _padded(b"".join(_number((2 + n) * CLUSTER_BYTES) for n in range(self._refcount_clusters)))
        for number in range(self._refcount_clusters):
            used = min(REFCOUNTS_PER_CLUSTER, self._end - number * REFCOUNTS_PER_CLUSTER)
            yield from _padded(b"\0\x01" * used)
        places = {table: n for n, table in enumerate(self._tables)}
        l1 = b"".join(
            _number(_COPIED | (self._l2_at + places[table]) * CLUSTER_BYTES if table in places else 0)
            for table in range(self._l1_entries)
        )
        yield from _padded(l1, (self._l2_at - self._l1_at) * CLUSTER_BYTES)
        yield from self._second_tables()
        for cluster in self._clusters:
            if cluster.data:
                yield from self._content(cluster)

    def _header(self) -> bytes:
        extension = struct.pack(">II", _BACKING_FORMAT, len(self._backing_format)) + self._backing_format
        extensions = extension + bytes(-len(extension) % 8) + struct.pack(">II", 0, 0)
        name_at = _HEADER.size + len(extensions)
        header = _HEADER.pack(
            b"QFI\xfb",
            3,
            name_at,
            len(self._backing),
            CLUSTER_BITS,
            self._size_bytes,
            0,
            self._l1_entries,
            self._l1_at * CLUSTER_BYTES,
            CLUSTER_BYTES,
            1,
            0,
            0,
            _EXTENDED_L2,
            0,
            0,
            4,
            _HEADER.size,
            0,
        )
        return header + extensions + self._backing

    def _second_tables(self) -> t.Iterator[Piece]:
        place, upcoming = self._data_at, iter(self._clusters)
        cluster = next(upcoming, None)
        for table in self._tables:
            content = bytearray()
            while cluster is not None and cluster.number // L2_ENTRIES == table:
                content += bytes(cluster.number % L2_ENTRIES * L2_ENTRY.size - len(content))
                where = _COPIED | place * CLUSTER_BYTES if cluster.data else 0
                content += L2_ENTRY.pack(where, cluster.zeros << 32 | cluster.data)
                place += 1 if cluster.data else 0
                cluster = next(upcoming, None)
            yield from _padded(bytes(content))

    def _content(self, cluster: _Cluster) -> t.Iterator[Piece]:
        first, number = cluster.number * BLOCKS_PER_CLUSTER, 0
        while number < BLOCKS_PER_CLUSTER:
            held, begin = cluster.data >> number & 1, number
            while number < BLOCKS_PER_CLUSTER and cluster.data >> number & 1 == held:
                number += 1
            length = (number - begin) * BLOCK_BYTES
            yield Piece("blocks", length, first_block=first + begin) if held else Piece("hole", length)


def _refcount_clusters(others: int) -> int:
    """How many clusters of reference counts a file needs that has so many others."""
    count = 1
    while count * REFCOUNTS_PER_CLUSTER < others + count:
        count += 1
    if count * 8 > CLUSTER_BYTES:
        raise ValueError(f"a file of {others} clusters is too large")
    return count


def _clusters(changes: Changes) -> list[_Cluster]:
    """The clusters that have changes, in order."""
    data, zeros = _bits(changes.data), _bits(changes.zeros)
    return [_Cluster(number, data.get(number, 0), zeros.get(number, 0)) for number in sorted({*data, *zeros})]


def _bits(ranges: t.Iterable[Range]) -> dict[int, int]:
    """Blocks as bits, by the cluster."""
    found: dict[int, int] = {}
    for first, count in ranges:
        at, end = first, first + count
        while at < end:
            number, offset = divmod(at, BLOCKS_PER_CLUSTER)
            taken = min(end - at, BLOCKS_PER_CLUSTER - offset)
            found[number] = found.get(number, 0) | ((1 << taken) - 1) << offset
            at += taken
    return found


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def _padded(content: bytes, length: int = CLUSTER_BYTES) -> t.Iterator[Piece]:
    """Content that is followed by zeros, for which nothing is sent: the file is new."""
    for at in range(0, len(content), SECTOR_BYTES):
        page = content[at : at + SECTOR_BYTES]
        yield Piece("bytes", len(page), page) if any(page) else Piece("hole", len(page))
    if length > len(content):
        yield Piece("hole", length - len(content))


def _joined(pieces: t.Iterable[Piece]) -> t.Iterator[Piece]:
    """The same parts, with neighbours of one kind as one."""
    before: Piece | None = None
    for piece in pieces:
        if before is None:
            before = piece
        elif before.kind != piece.kind or (
            piece.kind == "blocks" and before.first_block + before.length // BLOCK_BYTES != piece.first_block
        ):
            yield before
            before = piece
        else:
            before = before._replace(length=before.length + piece.length, content=before.content + piece.content)
    if before is not None:
        yield before
