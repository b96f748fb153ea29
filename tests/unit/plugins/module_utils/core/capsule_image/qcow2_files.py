# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Headers of qcow2 files for tests, as QEMU writes them."""

from __future__ import annotations

import struct

BACKING_FORMAT, DATA_FILE = 0xE2792ACA, 0x44415441


def header(
    size_bytes=64 * 1024**2,
    *,
    version=3,
    cluster_bits=16,
    backing=None,
    backing_format=None,
    features=0,
    encryption=0,
    snapshots=0,
    extensions=(),
):
    """The first cluster of a qcow2 file."""
    added = [(BACKING_FORMAT, backing_format.encode())] if backing_format else []
    parts = b"".join(
        struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)
        for kind, content in [*added, *extensions, (0, b"")]
    )
    begin = 104 if version == 3 else 72
    name = (backing or "").encode()
    at = begin + len(parts) if backing else 0
    data = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        at,
        len(name),
        cluster_bits,
        size_bytes,
        encryption,
        1,
        3 << 16,
        1 << 16,
        1,
        snapshots,
        0,
    )
    if version == 3:
        data += struct.pack(">QQQII", features, 0, 0, 4, 104)
    return (data + parts + name).ljust(1 << 16, b"\0")
