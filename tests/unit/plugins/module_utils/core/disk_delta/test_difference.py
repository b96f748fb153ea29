# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import segment_of, segments_in
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta import digest_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.difference import Difference, together
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.digest_file import DigestFileError, Index

BLOCK = 4096
SALT = b"0123456789abcdef"
MIB = 1 << 20
SIZE = 5 * MIB + 3 * BLOCK


def segments(content):
    return [segment_of(bytes(content[at : at + MIB])) for at in range(0, len(content), MIB)]


class File:
    """A digest file in memory, which counts what is read of its rows."""

    def __init__(self, content):
        size = len(content)
        self.data = bytearray(digest_file.file_bytes(size))
        entries = []
        for number, segment in enumerate(segments(content)):
            row = digest_file.row_of(segment, SALT)
            entries.append(digest_file.entry_of(segment, row))
            at = digest_file.row_at(size, number)
            self.data[at : at + len(row)] = row
        index = digest_file.encoded(digest_file.Made(size, 123, 456, 789, SALT), b"".join(entries))
        self.data[: len(index)] = index
        self.size, self.asked = size, []

    def index(self):
        return Index(bytes(self.data[: digest_file.index_bytes(self.size)]), self.size)

    def rows(self, ranges):
        self.asked += ranges
        for first, count in ranges:
            at = digest_file.row_at(self.size, first)
            yield bytes(self.data[at : at + count * digest_file.ROW_BYTES])


def content_of(seed):
    return bytearray(random.Random(seed).randbytes(SIZE))


def difference(file, now):
    found = Difference(file.index(), file.rows)
    for number, segment in enumerate(segments(now)):
        found.add(number, segment)
    return found.changes(), found.digest_bytes


def test_what_was_written_is_found_and_nothing_else():
    before = content_of(1)
    now = bytearray(before)
    now[7 * BLOCK : 9 * BLOCK] = b"x" * 2 * BLOCK
    now[2 * MIB - 1] ^= 1
    now[3 * MIB : 3 * MIB + BLOCK] = bytes(BLOCK)
    now[-1] ^= 1
    changes, digest_bytes = difference(File(before), now)
    assert changes.data == ((7, 2), (511, 1), (5 * 256 + 2, 1))
    assert changes.zeros == ((768, 1),)
    # Rows that are near to each other are read at once.
    assert digest_bytes == 6 * digest_file.ROW_BYTES == 6 * 256 * 8


def test_of_a_disk_that_did_not_change_no_row_is_read():
    file = File(content_of(2))
    assert difference(file, content_of(2)) == (((), ()), 0)
    assert file.asked == []


def test_what_was_written_where_zeros_were_needs_no_row():
    before = bytearray(SIZE)
    now = bytearray(before)
    now[MIB : MIB + BLOCK] = b"x" * BLOCK
    file = File(before)
    changes, _digest_bytes = difference(file, now)
    assert (changes.data, changes.zeros, file.asked) == (((256, 1),), (), [])


@pytest.mark.parametrize("bit", [0, 2047 * 8 + 7])
def test_a_row_that_is_damaged_is_found(bit):
    before = content_of(3)
    file = File(before)
    file.data[digest_file.row_at(SIZE, 1) + bit // 8] ^= 1 << bit % 8
    now = bytearray(before)
    now[MIB] ^= 1
    with pytest.raises(DigestFileError, match="the file of digests is damaged"):
        difference(file, now)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"X" + data[1:], "they are of another kind or version"),
        (lambda data: data[:11] + b"\x01" + data[12:], "they are of another kind or version"),
        (lambda data: data[:20], "they are of another kind or version"),
        (lambda data: data[:-1], "they are not whole"),
        (lambda data: data + b"\0", "they are not whole"),
    ],
)
def test_another_file_is_no_index(change, words):
    file = File(content_of(4))
    data = bytes(file.data[: digest_file.index_bytes(SIZE)])
    with pytest.raises(DigestFileError, match=words):
        Index(change(data), SIZE)


def test_a_disk_that_has_grown_is_named():
    file = File(content_of(5))
    with pytest.raises(DigestFileError, match=f"the disk has {2 * SIZE} bytes now, and had {SIZE}"):
        Index(bytes(file.data), 2 * SIZE)


def test_the_header_says_of_which_file_the_digests_were_made():
    file = File(content_of(6))
    assert digest_file.made_of(bytes(file.data[: digest_file.HEADER_BYTES])) == (SIZE, 123, 456, 789, SALT)
    assert digest_file.made_of(b"") is None
    assert file.index().made == (SIZE, 123, 456, 789, SALT)
    assert len(file.data) == digest_file.row_at(SIZE, segments_in(SIZE))


def test_rows_are_read_in_few_pieces():
    assert together([], 8) == []
    assert together([3, 4, 12, 30], 8) == [(3, 10), (30, 1)]
