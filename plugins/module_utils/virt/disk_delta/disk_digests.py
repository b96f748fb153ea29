# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reads a disk segment after segment, and keeps the digests of an image in a file beside it.

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import blocks_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    SEGMENT_BYTES,
    Segment,
    segment_of,
    segments_in,
    zero_segment,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta import digest_file
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import sync_directory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess

#: So much is read at once.
READ_BYTES = 4 * SEGMENT_BYTES

#: Called after each read with how many segments are done, and how many there are; raises to end the reading.
Tell = t.Callable[[int, int], None]


def nobody(_number: int, _count: int) -> None:
    """Tell nobody how far the reading is."""


def segments(image: ImageAccess, tell: Tell = nobody) -> t.Iterator[tuple[int, Segment]]:
    """The segments of an image in order. What is a hole in all of its files is not read.

    Raises: CapsuleError where it cannot be read.
    """
    size, count = image.size_bytes, segments_in(image.size_bytes)
    number = 0
    for first, end in _with_data(image):
        while number < first:
            yield number, zero_segment(blocks_of(size, number))
            number += 1
        while number < end:
            start = number * SEGMENT_BYTES
            content = image.read(start, min(READ_BYTES, end * SEGMENT_BYTES - start, size - start))
            for at in range(0, len(content), SEGMENT_BYTES):
                yield number, segment_of(content[at : at + SEGMENT_BYTES])
                number += 1
            tell(number, count)
    while number < count:
        yield number, zero_segment(blocks_of(size, number))
        number += 1


def _with_data(image: ImageAccess) -> t.Iterator[tuple[int, int]]:
    """The segments that may have something else than zeros: first ones, and those after the last."""
    before: tuple[int, int] | None = None
    for start, length in image.data():
        first, end = start // SEGMENT_BYTES, segments_in(start + length)
        if before is not None and first <= before[1]:
            before = (before[0], max(end, before[1]))
            continue
        if before is not None:
            yield before
        before = (first, end)
    if before is not None:
        yield before


class DigestWriter:
    """Writes the digests of an image that is read, to a new file that replaces the old one at the end.

    Args:
        path: of the digest file.
        size_bytes: of the disk, as the guest sees it.
    """

    def __init__(self, path: str, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes
        self._entries: list[bytes] = []
        self._salt = os.urandom(digest_file.SALT_BYTES)
        self._descriptor: int | None = None

    def __enter__(self) -> DigestWriter:
        self.open()
        return self

    def open(self) -> None:
        """Begin the new file.

        Raises: OSError.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._new, flags, 0o600)
        os.ftruncate(self._descriptor, digest_file.file_bytes(self._size_bytes))

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave no file where it was not finished. A second call changes nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._new)

    @property
    def _new(self) -> str:
        return f"{self._path}.new"

    def add(self, number: int, segment: Segment) -> None:
        """Take the next segment."""
        row = digest_file.row_of(segment, self._salt)
        self._entries.append(digest_file.entry_of(segment, row))
        if not segment.is_zero and self._descriptor is not None:
            os.pwrite(self._descriptor, row, digest_file.row_at(self._size_bytes, number))

    def replace(self, number: int, segment: Segment) -> None:
        """Take a segment that was there already, and has been written to since."""
        row = digest_file.row_of(segment, self._salt)
        self._entries[number] = digest_file.entry_of(segment, row)
        if self._descriptor is not None:
            os.pwrite(self._descriptor, row, digest_file.row_at(self._size_bytes, number))

    def finish(self, image: os.stat_result) -> str:
        """Make the file last; returns what names it.

        Args:
            image: what the file system says of the image that was read.
        """
        times = image.st_mtime_ns, image.st_ctime_ns
        made = digest_file.Made(self._size_bytes, image.st_size, *times, self._salt)
        index = digest_file.encoded(made, b"".join(self._entries))
        if self._descriptor is not None:
            os.pwrite(self._descriptor, index, 0)
            os.fsync(self._descriptor)
            os.replace(self._new, self._path)
            os.close(self._descriptor)
            self._descriptor = None
            sync_directory(os.path.dirname(self._path))
        return digest_file.name_of(index)
