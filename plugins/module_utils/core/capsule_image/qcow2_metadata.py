# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which clusters of a qcow2 file have the file's own tables, and no content.

QEMU keeps in memory where in a file the content is, until the guest flushes. So a table on disk does not name all
clusters with content. All others have content, or what was content once. The format is that of docs/interop/qcow2.rst
of QEMU.
"""

from __future__ import annotations

import struct
import typing as t

#: Size and offset of the table of tables (L1); offset and clusters of the table of reference counts.
_PLACES = struct.Struct(">IQQI")
_PLACES_AT = 36
#: Bits 9 to 55 of an entry are an offset in the file; the others are flags.
_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
#: QEMU opens no file with a larger L1 table, or a larger table of reference counts.
MOST_TABLE_BYTES = 32 * 1024**2


def clusters(read: t.Callable[[int, int], bytes], cluster_bytes: int) -> set[int]:
    """The numbers of the clusters with tables.

    Args:
        read: so many bytes of the file from an offset on; fewer at its end.
        cluster_bytes: size of a cluster.

    Raises:
        ValueError: the file is cut off, or a table is larger than QEMU would open.
    """
    head = read(_PLACES_AT, _PLACES.size)
    if len(head) < _PLACES.size:
        raise ValueError("it is cut off within its header")
    l1_entries, l1_at, counts_at, count_clusters = _PLACES.unpack(head)
    found = {0}
    for at, length in ((l1_at, l1_entries * 8), (counts_at, count_clusters * cluster_bytes)):
        if length > MOST_TABLE_BYTES:
            raise ValueError(f"a table has {length} bytes")
        found.update(range(at // cluster_bytes, -(-(at + length) // cluster_bytes)))
        # A table of tables: each entry is the place of one.
        table = read(at, length)
        for (entry,) in struct.iter_unpack(">Q", table[: len(table) // 8 * 8]):
            if entry & _OFFSET_MASK:
                found.add((entry & _OFFSET_MASK) // cluster_bytes)
    return found
