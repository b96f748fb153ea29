# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: how much of a disk's images holds data, as a copy over the network would send it.

from __future__ import annotations

import errno
import os
import stat
import typing as t

#: QEMU mirrors in units of this size: where a byte of one is not a hole, all of it is sent.
UNIT_BYTES = 65536
#: So many pieces of an image are looked at. Of an image in more pieces, the rest is taken to be as full as these.
MOST_PIECES = 20000


def data_bytes(disk: t.Mapping[str, t.Any]) -> int | None:
    """What copying a disk sends of its images as they are now; None where they cannot be looked at.

    A copy holds what all layers hold together. What is in two of them is counted twice, so the disk's size is the most.

    Args:
        disk: as in a snapshot, with ``shared`` and ``shared_why``. Only files of this host are looked at: a server that
            does not answer would hold up everything else.
    """
    if disk["shared"] is not False or (disk["shared_why"] or "").startswith("fuse"):
        return None
    layers = [disk["source"], *([layer["source"] for layer in disk.get("layers") or ()] or disk["backing"])]
    if disk["type"] != "file" or not all(str(layer).startswith("/") for layer in layers):
        return None
    sizes = [_of_file(layer) for layer in layers]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def _of_file(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        return _units(descriptor, found.st_size) * UNIT_BYTES if stat.S_ISREG(found.st_mode) else None
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _units(descriptor: int, size: int) -> int:
    """Units of a file that are not all hole."""
    count, after, at = 0, 0, 0
    for _piece in range(MOST_PIECES):
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            # Nothing but a hole is left.
            if error.errno == errno.ENXIO:
                return count
            raise
        at = os.lseek(descriptor, start, os.SEEK_HOLE)
        first, end = max(after, start // UNIT_BYTES), -(-at // UNIT_BYTES)
        count += max(0, end - first)
        after = max(after, end)
        if at >= size:
            return count
    return count * size // max(1, at)
