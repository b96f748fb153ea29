# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The manifest of an image: digests of all its blocks and segments, and the one digest that names it.

The image is what a guest sees, or a file of its memory: not the file that holds it. So a qcow2 chain and the raw image
with the same content have the same digest. The digest of an image is made of its size and the digests of its segments.
So the digest of an image in which little changed is found without reading the rest again.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    SEGMENT_BYTES,
    Segment,
    blocks_in,
    segment_of,
    segments_in,
    zero_segment,
)

#: No image is larger: 64 TiB, more than any guest's disk here.
MOST_IMAGE_BYTES = 64 * 1024**4
IMAGE_LABEL = b"kvmops.image/1\0"
#: How a digest of an image is written. That of an ordinary file begins with C(sha256:), as C(sha256sum) can check it.
IMAGE_PREFIX = "blocks:"


class BlockManifest:
    """The digests of one image.

    Attributes:
        size_bytes: of the image.
        segments: all of them, in order; may be read from a file as they are asked for.
        image_digest: names the content, 32 bytes.
    """

    def __init__(self, size_bytes: int, segments: t.Sequence[Segment]) -> None:
        if not 0 <= size_bytes <= MOST_IMAGE_BYTES:
            raise ValueError(f"an image has 0 to {MOST_IMAGE_BYTES} bytes, not {size_bytes}")
        if len(segments) != segments_in(size_bytes):
            raise ValueError(f"{size_bytes} bytes have {segments_in(size_bytes)} segments, not {len(segments)}")
        self.size_bytes = size_bytes
        self.segments = segments
        self.image_digest = image_digest(size_bytes, (segment.digest for segment in segments))

    @property
    def name(self) -> str:
        """The digest of the image as documents write it."""
        return image_name(self.image_digest)

    def blocks_of(self, segment: int) -> int:
        """How many blocks a segment of this image has."""
        return blocks_of(self.size_bytes, segment)


def image_digest(size_bytes: int, digests: t.Iterable[bytes]) -> bytes:
    """The digest of an image.

    Args:
        size_bytes: of the image.
        digests: of its segments, in order, 32 bytes each.
    """
    whole = hashlib.sha256(IMAGE_LABEL)
    for number in (size_bytes, BLOCK_BYTES, SEGMENT_BYTES):
        whole.update(number.to_bytes(8, "big"))
    for digest in digests:
        whole.update(digest)
    return whole.digest()


def image_name(digest: bytes) -> str:
    """A digest of an image as documents write it."""
    return IMAGE_PREFIX + digest.hex()


def blocks_of(size_bytes: int, segment: int) -> int:
    """How many blocks a segment has in an image of so many bytes."""
    return blocks_in(bytes_of(size_bytes, segment))


def bytes_of(size_bytes: int, segment: int) -> int:
    """How many bytes a segment has in an image of so many bytes.

    >>> bytes_of(1024**2 + 10, 0), bytes_of(1024**2 + 10, 1)
    (1048576, 10)
    """
    return min(SEGMENT_BYTES, size_bytes - segment * SEGMENT_BYTES)


class ManifestBuilder:
    """Makes a manifest from an image that is read once, from its begin to its end, in pieces of any size.

    At most one segment is kept. A hole that covers whole segments costs no time.
    """

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._rest = bytearray()
        self._size_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take what comes next in the image."""
        self._grow(len(data))
        at = 0
        while at < len(data):
            piece = data[at : at + SEGMENT_BYTES - len(self._rest)]
            at += len(piece)
            if len(piece) == SEGMENT_BYTES:
                self._segments.append(segment_of(piece))
                continue
            self._rest += piece
            self._close_full()

    def hole(self, length: int) -> None:
        """Take so many bytes that are zero, without their being read."""
        self._grow(length)
        if self._rest:
            filled = min(length, SEGMENT_BYTES - len(self._rest))
            self._rest += bytes(filled)
            self._close_full()
            length -= filled
        whole, length = divmod(length, SEGMENT_BYTES)
        self._segments += [zero_segment(blocks_in(SEGMENT_BYTES))] * whole
        self._rest += bytes(length)

    def finish(self) -> BlockManifest:
        """The manifest of all that was taken."""
        if self._rest:
            self._segments.append(segment_of(bytes(self._rest)))
            self._rest.clear()
        return BlockManifest(self._size_bytes, tuple(self._segments))

    def _grow(self, length: int) -> None:
        if length < 0 or self._size_bytes + length > MOST_IMAGE_BYTES:
            raise ValueError(f"an image has 0 to {MOST_IMAGE_BYTES} bytes, not {self._size_bytes + length}")
        self._size_bytes += length

    def _close_full(self) -> None:
        if len(self._rest) == SEGMENT_BYTES:
            self._segments.append(segment_of(bytes(self._rest)))
            self._rest.clear()


def manifest_of(pieces: t.Iterable[bytes]) -> BlockManifest:
    """The manifest of an image that comes in pieces of any size."""
    builder = ManifestBuilder()
    for piece in pieces:
        builder.feed(piece)
    return builder.finish()


def refreshed(earlier: BlockManifest, size_bytes: int, hashed: t.Mapping[int, Segment]) -> BlockManifest:
    """The manifest of an image of which only some segments were read again.

    Args:
        earlier: the manifest that the others are taken from.
        size_bytes: of the image as it is now.
        hashed: the segments that were read, by number. Those that did not exist before, or had another length, must be
            among them.
    """
    segments = []
    for number in range(segments_in(size_bytes)):
        segment = hashed.get(number)
        if segment is None:
            if number >= len(earlier.segments) or bytes_of(size_bytes, number) != bytes_of(earlier.size_bytes, number):
                raise ValueError(f"segment {number} is new or has another length, and was not read")
            segment = earlier.segments[number]
        if segment.blocks != blocks_of(size_bytes, number):
            raise ValueError(f"segment {number} has {segment.blocks} blocks, not {blocks_of(size_bytes, number)}")
        segments.append(segment)
    return BlockManifest(size_bytes, tuple(segments))
