# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: by what content is compressed on its way.

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.payload import Codec, zlib_stream
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import lzma_stream

try:
    import zstandard
except ImportError:
    zstandard = None

#: The receiver keeps so much of what went before, and takes no stream that wants more: 32 MiB.
WINDOW_LOG = 25
#: Bytes in a second up to which a level of zstd keeps ahead of the link on one core, the best level first.
LEVELS = ((300_000, 19), (10_000_000, 9))
FASTEST_LEVEL = 3
#: Bytes that each of them packs in a second of a core. Measured on the memory of a Linux guest of 96 MiB, of which
#: 61 MiB are not zero and 8 are random: level 3 leaves 21.9 MiB, level 9 20.9, level 15 20.7 (and packs 4.8 MB/s, so it
#: pays nowhere), level 19 19.0 with a window of 8 MiB and 18.7 with a larger one, level 22 no less. So a link of 384
#: kbit/s asks for 0.15 MB/s of such content, and what level 19 packs fills one of 0.34 MB/s.
PACKS = {19: 1_100_000, 9: 33_000_000, 3: 75_000_000}
#: The rate is asked for again after so much content: a link that nobody has told of is measured meanwhile.
LOOK_BYTES = 512 * 1024
#: A new level forgets what went before. So one that was made easier is not made harder again before so much content:
#: on a busy host it changed so often that more was sent than at the easiest level.
HARDER_BYTES = 8 * 1024**2
#: Bytes in a second of a link on which LZMA2 keeps ahead even on a slow, busy core. Of the same memory it leaves 17.8
#: MiB, and packs 1.5 MB/s of it. Such a link asks for 0.2 MB/s.
LZMA_BYTES_PER_S = 64_000

#: Their numbers in a frame.
ZSTD, LZMA = 2, 4

Rate = t.Callable[[], t.Optional[float]]


def level_for(bytes_per_s: float | None, share: float = 1.0) -> int:
    """The level of zstd for a link.

    Args:
        bytes_per_s: what the link carries; None: not known, or fast.
        share: how fast this process packs, compared with one that has a slow core for itself. On a busy host, what
            seems to be the link's rate may be what is left of the processor: a higher level would slow both down.

    >>> level_for(48_000), level_for(2.5e6), level_for(None), level_for(250_000, share=0.1)
    (19, 9, 3, 9)
    """
    if bytes_per_s is None:
        return FASTEST_LEVEL
    return next((level for most, level in LEVELS if bytes_per_s <= most * min(1.0, share)), FASTEST_LEVEL)


def codecs_for(rate: Rate) -> dict[str, Codec]:
    """New codecs to send one image on one connection, the preferred one first.

    Args:
        rate: gives bytes in a second of the link as far as they are known now; None: not known, or fast.
    """
    bytes_per_s = rate()
    if bytes_per_s is not None and bytes_per_s <= LZMA_BYTES_PER_S:
        encoder = lzma_stream.encoder()
        if encoder is not None:
            return {"lzma2-stream": Codec(LZMA, encoder.pack, _nothing, stream=True), **_others(rate)}
    return _others(rate)


def codecs_to_receive() -> dict[str, Codec]:
    """New codecs to receive one image on one connection. To unpack LZMA2, Python is enough."""
    unpack = lzma_stream.Decoder().unpack
    return {"lzma2-stream": Codec(LZMA, _nothing, unpack, stream=True), **_others(lambda: None)}


def _others(rate: Rate) -> dict[str, Codec]:
    codecs = {"zlib-stream": zlib_stream()}
    if zstandard is not None:
        stream = _ZstdStream(rate)
        codecs = {"zstd-stream": Codec(ZSTD, stream.pack, stream.unpack, stream=True), **codecs}
    return codecs


def _nothing(*_all: t.Any) -> bytes:
    raise ValueError("a sender packs, and a receiver unpacks")


class _ZstdStream:
    """One stream of zstd in each direction, flushed after each payload. Where the rate turns out to be another one, the
    level changes with it: a new frame of zstd begins, which has nothing of the one before to refer to.
    """

    def __init__(self, rate: Rate, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._share = 1.0
        self._packed_bytes, self._pack_s = 0, 0.0
        self._level = FASTEST_LEVEL
        self._until_look = 0
        self._until_harder = 0
        self._pack: t.Any = None
        self._unpack: t.Any = None
        self._come = _Come()

    def pack(self, content: bytes) -> bytes:
        ended = b""
        if self._until_look <= 0:
            self._until_look = LOOK_BYTES
            if self._pack_s > 0:
                self._share = self._packed_bytes / self._pack_s / PACKS[self._level]
            self._packed_bytes, self._pack_s = 0, 0.0
            level = level_for(self._rate(), self._share)
            if level > self._level and self._until_harder > 0:
                level = self._level
            elif level < self._level:
                self._until_harder = HARDER_BYTES
            if self._pack is not None and level != self._level:
                ended, self._pack = self._pack.flush(zstandard.COMPRESSOBJ_FLUSH_FINISH), None
            self._level = level
        self._until_look -= len(content)
        self._until_harder -= len(content)
        if self._pack is None:
            settings = zstandard.ZstdCompressionParameters.from_level(self._level, window_log=WINDOW_LOG)
            self._pack = zstandard.ZstdCompressor(compression_params=settings).compressobj()
        began = self._clock()
        packed: bytes = self._pack.compress(content) + self._pack.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        self._pack_s += self._clock() - began
        self._packed_bytes += len(content)
        return ended + packed

    def unpack(self, payload: bytes, most: int) -> bytes:
        if self._unpack is None:
            reader = zstandard.ZstdDecompressor(max_window_size=2**WINDOW_LOG)
            self._unpack = reader.stream_reader(self._come, read_across_frames=True)
        self._come.add(payload)
        content: bytes = self._unpack.read(most)
        return content


class _Come:
    """What has come and was not unpacked yet, as a file to read."""

    def __init__(self) -> None:
        self._data = b""

    def add(self, payload: bytes) -> None:
        self._data += payload

    def read(self, most: int = -1) -> bytes:
        if most < 0:
            most = len(self._data)
        piece, self._data = self._data[:most], self._data[most:]
        return piece
