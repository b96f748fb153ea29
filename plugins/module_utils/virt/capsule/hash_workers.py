# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: hashes an image in several processes: one core hashes 0.6 to 1.5 GiB/s, and disks are
# faster than that.

from __future__ import annotations

import contextlib
import json
import marshal
import os
import select
import signal
import struct
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    SEGMENT_BYTES,
    Segment,
    segment_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess

#: More of them do not hash faster than disks read, and guests want cores, too.
MOST_WORKERS = 4
#: Below this, starting processes takes longer than they save.
LEAST_BYTES = 64 * 1024**2

_HEADER = struct.Struct("<QI")
_ERROR = 2**64 - 1


def workers_for(total_bytes: int) -> int:
    """How many processes hash so many bytes; 1: this one."""
    if total_bytes < LEAST_BYTES:
        return 1
    return max(1, min(MOST_WORKERS, len(os.sched_getaffinity(0))))


def segments_in_data(data: bytes) -> list[Segment]:
    """The segments in content that begins with one."""
    view = memoryview(data)
    return [segment_of(bytes(view[start : start + SEGMENT_BYTES])) for start in range(0, len(data), SEGMENT_BYTES)]


def hashed_by(
    workers: int, image: ImageAccess, requests: t.Sequence[tuple[int, int]]
) -> t.Iterator[tuple[int, list[Segment]]]:
    """The segments of each request, in any order.

    Must be called while this process has a single thread: the others are forks.

    Args:
        workers: how many processes.
        image: what is read; each process opens it anew.
        requests: first segment and length in bytes. Those of one process lie between those of the others, so that a
            disk reads in order.

    Raises:
        CapsuleError: the image cannot be read.
    """
    children = [_Worker(image, requests[number::workers]) for number in range(workers)]
    try:
        reading = {child.pipe: child for child in children}
        while reading:
            for pipe in select.select(list(reading), [], [])[0]:
                message = reading[pipe].message()
                if message is None:
                    del reading[pipe]
                    continue
                first, body = message
                if first == _ERROR:
                    raise CapsuleError(**json.loads(body))
                yield first, [Segment(*one) for one in marshal.loads(body)]  # noqa: S302 - our own child wrote it
    finally:
        for child in children:
            child.end()


class _Worker:
    def __init__(self, image: ImageAccess, requests: t.Sequence[tuple[int, int]]) -> None:
        self.pipe, write = os.pipe()
        self._missing = len(requests)
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self.pipe)
            _work(image, requests, write)
        os.close(write)
        self._file = os.fdopen(self.pipe, "rb")

    def message(self) -> tuple[int, bytes] | None:
        """The next message; None: it has ended, with all of them."""
        header = self._file.read(_HEADER.size)
        if len(header) == _HEADER.size:
            first, length = _HEADER.unpack(header)
            body = self._file.read(length)
            if len(body) == length:
                self._missing -= 1
                return first, body
        if self._missing:
            raise CapsuleError(
                "hashing_died", "a process that hashed was killed", "see whether memory ran out (dmesg), and try again"
            )
        return None

    def end(self) -> None:
        """End the process."""
        self._file.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _work(image: ImageAccess, requests: t.Sequence[tuple[int, int]], write: int) -> t.NoReturn:
    """Hash in the child. Never returns: the child must not go on with the parent's work."""
    status = 1
    try:
        with os.fdopen(write, "wb", buffering=0) as out:
            try:
                own = image.for_child()
                for first, length in requests:
                    data = own.read(first * SEGMENT_BYTES, length)
                    # Version 2: the newer ones may write one object as a reference to another.
                    _say(out, first, marshal.dumps([tuple(one) for one in segments_in_data(data)], 2))
            except CapsuleError as error:
                _say(out, _ERROR, json.dumps(error.refusal).encode())
        status = 0
    finally:
        os._exit(status)


def _say(out: t.Any, first: int, body: bytes) -> None:
    data = _HEADER.pack(first, len(body)) + body
    while data:
        data = data[out.write(data) :]
