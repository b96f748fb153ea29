# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import random
import struct

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import (
    CLUSTER_BYTES,
    L2_ENTRIES,
    Changes,
    OverlayFile,
)

BLOCK = 4096
SECTOR = 512
MIB = 1 << 20
GIB = 1 << 30
BACKING = "/images/web1.qcow2"


def block_content(number):
    return struct.pack(">Q", number + 1) * (BLOCK // 8)


def written(overlay):
    """The file, by its clusters that are not holes."""
    found, at = {}, 0

    def put(offset, data):
        for begin in range(0, len(data), SECTOR):
            found[offset + begin] = data[begin : begin + SECTOR].ljust(SECTOR, b"\0")

    for piece in overlay.pieces():
        if piece.kind == "bytes":
            assert len(piece.content) == piece.length
            put(at, piece.content)
        elif piece.kind == "blocks":
            blocks = range(piece.first_block, piece.first_block + piece.length // BLOCK)
            put(at, b"".join(map(block_content, blocks)))
        at += piece.length
    assert at == overlay.length
    return found


class Reader:
    """Reads qcow2 with subclusters as its specification says, for files that have no feature but these."""

    def __init__(self, pages):
        self.pages = pages
        header = self.bytes(0, 4096)
        (
            magic,
            version,
            name_at,
            name_length,
            bits,
            self.size,
            crypt,
            self.l1_size,
            self.l1_at,
            self.refcounts_at,
            self.refcount_clusters,
            snapshots,
            _snapshots_at,
            incompatible,
            compatible,
            autoclear,
            refcount_order,
            header_length,
        ) = struct.unpack_from(">4sIQIIQIIQQIIQQQQII", header)
        assert (magic, version, crypt, snapshots) == (b"QFI\xfb", 3, 0, 0)
        assert (incompatible, compatible, autoclear, refcount_order) == (1 << 4, 0, 0, 4)
        self.cluster = 1 << bits
        self.backing = header[name_at : name_at + name_length].decode()
        kind, length = struct.unpack_from(">II", header, header_length)
        assert kind == 0xE2792ACA
        self.form = header[header_length + 8 : header_length + 8 + length].decode()

    def bytes(self, at, length):
        first = at // SECTOR * SECTOR
        data = b"".join(self.pages.get(page, bytes(SECTOR)) for page in range(first, at + length, SECTOR))
        return data[at - first : at - first + length]

    def number(self, at):
        return struct.unpack(">Q", self.bytes(at, 8))[0]

    def entry(self, cluster):
        table = self.number(self.l1_at + cluster // L2_ENTRIES * 8) & ~(1 << 63)
        if not table:
            return 0, 0
        at = table + cluster % L2_ENTRIES * 16
        return self.number(at) & ~(1 << 63), self.number(at + 8)

    def block(self, number):
        """The content of a block, or None where it is that of the image below."""
        cluster, inside = divmod(number * BLOCK, self.cluster)
        where, bits = self.entry(cluster)
        sub = inside // BLOCK
        if bits >> (32 + sub) & 1:
            return bytes(BLOCK)
        return self.bytes(where + inside, BLOCK) if bits >> sub & 1 else None

    def refcount(self, cluster):
        block = self.number(self.refcounts_at + cluster // (self.cluster // 2) * 8)
        return struct.unpack(">H", self.bytes(block + cluster % (self.cluster // 2) * 2, 2))[0]


def changes_of(seed, blocks):
    """Some ranges of data and of zeros; none touches another of its kind."""
    chance, at, found = random.Random(seed), 0, ([], [])
    while True:
        at += chance.randrange(1, blocks // 20)
        count = chance.randrange(1, 90)
        if at + count >= blocks:
            return Changes(tuple(found[0]), tuple(found[1]))
        found[chance.random() < 0.3].append((at, count))
        at += count + 1


@pytest.mark.parametrize(("size", "seed"), [(5 * MIB, 1), (1500 * MIB, 2), (5 * GIB + 8 * BLOCK, 3)])
def test_the_file_has_the_changes_and_nothing_else(size, seed):
    changes = changes_of(seed, size // BLOCK)
    overlay = OverlayFile(size, BACKING, "raw", changes)
    file = Reader(written(overlay))
    assert (file.size, file.backing, file.form) == (size, BACKING, "raw")
    assert file.l1_size * L2_ENTRIES * CLUSTER_BYTES >= size
    held = {first + n for first, count in changes.data for n in range(count)}
    zeros = {first + n for first, count in changes.zeros for n in range(count)}
    for number in held | zeros | {block + 1 for block in held} | {0, size // BLOCK - 1}:
        expected = block_content(number) if number in held else bytes(BLOCK) if number in zeros else None
        assert file.block(number) == expected, number


def test_each_cluster_of_the_file_is_used_once_and_none_is_lost():
    overlay = OverlayFile(3 * GIB, BACKING, "qcow2", changes_of(4, 3 * GIB // BLOCK))
    file = Reader(written(overlay))
    clusters = overlay.length // CLUSTER_BYTES
    assert [file.refcount(number) for number in range(clusters + 1)] == [1] * clusters + [0]


def test_a_single_block_takes_little_of_the_line():
    scattered = Changes(tuple((number * 2048, 1) for number in range(100)))
    pieces = OverlayFile(GIB, BACKING, "raw", scattered).pieces()
    sent = sum(piece.length for piece in pieces if piece.kind != "hole")
    # Every 8 MiB there is a block: each has 512 bytes of the tables to itself.
    assert 100 * BLOCK <= sent <= 114 * BLOCK


def test_a_file_of_no_changes_holds_tables_only():
    overlay = OverlayFile(GIB, BACKING, "raw", Changes(()))
    assert sum(piece.length for piece in overlay.pieces() if piece.kind != "hole") <= BLOCK
    assert Reader(written(overlay)).block(0) is None


@pytest.mark.parametrize(
    ("size", "backing", "words"),
    [
        (1000, BACKING, "the size of a disk is a multiple of 512 bytes, and not 1000"),
        (MIB, "", "the path of a backing file has 1 to 1023 bytes, not 0"),
        (MIB, "/" + 1023 * "x", "the path of a backing file has 1 to 1023 bytes, not 1024"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(size, backing, words):
    with pytest.raises(ValueError, match=words):
        OverlayFile(size, backing, "raw", Changes(()))
