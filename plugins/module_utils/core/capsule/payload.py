# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The content of blocks on its way: compressed where that helps, unpacked to no more than it must be."""

from __future__ import annotations

import typing as t
import zlib


class Codec(t.NamedTuple):
    """One way to compress.

    Attributes:
        number: in a frame; 0 is for content as it is.
        pack: gives the compressed bytes.
        unpack: gives the content, of at most so many bytes; it may raise any error for bytes that it cannot unpack, and
            must not keep more memory than that.
    """

    number: int
    pack: t.Callable[[bytes], bytes]
    unpack: t.Callable[[bytes, int], bytes]


PLAIN = 0


def _unpack_zlib(payload: bytes, most: int) -> bytes:
    unpack = zlib.decompressobj()
    content = unpack.decompress(payload, most)
    if not unpack.eof or unpack.unused_data:
        raise ValueError("it is cut off, or too long")
    return content


#: What every Python has. Level 6: at 384 kbit/s even a slow core compresses a hundred times faster than the link sends.
ZLIB: t.Mapping[str, Codec] = {"zlib": Codec(1, lambda content: zlib.compress(content, 6), _unpack_zlib)}


def packed(content: bytes, codec: Codec | None) -> tuple[int, bytes]:
    """Number of the codec, and the payload: the content as it is where compressing does not help."""
    if codec is not None:
        payload = codec.pack(content)
        if len(payload) < len(content):
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
