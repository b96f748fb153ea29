# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The manifest of an image that only the far end has: asked for, where both ends have none in common.

The second choice: 32 bytes for each MiB come first, and then the digests of blocks in those segments that differ, 4 KiB
for each. Of 1 GiB with changes everywhere that is 4 MiB, or 87 s at 384 kbit/s. What comes is held against the digest
of the image, and only proposes what need not be sent.
"""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    MOST_IMAGE_BYTES,
    BlockManifest,
    blocks_of,
    image_digest,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_DIGEST_BYTES,
    Segment,
    segments_in,
    zero_segment,
)


class FarManifest:
    """Takes what the far end tells of an image, and makes a manifest of it.

    Args:
        peer: who tells, for messages.
        digest: of the image that is asked about.
        image: the image that is to be sent. Only segments that differ from it are asked for.
    """

    def __init__(self, peer: str, digest: bytes, image: BlockManifest) -> None:
        self._peer = peer
        self._digest = digest
        self._image = image
        self._size_bytes: int | None = None
        self._digests: list[bytes] = []
        self._segments: dict[int, Segment] = {}
        self.wanted: set[int] = set()

    def take_digests(self, frame: frames.SegmentDigests) -> bool:
        """Take digests of segments; true with the last of them. Then C(wanted) has the segments to ask for.

        Raises:
            CapsuleError: they do not make the image.
        """
        if frame.size_bytes > MOST_IMAGE_BYTES or self._size_bytes not in (None, frame.size_bytes):
            raise frames.broken(self._peer, f"digests of an image of {frame.size_bytes} bytes")
        self._size_bytes = frame.size_bytes
        self._digests += frame.digests
        count = segments_in(frame.size_bytes)
        if len(self._digests) > count or (frame.last and len(self._digests) < count):
            raise frames.broken(self._peer, f"{len(self._digests)} digests of an image of {count} segments")
        if frame.last:
            if image_digest(frame.size_bytes, self._digests) != self._digest:
                raise frames.broken(self._peer, "digests of segments that do not make the image that was asked for")
            self._sort()
        return frame.last

    def _sort(self) -> None:
        """Tell the segments that are known from those to ask for."""
        for number, digest in enumerate(self._digests):
            blocks = blocks_of(self._size_bytes or 0, number)
            zero = zero_segment(blocks)
            ours = self._image.segments[number] if number < len(self._image.segments) else None
            if digest == zero.digest:
                self._segments[number] = zero
            elif ours is not None and (ours.digest, ours.blocks) == (digest, blocks):
                self._segments[number] = ours
            elif ours is not None:
                self.wanted.add(number)
            else:
                # Beyond the image that is to be sent: nothing is kept from there, and nothing is looked for.
                self._segments[number] = zero._replace(digest=digest)

    def take_blocks(self, frame: frames.BlockDigests) -> bool:
        """Take the digests of blocks of one segment; true with the last of them.

        Raises:
            CapsuleError: they are not those of a segment that was asked for.
        """
        if frame.number not in self.wanted:
            raise frames.broken(self._peer, f"digests of segment {frame.number}, which was not asked for")
        blocks = blocks_of(self._size_bytes or 0, frame.number)
        left = blocks - bin(frame.zeros).count("1")
        if frame.zeros >> blocks or len(frame.digests) != left * BLOCK_DIGEST_BYTES:
            raise frames.broken(self._peer, f"digests of segment {frame.number} for another number of blocks")
        self.wanted.discard(frame.number)
        self._segments[frame.number] = Segment(blocks, frame.zeros, frame.digests, self._digests[frame.number])
        return not self.wanted

    def manifest(self) -> BlockManifest:
        """The manifest of the image, once all has come."""
        return BlockManifest(self._size_bytes or 0, [self._segments[number] for number in range(len(self._digests))])
