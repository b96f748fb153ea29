# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_blocks import (
    OverlayBlocks,
    OverlayBlocksError,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import Changes, OverlayFile

BLOCK = 4096
SIZE = 3 << 30


def content_of(block):
    return random.Random(block).randbytes(BLOCK)


def file_of(changes, size=SIZE):
    """The file with these changes, as it is written."""
    found = bytearray()
    for piece in OverlayFile(size, "/images/below.raw", "raw", changes).pieces():
        if piece.kind == "blocks":
            first = piece.first_block
            found += b"".join(map(content_of, range(first, first + piece.length // BLOCK)))
        else:
            found += piece.content or bytes(piece.length)
    return found


def reader(file):
    return lambda offset, length: bytes(file[offset : offset + length])


def test_what_was_written_to_an_overlay_is_read_from_it():
    last = SIZE // BLOCK - 1
    changes = Changes(((0, 1), (30, 5), (400_000, 2), (last, 1)), ((2, 3), (500, 40)))
    found = OverlayBlocks(reader(file_of(changes)), SIZE)
    assert found.changes == changes
    for first, count in changes.data:
        expected = b"".join(map(content_of, range(first, first + count)))
        assert found.content(first * BLOCK, count * BLOCK) == expected


def test_an_overlay_that_nobody_wrote_to_holds_nothing():
    assert OverlayBlocks(reader(file_of(Changes(()))), SIZE).changes == Changes(())


def test_the_end_of_a_file_that_is_a_hole_has_zeros():
    file = file_of(Changes(((0, 2),)))
    place = file.index(content_of(0)) + BLOCK
    found = OverlayBlocks(reader(file[: place + 100]), SIZE)
    assert found.content(BLOCK, BLOCK) == content_of(1)[:100] + bytes(BLOCK - 100)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file[:50], "it ends too early"),
        (lambda file: file[: 3 << 17], "it ends too early"),
        (lambda file: b"x" + file[1:], "it is no overlay that was made here"),
        (lambda file: file[:7] + b"\2" + file[8:], "it is no overlay that was made here"),
        (lambda file: file[:79] + b"\0" + file[80:], "it is no overlay that was made here"),
        (lambda file: file[:30] + b"\1" + file[31:], "it is of a disk of 3221225728 bytes, not 3221225472"),
    ],
)
def test_another_or_a_damaged_file_is_named(change, words):
    with pytest.raises(OverlayBlocksError, match=words):
        OverlayBlocks(reader(change(bytes(file_of(Changes(((0, 1),)))))), SIZE)


def test_compressed_clusters_are_named():
    file = file_of(Changes(((0, 1),)))
    table = file.index(b"\x80", 4 << 17)
    file[table] |= 0x40
    with pytest.raises(OverlayBlocksError, match="it has compressed clusters"):
        OverlayBlocks(reader(file), SIZE)
