# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The content of blocks on its way: compressed where that helps, unpacked to no more than it must be."""

from __future__ import annotations

import types
import typing as t
import zlib

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES


class Codec(t.NamedTuple):
    """One way to compress.

    Attributes:
        number: in a frame; 0 is for content as it is.
        pack: gives the compressed bytes.
        unpack: gives the content, of at most so many bytes; it may raise any error for bytes that it cannot unpack, and
            must not keep more memory than that.
        stream: what was packed before helps to pack what comes next, so each payload must be unpacked, in order. Such a
            codec is made anew for each image that is sent over a connection.
    """

    number: int
    pack: t.Callable[[bytes], bytes]
    unpack: t.Callable[[bytes, int], bytes]
    stream: bool = False


PLAIN = 0
#: A stream makes a little more of what it cannot compress: at most so much of the content of a segment.
MOST_PAYLOAD_BYTES = SEGMENT_BYTES + SEGMENT_BYTES // 64


def _unpack_zlib(payload: bytes, most: int) -> bytes:
    unpack = zlib.decompressobj()
    content = unpack.decompress(payload, most)
    if not unpack.eof or unpack.unused_data:
        raise ValueError("it is cut off, or too long")
    return content


#: What every Python has. Level 6: at 384 kbit/s even a slow core compresses a hundred times faster than the link sends.
ZLIB: t.Mapping[str, Codec] = types.MappingProxyType(
    {"zlib": Codec(1, lambda content: zlib.compress(content, 6), _unpack_zlib)}
)


class _ZlibStream:
    """One stream of zlib in each direction, flushed after each payload."""

    def __init__(self) -> None:
        self._pack = zlib.compressobj(9)
        self._unpack = zlib.decompressobj()

    def pack(self, content: bytes) -> bytes:
        return self._pack.compress(content) + self._pack.flush(zlib.Z_SYNC_FLUSH)

    def unpack(self, payload: bytes, most: int) -> bytes:
        content = self._unpack.decompress(payload, most)
        # What is left of a flush is a few bytes without content.
        if self._unpack.unconsumed_tail and self._unpack.decompress(self._unpack.unconsumed_tail, 1):
            raise ValueError("it is too long")
        return content


def zlib_stream() -> Codec:
    """zlib that remembers 32 KiB of what went before; for one image on one connection."""
    stream = _ZlibStream()
    return Codec(3, stream.pack, stream.unpack, stream=True)


def packed(content: bytes, codec: Codec | None) -> tuple[int, bytes]:
    """Number of the codec, and the payload: the content as it is where compressing does not help."""
    if codec is not None:
        payload = codec.pack(content)
        if len(payload) < len(content) or codec.stream:
            return codec.number, payload
    return PLAIN, content


def unpacked(number: int, payload: bytes, length: int, codecs: t.Mapping[str, Codec]) -> bytes:
    """The content.

    Args:
        number, payload: see L(packed).
        length: bytes that the content must have.
        codecs: those that were agreed on.

    Raises:
        ValueError: it is something else.
    """
    if number == PLAIN:
        content = payload
    else:
        codec = next((one for one in codecs.values() if one.number == number), None)
        if codec is None:
            raise ValueError(f"the codec {number} was not agreed on")
        try:
            content = codec.unpack(payload, length)
        except Exception as error:
            raise ValueError(f"it cannot be unpacked ({error})") from error
    if len(content) != length:
        raise ValueError(f"it has {len(content)} bytes, not {length}")
    return content
