# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reads and writes files in the storage pools of another host, over libvirt alone.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import OverlayFile
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: libvirt's largest message of a stream has a little less than 256 KiB of data.
MOST_AT_ONCE = 256 * 1024 - 128


def read(volume: t.Any, offset: int, length: int) -> bytes:
    """So many bytes of a volume's file.

    Raises: libvirtError.
    """
    connection = volume.connect()
    stream = connection.newStream(0)
    volume.download(stream, offset, length, 0)
    found = []
    while length > 0:
        piece = stream.recv(min(length, MOST_AT_ONCE))
        if not piece:
            break
        found.append(piece)
        length -= len(piece)
    # What has come whole is followed by an empty message.
    while stream.recv(1):
        pass
    stream.finish()
    return b"".join(found)


def write(
    volume: t.Any, overlay: OverlayFile, content: t.Callable[[int, int], bytes], sent: t.Callable[[int], None]
) -> int:
    """Write an overlay to a volume that is new; returns the bytes that were sent.

    Args:
        volume: as long as the overlay.
        overlay: what is written.
        content: reads the disk: from which byte, and how many; a multiple of the block size.
        sent: called with how many bytes have been sent just now; raises to end it.

    Raises: libvirtError; then the volume is not whole.
    """
    connection = volume.connect()
    stream = connection.newStream(0)
    volume.upload(stream, 0, 0, virt.libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
    total = 0
    try:
        for piece in overlay.pieces():
            if piece.kind == "hole":
                stream.sendHole(piece.length, 0)
                continue
            for at in range(0, piece.length, MOST_AT_ONCE):
                length = min(MOST_AT_ONCE, piece.length - at)
                data = piece.content[at : at + length]
                if piece.kind == "blocks":
                    data = content(piece.first_block * 4096 + at, length)
                _send(stream, data)
                total += length
                sent(length)
    except BaseException:
        stream.abort()
        raise
    stream.finish()
    return total


def _send(stream: t.Any, data: bytes) -> None:
    while data:
        data = data[stream.send(data) :]
