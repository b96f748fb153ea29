# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find what a disk has that its old copy has not, while it is read once."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCKS_PER_SEGMENT, Segment
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.digest_file import (
    ROW_BYTES,
    DigestFileError,
    Index,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import Changes, Range

#: So many segments that differ are kept until their rows are asked for, all at once: 1 MiB of digests.
MOST_WAITING = 512
#: Rows that are no farther apart are read in one go: a call puts about as much on the wire as the row between.
MOST_BETWEEN = 1

#: Reads rows of the digest file; each range is a first segment, and how many rows.
Rows = t.Callable[[t.Sequence[Range]], t.Iterable[bytes]]


class Difference:
    """Compares a disk with the digests of its old copy, segment after segment.

    Args:
        index: of the old copy.
        rows: reads rows of its digest file.

    Attributes:
        digest_bytes: of rows that were asked for.
    """

    def __init__(self, index: Index, rows: Rows) -> None:
        self._index = index
        self._rows = rows
        self._waiting: dict[int, Segment] = {}
        self._data = RangeList()
        self._zeros = RangeList()
        self.digest_bytes = 0

    def add(self, number: int, segment: Segment) -> None:
        """Take the next segment of the disk.

        Raises: DigestFileError for rows that are not those of the index; then nothing is known of the old copy.
        """
        if self._index.is_same(number, segment):
            return
        self._waiting[number] = segment
        if len(self._waiting) >= MOST_WAITING:
            self._compare()

    def changes(self) -> Changes:
        """What differs, after the last segment.

        Raises: DigestFileError as C(add).
        """
        self._compare()
        return Changes(self._data.ranges(), self._zeros.ranges())

    def _compare(self) -> None:
        rows = {number: bytes(ROW_BYTES) for number in self._waiting if self._index.is_zero(number)}
        wanted = together([number for number in self._waiting if number not in rows], MOST_BETWEEN)
        for (first, count), found in zip(wanted, self._rows(wanted) if wanted else ()):
            self.digest_bytes += len(found)
            for n in range(count):
                rows[first + n] = found[n * ROW_BYTES : (n + 1) * ROW_BYTES]
        for number, segment in self._waiting.items():
            row = rows[number]
            if not self._index.is_right(number, row):
                raise DigestFileError("the file of digests is damaged")
            data, zeros = self._index.changed_blocks(row, segment)
            for block in data:
                self._data.add(number * BLOCKS_PER_SEGMENT + block)
            for block in zeros:
                self._zeros.add(number * BLOCKS_PER_SEGMENT + block)
        self._waiting = {}


class RangeList:
    """Numbers in ascending order, kept as ranges."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []

    def add(self, number: int, count: int = 1) -> None:
        """Take the next numbers."""
        if self._ranges and sum(self._ranges[-1]) == number:
            first, before = self._ranges[-1]
            self._ranges[-1] = (first, before + count)
        else:
            self._ranges.append((number, count))

    def ranges(self) -> tuple[Range, ...]:
        """All of them: a first number, and how many."""
        return tuple(self._ranges)


def together(numbers: t.Sequence[int], most_between: int) -> list[Range]:
    """Numbers in ascending order as few ranges, which may take in some that are between.

    >>> together([1, 2, 5, 20], most_between=2)
    [(1, 5), (20, 1)]
    """
    found: list[Range] = []
    for number in numbers:
        if found and number - sum(found[-1]) <= most_between:
            first = found[-1][0]
            found[-1] = (first, number - first + 1)
        else:
            found.append((number, 1))
    return found
