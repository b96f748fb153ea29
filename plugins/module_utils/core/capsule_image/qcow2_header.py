# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the header of a qcow2 file says of it, before any program opens it. The file may be hostile.

A header can name other files, and a program that opens the image opens those, too: also ones of the host, or over the
network. So it is read here, from bytes. The format is that of docs/interop/qcow2.rst of QEMU.
"""

from __future__ import annotations

import struct
import typing as t

MAGIC = b"QFI\xfb"
#: All of a header is within its first cluster, which has 64 KiB by default; names are shorter than 1024 bytes.
HEADER_BYTES = 64 * 1024

_VERSION_2 = struct.Struct(">4sIQIIQIIQQIIQ")
_FEATURES = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_BACKING_FORMAT, _DATA_FILE, _END = 0xE2792ACA, 0x44415441, 0
_DIRTY, _CORRUPT, _HAS_DATA_FILE = 1 << 0, 1 << 1, 1 << 2
_MOST_NAME = 1023


class Qcow2Header(t.NamedTuple):
    """What matters of a header.

    Attributes:
        size_bytes: of what a guest sees.
        backing: what it names as the file below it; None: nothing.
        backing_format: what it says of that file's format; None: nothing.
        data_file: whether the content is in another file.
        encrypted: whether it is encrypted.
        cluster_bytes: size of a cluster.
        dirty, corrupt: as the last program that wrote it has left it.
        snapshots: how many snapshots are inside of it.
    """

    size_bytes: int
    backing: str | None
    backing_format: str | None
    data_file: bool
    encrypted: bool
    cluster_bytes: int
    dirty: bool
    corrupt: bool
    snapshots: int


def parsed(data: bytes) -> Qcow2Header:
    """The header in the first bytes of a file.

    Args:
        data: the first C(HEADER_BYTES) of it, or all of it if it is shorter.

    Raises:
        ValueError: it is no qcow2 file, or is damaged; the text says why.
    """
    if data[:4] != MAGIC:
        raise ValueError("it is no qcow2 file")
    if len(data) < _VERSION_2.size:
        raise ValueError("it is cut off within its header")
    (dummy, version, backing_at, backing_length, cluster_bits, size_bytes, encryption, *rest) = _VERSION_2.unpack_from(
        data
    )
    snapshots, features, header_bytes = rest[4], 0, _VERSION_2.size
    if version not in (2, 3):
        raise ValueError(f"its version {version} is not known")
    if not 9 <= cluster_bits <= 21:
        raise ValueError(f"its clusters of 2**{cluster_bits} bytes are not possible")
    if version == 3:
        if len(data) < _VERSION_2.size + _FEATURES.size:
            raise ValueError("it is cut off within its header")
        features, dummy, dummy, dummy, header_bytes = _FEATURES.unpack_from(data, _VERSION_2.size)
    backing = _text(data, backing_at, backing_length, "the name of its backing file") if backing_at else None
    form, names_data_file = _extensions(data, header_bytes, backing_at)
    return Qcow2Header(
        size_bytes=size_bytes,
        backing=backing,
        backing_format=form,
        data_file=names_data_file or bool(features & _HAS_DATA_FILE),
        encrypted=encryption != 0,
        cluster_bytes=1 << cluster_bits,
        dirty=bool(features & _DIRTY),
        corrupt=bool(features & _CORRUPT),
        snapshots=snapshots,
    )


def _extensions(data: bytes, at: int, backing_at: int) -> tuple[str | None, bool]:
    """Format of the backing file, and whether a data file is named."""
    form, names_data_file = None, False
    end = min(len(data), backing_at or len(data))
    while at + _EXTENSION.size <= end:
        kind, length = _EXTENSION.unpack_from(data, at)
        at += _EXTENSION.size
        if kind == _END:
            break
        if length > end - at:
            raise ValueError("it is damaged: a part of its header is longer than the header")
        if kind == _BACKING_FORMAT:
            form = _text(data, at, length, "the format of its backing file")
        names_data_file = names_data_file or kind == _DATA_FILE
        at += -(-length // 8) * 8
    return form, names_data_file


def _text(data: bytes, at: int, length: int, what: str) -> str:
    if not 0 < length <= _MOST_NAME or at + length > len(data):
        raise ValueError(f"it is damaged: {what} has {length} bytes at {at}")
    try:
        return data[at : at + length].decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is damaged: {what} is no text") from error
