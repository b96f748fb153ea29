# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: makes the block manifest of an image: all of it, or what a hint names.
#
# Holes and ranges of zeros are not read. What is read is asked for in order and in large pieces: in several processes,
# or by a thread that reads ahead while another hashes (both let other threads of Python run while they are in C).

from __future__ import annotations

import queue
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    BlockManifest,
    blocks_of,
    bytes_of,
    refreshed,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.changed_ranges import (
    HashPlan,
    Hint,
    hash_plan,
    missed,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    SEGMENT_BYTES,
    Segment,
    segments_in,
    zero_segment,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.hash_workers import (
    hashed_by,
    segments_in_data,
    workers_for,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess

#: One request. Larger ones are not faster, and keep more memory.
REQUEST_BYTES = 4 * 1024**2
_AHEAD = 2

#: Is told the bytes that are done, and all that there are.
Progress = t.Callable[[int, int], None]


class Hashed(t.NamedTuple):
    """A manifest, and what it took.

    Attributes:
        manifest: of the whole image.
        full_because: why the whole image was read; None where a hint saved that.
        read_bytes: what was read; holes are not.
    """

    manifest: BlockManifest
    full_because: str | None
    read_bytes: int


def hashed(
    image: ImageAccess,
    disk: str,
    *,
    earlier: BlockManifest | None = None,
    hint: Hint | None = None,
    turn: int = 0,
    progress: Progress | None = None,
) -> Hashed:
    """The manifest of an image.

    Args:
        image: nobody writes to it meanwhile.
        disk: its name, for messages.
        earlier: manifest of the image that the hint is relative to, such as the layer below.
        hint: what was written since; None: nobody knows, and all is read.
        turn: number of the capsule: other segments that the hint does not name are read each time.
        progress: is told how far it is, once for each request.

    Raises:
        CapsuleError: the image cannot be read.
    """
    plan = hash_plan(disk, image.size_bytes, earlier, hint, turn)
    found, read_bytes = segments_of(image, plan.segments, progress)
    if plan.full_because is None and earlier is not None:
        why = missed(disk, plan, earlier, found)
        if why is None:
            return Hashed(refreshed(earlier, image.size_bytes, found), None, read_bytes)
        rest, more = segments_of(
            image, [one for one in range(segments_in(image.size_bytes)) if one not in found], progress
        )
        found.update(rest)
        plan, read_bytes = HashPlan(plan.segments, plan.control, why), read_bytes + more
    segments = tuple(found[number] for number in range(len(found)))
    return Hashed(BlockManifest(image.size_bytes, segments), plan.full_because, read_bytes)


def segments_of(
    image: ImageAccess, numbers: t.Sequence[int], progress: Progress | None = None
) -> tuple[dict[int, Segment], int]:
    """These segments of an image, by number; and how many bytes were read.

    Raises:
        CapsuleError: the image cannot be read.
    """
    size_bytes = image.size_bytes
    with_data = _segments_with_data(image)
    found = {number: zero_segment(blocks_of(size_bytes, number)) for number in numbers if not with_data[number]}
    requests = list(_requests(size_bytes, [number for number in numbers if with_data[number]]))
    total, done = sum(length for dummy, length in requests), 0
    for first, segments in _hashed_requests(image, requests, total):
        found.update(enumerate(segments, first))
        done += sum(bytes_of(size_bytes, first + number) for number in range(len(segments)))
        if progress is not None:
            progress(done, total)
    return found, done


def _hashed_requests(
    image: ImageAccess, requests: t.Sequence[tuple[int, int]], total: int
) -> t.Iterator[tuple[int, list[Segment]]]:
    workers = workers_for(total)
    if workers > 1:
        yield from hashed_by(workers, image, requests)
        return
    for first, data in _read_ahead(image, requests):
        yield first, segments_in_data(data)


def _segments_with_data(image: ImageAccess) -> bytearray:
    """One byte for each segment: whether it may have something else than zeros."""
    marks = bytearray(segments_in(image.size_bytes))
    for start, length in image.data():
        if length > 0:
            first, end = start // SEGMENT_BYTES, segments_in(start + length)
            marks[first:end] = b"\1" * (end - first)
    return marks


def _requests(size_bytes: int, numbers: t.Sequence[int]) -> t.Iterator[tuple[int, int]]:
    """First segment and length in bytes of each request: segments in a row go together."""
    first, length, following = 0, 0, -1
    for number in numbers:
        if length and (number != following or length + SEGMENT_BYTES > REQUEST_BYTES):
            yield first, length
            length = 0
        if not length:
            first = number
        length += bytes_of(size_bytes, number)
        following = number + 1
    if length:
        yield first, length


def _read_ahead(image: ImageAccess, requests: t.Sequence[tuple[int, int]]) -> t.Iterator[tuple[int, bytes]]:
    """First segment and content of each request, in order."""
    pieces: queue.Queue[tuple[int, bytes] | Exception | None] = queue.Queue(_AHEAD)
    given_up = threading.Event()

    def put(piece: tuple[int, bytes] | Exception | None) -> None:
        while not given_up.is_set():
            try:
                pieces.put(piece, timeout=0.1)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for first, length in requests:
                if given_up.is_set():
                    return
                put((first, image.read(first * SEGMENT_BYTES, length)))
            put(None)
        except Exception as error:  # noqa: BLE001 - it is raised where the pieces are taken
            put(error)

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    try:
        while True:
            piece = pieces.get()
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        given_up.set()
        reader.join()
