# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one stream of LZMA2 that is flushed after each piece. Python's own lzma cannot flush, so
# the library is called that it is made with: liblzma, whose interface is the same since 5.0 (lzma/base.h).

from __future__ import annotations

import ctypes
import lzma

LIBRARY = "liblzma.so.5"
#: The receiver keeps so much of what went before. The sender takes 12 times as much.
DICT_BYTES = 16 * 1024**2
#: Level 6, and LZMA_PRESET_EXTREME.
PRESET = 6 | 1 << 31

_FILTER_LZMA2, _FILTERS_END = 0x21, 2**64 - 1
_SYNC_FLUSH = 1
_OK, _STREAM_END = 0, 1
_OUT_BYTES = 256 * 1024
#: lzma_options_lzma has 112 bytes, of which the first four are the size of the dictionary.
_OPTIONS_BYTES = 256


class _Stream(ctypes.Structure):
    """lzma_stream."""

    _fields_ = [
        ("next_in", ctypes.c_void_p),
        ("avail_in", ctypes.c_size_t),
        ("total_in", ctypes.c_uint64),
        ("next_out", ctypes.c_void_p),
        ("avail_out", ctypes.c_size_t),
        ("total_out", ctypes.c_uint64),
        ("allocator", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
        ("reserved_pointers", ctypes.c_void_p * 4),
        ("reserved_numbers", ctypes.c_uint64 * 2),
        ("reserved_sizes", ctypes.c_size_t * 2),
        ("reserved_enums", ctypes.c_int * 2),
    ]


class _Filter(ctypes.Structure):
    """lzma_filter."""

    _fields_ = [("id", ctypes.c_uint64), ("options", ctypes.c_void_p)]


class Encoder:
    """Packs piece after piece; each one can be unpacked as soon as it has come.

    Raises:
        OSError: the library is not here, or does not do it.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(LIBRARY)
        stream = ctypes.POINTER(_Stream)
        self._library.lzma_lzma_preset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        self._library.lzma_raw_encoder.argtypes = [stream, ctypes.POINTER(_Filter)]
        self._library.lzma_code.argtypes = [stream, ctypes.c_int]
        self._library.lzma_end.argtypes = [stream]
        self._library.lzma_end.restype = None
        # Read when the encoder is made, and not kept by it.
        options = ctypes.create_string_buffer(_OPTIONS_BYTES)
        if self._library.lzma_lzma_preset(options, PRESET):
            raise OSError(f"{LIBRARY} has no preset {PRESET}")
        ctypes.c_uint32.from_buffer(options).value = DICT_BYTES
        chain = (_Filter * 2)(_Filter(_FILTER_LZMA2, ctypes.addressof(options)), _Filter(_FILTERS_END, None))
        self._stream = _Stream()
        self._out = ctypes.create_string_buffer(_OUT_BYTES)
        status = self._library.lzma_raw_encoder(ctypes.byref(self._stream), chain)
        if status != _OK:
            raise OSError(f"{LIBRARY} cannot pack (status {status})")

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self._library.lzma_end(ctypes.byref(self._stream))

    def pack(self, content: bytes) -> bytes:
        """Pack a piece.

        Raises:
            OSError: the library does not do it, such as where memory is short.
        """
        stream, packed = self._stream, []
        # Must live as long as the library reads from it.
        source = ctypes.create_string_buffer(content, len(content))
        stream.next_in, stream.avail_in = ctypes.addressof(source), len(content)
        status = _OK
        while status == _OK and content:
            stream.next_out, stream.avail_out = ctypes.addressof(self._out), _OUT_BYTES
            status = self._library.lzma_code(ctypes.byref(stream), _SYNC_FLUSH)
            packed.append(self._out.raw[: _OUT_BYTES - stream.avail_out])
        if status not in (_OK, _STREAM_END):
            raise OSError(f"{LIBRARY} cannot pack (status {status})")
        return b"".join(packed)


class Decoder:
    """Unpacks what an L(Encoder) has packed. It keeps L(DICT_BYTES), whatever comes."""

    def __init__(self) -> None:
        self._unpack = lzma.LZMADecompressor(
            lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": DICT_BYTES}]
        )

    def unpack(self, payload: bytes, most: int) -> bytes:
        """Unpack a piece.

        Raises:
            LZMAError, ValueError: it is none, or has more than that.
        """
        content = self._unpack.decompress(payload, most)
        if not self._unpack.needs_input and self._unpack.decompress(b"", 1):
            raise ValueError("it is too long")
        return content


def encoder() -> Encoder | None:
    """A new one; None where the library is not here."""
    try:
        return Encoder()
    except (OSError, AttributeError):
        return None
