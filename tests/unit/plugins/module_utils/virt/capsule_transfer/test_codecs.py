# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.payload import unpacked
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import codecs
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.codecs import (
    codecs_for,
    codecs_to_receive,
)

PIECE = 256 * 1024
WORDS = [random.Random(1).randbytes(24) for dummy in range(4000)]


def pieces(count):
    """Content that compresses, the better the harder it is tried."""
    chance = random.Random(2)
    return [b"".join(chance.choices(WORDS, k=PIECE // 24 + 1))[:PIECE] for dummy in range(count)]


@pytest.mark.parametrize("name", ["lzma2-stream", "zstd-stream", "zlib-stream"])
def test_what_is_packed_piece_by_piece_comes_out_as_it_was(name):
    if name == "zstd-stream":
        pytest.importorskip("zstandard")
    there, here = codecs_for(lambda: 48_000.0)[name], codecs_to_receive()[name]
    for piece in pieces(4):
        assert here.unpack(there.pack(piece), PIECE) == piece


def test_only_a_thin_link_has_the_slow_codec_and_there_it_is_preferred():
    assert next(iter(codecs_for(lambda: 48_000.0))) == "lzma2-stream"
    for rate in (None, 1e6, codecs.LZMA_BYTES_PER_S + 1.0):
        assert "lzma2-stream" not in codecs_for(lambda rate=rate: rate)
    assert {one.number for one in codecs_to_receive().values()} >= {3, 4}


def test_a_host_without_the_library_sends_by_another_codec(monkeypatch):
    monkeypatch.setattr(codecs.lzma_stream, "LIBRARY", "liblzma.so.missing")
    assert "lzma2-stream" not in codecs_for(lambda: 48_000.0)
    assert "zlib-stream" in codecs_for(lambda: 48_000.0)


def test_lzma_leaves_less_than_zlib_and_learns_from_what_went_before():
    lzma, zlib = codecs_for(lambda: 48_000.0)["lzma2-stream"], codecs_for(lambda: 48_000.0)["zlib-stream"]
    content = pieces(4)
    sizes = [len(lzma.pack(piece)) for piece in content]
    assert sizes[3] < 0.7 * sizes[0]
    assert sum(sizes) < 0.8 * sum(len(zlib.pack(piece)) for piece in content)


@pytest.mark.parametrize("length", [1, 4096, 700_000])
def test_lzma_packs_pieces_of_any_size(length):
    there, here = codecs_for(lambda: 48_000.0)["lzma2-stream"], codecs_to_receive()["lzma2-stream"]
    for piece in (random.Random(3).randbytes(length), bytes(length), b"x" * length):
        assert here.unpack(there.pack(piece), length) == piece


def test_of_a_stream_of_lzma_no_more_is_unpacked_than_was_announced():
    there, here = codecs_for(lambda: 48_000.0)["lzma2-stream"], codecs_to_receive()["lzma2-stream"]
    with pytest.raises(ValueError, match="too long"):
        here.unpack(there.pack(bytes(10**6)), 4096)


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x03\xff\xff garbage", bytes(range(256))])
def test_hostile_bytes_are_no_content(payload):
    with pytest.raises(ValueError, match=r"cannot be unpacked|it has 0 bytes"):
        unpacked(4, payload, PIECE, codecs_to_receive())


def test_the_level_follows_the_rate_and_the_stream_can_still_be_read():
    pytest.importorskip("zstandard")
    rates = iter([None, 48_000.0, 48_000.0, 5e9])
    asked = []

    def rate():
        asked.append(next(rates))
        return asked[-1]

    there, here = codecs_for(rate)["zstd-stream"], codecs_to_receive()["zstd-stream"]
    sizes = []
    for piece in pieces(4 * codecs.LOOK_BYTES // PIECE):
        payload = there.pack(piece)
        sizes.append(len(payload))
        assert here.unpack(payload, PIECE) == piece
    assert asked == [None, 48_000.0, 48_000.0, 5e9]
    # A new level begins without what went before; the same one goes on with it.
    assert sizes[2] > 2 * sizes[1]
    assert sizes[4] <= sizes[3]
    assert sizes[6] > 2 * sizes[5]


@pytest.mark.parametrize(
    ("rate", "share", "level"),
    [
        (48_000, 1.0, 19),
        (48_000, 0.2, 19),
        (48_000, 0.1, 9),
        (250_000, 1.0, 19),
        (250_000, 0.1, 9),
        (250_000, 0.02, 3),
        (5e6, 1.0, 9),
        (5e6, 7.0, 9),
        (5e6, 0.2, 3),
        (None, 1.0, 3),
    ],
)
def test_a_busy_host_does_not_compress_harder_than_it_can(rate, share, level):
    assert codecs.level_for(rate, share) == level


def test_how_fast_a_host_packs_is_measured():
    pytest.importorskip("zstandard")
    seconds = iter(range(1000))
    stream = codecs._ZstdStream(lambda: 250_000.0, clock=lambda: next(seconds))
    for piece in pieces(2 * codecs.LOOK_BYTES // PIECE):
        stream.pack(piece)
    # A piece a second: a quarter of what level 19 packs, so only the next lower one keeps ahead.
    assert (stream._share, stream._level) == (pytest.approx(PIECE / codecs.PACKS[19]), 9)


def test_a_level_that_was_made_easier_stays_so_for_a_while():
    pytest.importorskip("zstandard")
    now, busy_s = [0.0], [0.0]

    def clock():
        now[0] += busy_s[0]
        return now[0]

    stream = codecs._ZstdStream(lambda: 48_000.0, clock)
    piece, levels = bytes(PIECE), []

    def packed_bytes(count):
        for dummy in range(count // PIECE):
            stream.pack(piece)
            levels.append(stream._level)

    packed_bytes(codecs.LOOK_BYTES)
    busy_s[0] = 5.0
    packed_bytes(codecs.LOOK_BYTES)
    busy_s[0] = 0.01
    packed_bytes(codecs.LOOK_BYTES)
    assert levels[-1] == 9
    packed_bytes(codecs.HARDER_BYTES - 4 * codecs.LOOK_BYTES)
    assert levels[-1] == 9
    packed_bytes(6 * codecs.LOOK_BYTES)
    assert levels[-1] == 19
