# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which blocks an overlay holds, and where in its file, read from a file that was made by C(overlay_file) and that a
guest has written to since.

A guest that is about to leave writes on while its overlay is read. Starting a server for it would take as long as all
the rest, so its tables are read here. The format is described in QEMU's docs/interop/qcow2.rst.
"""

from __future__ import annotations

import struct
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.difference import RangeList
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import (
    BLOCKS_PER_CLUSTER,
    CLUSTER_BITS,
    CLUSTER_BYTES,
    L2_ENTRIES,
    L2_ENTRY,
    Changes,
)

_HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQ")
_EXTENDED_L2 = 1 << 4
#: The part of an entry that is a place in the file.
_PLACE = 0x00FFFFFFFFFFFE00
_COMPRESSED = 1 << 62

#: Reads the file: from which byte, and how many. What is beyond its end is missing.
Read = t.Callable[[int, int], bytes]


class OverlayBlocksError(Exception):
    """A file that cannot be read so; says why in words."""


class OverlayBlocks:
    """The blocks of one overlay.

    Args:
        read: reads its file, which nobody writes to any more.
        size_bytes: of the disk, as the guest sees it.

    Attributes:
        changes: what it holds.

    Raises: OverlayBlocksError for a file of another kind, or a damaged one.
    """

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read = read
        self._places: dict[int, int] = {}
        data, zeros = RangeList(), RangeList()
        for number, entry, bits in self._clusters(size_bytes):
            for block in range(BLOCKS_PER_CLUSTER):
                held, zero = bits >> block & 1, bits >> (block + BLOCKS_PER_CLUSTER) & 1
                if held:
                    self._places[number * BLOCKS_PER_CLUSTER + block] = (entry & _PLACE) + block * BLOCK_BYTES
                    data.add(number * BLOCKS_PER_CLUSTER + block)
                elif zero:
                    zeros.add(number * BLOCKS_PER_CLUSTER + block)
        self.changes = Changes(data.ranges(), zeros.ranges())

    def content(self, offset: int, length: int) -> bytes:
        """So many bytes of the disk, all of which the overlay holds; both in whole blocks."""
        first, end = offset // BLOCK_BYTES, (offset + length) // BLOCK_BYTES
        # What is beyond the end of the file was never written.
        return b"".join(
            self._read(self._places[block], BLOCK_BYTES).ljust(BLOCK_BYTES, b"\0") for block in range(first, end)
        )

    def _clusters(self, size_bytes: int) -> t.Iterator[tuple[int, int, int]]:
        """Number, entry and bits of each cluster of the disk that has something, in order."""
        for table, place in enumerate(self._tables(size_bytes)):
            if not place:
                continue
            content = self._whole(place, CLUSTER_BYTES)
            for number, (entry, bits) in enumerate(L2_ENTRY.iter_unpack(content)):
                if entry & _COMPRESSED:
                    raise OverlayBlocksError("it has compressed clusters")
                if bits:
                    yield table * L2_ENTRIES + number, entry, bits

    def _tables(self, size_bytes: int) -> list[int]:
        """Where the second tables are; 0: there is none."""
        (magic, version, _name, _length, cluster_bits, size, encrypted, entries, first, *_rest, features, _compatible,
         _clear) = _HEADER.unpack(self._whole(0, _HEADER.size))  # fmt: skip
        if (magic, version, cluster_bits, encrypted, features) != (b"QFI\xfb", 3, CLUSTER_BITS, 0, _EXTENDED_L2):
            raise OverlayBlocksError("it is no overlay that was made here")
        if size != size_bytes or entries != -(-size_bytes // (L2_ENTRIES * CLUSTER_BYTES)):
            raise OverlayBlocksError(f"it is of a disk of {size} bytes, not {size_bytes}")
        return [entry & _PLACE for (entry,) in struct.iter_unpack(">Q", self._whole(first, entries * 8))]

    def _whole(self, offset: int, length: int) -> bytes:
        content = self._read(offset, length)
        if len(content) != length:
            raise OverlayBlocksError("it ends too early")
        return content
