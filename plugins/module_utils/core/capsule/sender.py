# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The sender of an image: which frames it sends for what the receiver has, and what it must read.

It does nothing itself. It asks nothing block by block: the receiver says once what it has, and the sender has manifests
of the same images. So two round trips come before the first block, and word of segments comes back while others are
sent. Only where the two have no manifest in common, the sender asks for one.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames, receive_state
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    IMAGE_PREFIX,
    BlockManifest,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import (
    COPY,
    KEEP,
    PREVIOUS,
    SEND,
    ZERO,
    Delta,
    Run,
    Source,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.far_manifest import FarManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.payload import ZLIB, Codec, packed
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receive_state import is_image_name
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receiver import MOST_ATTEMPTS, said
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    BLOCK_DIGEST_BYTES,
    BLOCKS_PER_SEGMENT,
    block_digest,
)

#: So many segments may be on their way, sent and not yet verified.
MOST_UNVERIFIED = 64
#: A frame of blocks takes at most so long on the link: what is lost when that is cut, and what waits behind it.
FRAME_S = 1.5


class Send(t.NamedTuple):
    """Send these bytes."""

    data: bytes


class Read(t.NamedTuple):
    """Read so many blocks of the image, and give them to C(Sender.supply)."""

    first: int
    blocks: int


class Wait(t.NamedTuple):
    """Nothing to do until the receiver has sent something."""


class Finished(t.NamedTuple):
    """The receiver has the image."""


Step = t.Union[Send, Read, Wait, Finished]


class Sender:
    """Sends one image.

    Args:
        receiver: who receives, for messages.
        capsule: digest of the document of the capsule.
        image: manifest of the image.
        known: images that the receiver may have, as this host has hashed them; or what gives those of these names.
        codecs: what content may be compressed with, the preferred one first.
        bytes_per_s: rate of the link, for the size of frames; None: not known, or fast.
    """

    def __init__(
        self,
        receiver: str,
        capsule: str,
        image: BlockManifest,
        known: t.Sequence[Source] | t.Callable[[t.Sequence[str]], t.Sequence[Source]] = (),
        codecs: t.Mapping[str, Codec] = ZLIB,
        bytes_per_s: float | None = None,
    ) -> None:
        self._receiver = receiver
        self._image = image
        self._known = known
        self._codecs = codecs
        self._codec: Codec | None = None
        self._frame_blocks = frame_blocks(bytes_per_s)
        self._decoder = frames.Decoder(receiver)
        hello = frames.Hello(capsule, image.name, image.size_bytes, tuple(codecs))
        self._steps: t.Iterator[Step] = iter([Send(frames.START + frames.encoded(hello))])
        self._expects: type[t.Any] | None = frames.Have
        self._wanted: Read | None = None
        self._unverified: set[int] = set()
        self._again: list[int] = []
        self._attempts: dict[int, int] = {}
        self._begun: dict[int, set[int]] = {}
        self._finished = False
        self._far: FarManifest | None = None
        self._then: tuple[list[Source], receive_state.ReceiveState | None] = ([], None)
        self.delta: Delta | None = None
        self.verified: set[int] = set()

    @property
    def image_bytes(self) -> int:
        """Size of the image."""
        return self._image.size_bytes

    def next_step(self) -> Step:
        """What to do now."""
        if self._finished:
            return Finished()
        if self._wanted is not None:
            return self._wanted
        step = next(self._steps, Wait())
        if isinstance(step, Read):
            self._wanted = step
        return step

    def feed(self, data: bytes) -> None:
        """Take what the receiver has sent.

        Raises:
            CapsuleError: the receiver refuses, or does not keep to the protocol.
        """
        for frame in self._decoder.feed(data):
            if isinstance(frame, frames.Error):
                raise said(self._receiver, frame)
            if isinstance(frame, frames.Verified) and self._expects in (frames.Verified, frames.End):
                self._take_verified(frame)
                continue
            if self._expects is None or not isinstance(frame, self._expects):
                raise frames.broken(self._receiver, f"a frame of {type(frame).__name__} where it was not to come")
            if isinstance(frame, frames.Have):
                self._take_have(frame)
            elif isinstance(frame, (frames.SegmentDigests, frames.BlockDigests)):
                self._take_told(frame)
            elif isinstance(frame, frames.Ready):
                self._expects = frames.Verified
                self._steps = self._content()
            elif isinstance(frame, frames.End):
                self._take_end(frame)
                # What follows is no longer about this image.
                return

    def take_rest(self) -> bytes:
        """What came behind the end of this image."""
        return self._decoder.take_rest()

    def closed(self) -> CapsuleError | None:
        """What the end of the connection means: an error unless the receiver has the image."""
        if self._finished:
            return None
        count = len(self.delta.changed) if self.delta else 0
        return CapsuleError(
            "transfer_interrupted",
            f"the connection to {self._receiver} ended; {len(self.verified)} of {count} segments are verified there",
            "run capsule_send again: it goes on from there",
        )

    def supply(self, content: bytes) -> bytes:
        """Take the blocks that C(Read) asked for.

        Returns:
            the frame to send.

        Raises:
            CapsuleError: they are not those of the manifest.
        """
        if self._wanted is None:
            raise ValueError("no blocks were asked for")
        first, count = self._wanted
        end = min(self._image.size_bytes, (first + count) * BLOCK_BYTES)
        if len(content) != end - first * BLOCK_BYTES:
            raise self._changed(first, f"{len(content)} bytes were read, not {end - first * BLOCK_BYTES}")
        listed = self._image.segments[first // BLOCKS_PER_SEGMENT].listed()
        for number in range(count):
            digest = block_digest(content[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES])
            kept = None if digest is None else digest[:BLOCK_DIGEST_BYTES]
            if kept != listed[first % BLOCKS_PER_SEGMENT + number]:
                raise self._changed(first + number, "its digest is another one")
        self._wanted = None
        return frames.encoded(frames.Blocks(first, count, *packed(content, self._codec)))

    def _changed(self, block: int, why: str) -> CapsuleError:
        return CapsuleError(
            "source_changed",
            f"block {block} of {self._image.name} is not as it was when the capsule was made: {why}",
            "check the disk of this host (capsule_verify); nothing wrong was sent",
        )

    def _take_have(self, have: frames.Have) -> None:
        self._codec = next((codec for name, codec in self._codecs.items() if name in have.codecs), None)
        there = set(have.images)
        known = self._known(have.images) if callable(self._known) else self._known
        sources = [source for source in known if source.manifest.name in there][: frames.MOST_SOURCES]
        state = None
        if have.state is not None:
            state = receive_state.from_document(have.state, f"the image on {self._receiver}")
            if (state.image, state.size_bytes) != (self._image.name, self._image.size_bytes):
                state = None
        ask = self._unknown_ground(have.images, sources, state)
        if ask is None:
            self._choose(sources, state)
            return
        digest = bytes.fromhex(ask[len(IMAGE_PREFIX) :])
        self._far = FarManifest(self._receiver, digest, self._image)
        self._then = (sources, state)
        self._expects = frames.SegmentDigests
        self._steps = iter([Send(frames.encoded(frames.AskDigests(digest)))])

    @staticmethod
    def _unknown_ground(
        images: t.Sequence[str], sources: t.Sequence[Source], state: receive_state.ReceiveState | None
    ) -> str | None:
        """The image of the receiver to ask about: the one from which it has begun; where none is known, its first."""
        names = {source.manifest.name for source in sources}
        likely = state.ground if state is not None else next((one for one in images if is_image_name(one)), None)
        if likely is None or likely in names or likely not in images or (state is None and sources):
            return None
        return likely

    def _take_told(self, frame: frames.SegmentDigests | frames.BlockDigests) -> None:
        """Take the digests that were asked for; then choose as if they had been known."""
        far = self._far
        if far is None:
            raise frames.broken(self._receiver, "digests that were not asked for")
        if isinstance(frame, frames.SegmentDigests):
            if not far.take_digests(frame):
                return
            numbers = sorted(far.wanted)
            asks = range(0, len(numbers), frames.MOST_CHANGED)
            parts = (tuple(numbers[start : start + frames.MOST_CHANGED]) for start in asks)
            self._steps = iter([Send(frames.encoded(frames.AskBlocks(part))) for part in parts])
            self._expects = frames.BlockDigests
            if numbers:
                return
        elif not far.take_blocks(frame):
            return
        sources, state = self._then
        self._choose([*sources, Source(PREVIOUS, far.manifest())], state)

    def _choose(self, sources: t.Sequence[Source], state: receive_state.ReceiveState | None) -> None:
        """Find what must travel, and announce it."""
        names = {source.manifest.name for source in sources}
        if state is not None and state.ground is not None and state.ground not in names:
            state = None
        self.delta = Delta(self._image, sources, (state.ground,) if state else None)
        if state is not None:
            self.verified = state.verified & set(self.delta.changed)
            self._begun = state.begun
        self._expects = frames.Ready
        self._steps = self._announced(self.delta)

    def _announced(self, delta: Delta) -> t.Iterator[Step]:
        digests = tuple(source.manifest.image_digest for source in delta.sources)
        yield Send(frames.encoded(frames.Sources(delta.ground is not None, digests)))
        for start in range(0, max(1, len(delta.changed)), frames.MOST_CHANGED):
            numbers = delta.changed[start : start + frames.MOST_CHANGED]
            segments = tuple((number, self._image.segments[number].digest) for number in numbers)
            yield Send(frames.encoded(frames.Changed(start + frames.MOST_CHANGED >= len(delta.changed), segments)))

    def _content(self) -> t.Iterator[Step]:
        if self.delta is None:
            raise ValueError("the receiver has not said what it has")
        for segment in self.delta.segments(skip=frozenset(self.verified)):
            while len(self._unverified) >= MOST_UNVERIFIED:
                yield Wait()
            there = self._begun.get(segment.number, set())
            yield from self._segment(segment.number, _without(segment.runs, there))
        while self._unverified or self._again:
            if not self._again:
                yield Wait()
                continue
            number = self._again.pop(0)
            yield from self._segment(number, _whole(self._image, number))
        self._expects = frames.End
        yield Send(frames.encoded(frames.End(self._image.image_digest)))

    def _segment(self, number: int, runs: t.Iterable[Run]) -> t.Iterator[Step]:
        for run in runs:
            if run.kind == ZERO:
                yield Send(frames.encoded(frames.Zero(run.first, run.blocks)))
            elif run.kind == COPY:
                yield Send(frames.encoded(frames.Copy(run.first, run.blocks, run.source, run.source_first)))
            elif run.kind == SEND:
                for first in range(run.first, run.first + run.blocks, self._frame_blocks):
                    yield Read(first, min(self._frame_blocks, run.first + run.blocks - first))
        self._unverified.add(number)
        self._attempts[number] = self._attempts.get(number, 0) + 1
        yield Send(frames.encoded(frames.SegmentDone(number)))

    def _take_verified(self, frame: frames.Verified) -> None:
        number = frame.number
        if number not in self._unverified:
            raise frames.broken(self._receiver, f"word of segment {number}, which was not sent")
        self._unverified.discard(number)
        if frame.ok:
            self.verified.add(number)
        elif self._attempts[number] >= MOST_ATTEMPTS:
            raise frames.broken(self._receiver, f"word that segment {number} is wrong, {MOST_ATTEMPTS} times")
        else:
            self._again.append(number)

    def _take_end(self, frame: frames.End) -> None:
        if frame.digest != self._image.image_digest:
            raise frames.broken(self._receiver, "word of the end of another image")
        self._finished = True


def _without(runs: t.Iterable[Run], there: t.AbstractSet[int]) -> t.Iterator[Run]:
    """The runs without the blocks that are there already; kept ones are there anyway."""
    for run in runs:
        if run.kind == KEEP:
            continue
        begin = 0
        for at in range(run.blocks + 1):
            if at == run.blocks or run.first + at in there:
                if at > begin:
                    yield run._replace(
                        first=run.first + begin, blocks=at - begin, source_first=run.source_first + begin
                    )
                begin = at + 1


def _whole(image: BlockManifest, number: int) -> t.Iterator[Run]:
    """All blocks of a segment, as nothing that the receiver has of it is believed any more."""
    run: Run | None = None
    for block, digest in enumerate(image.segments[number].listed(), number * BLOCKS_PER_SEGMENT):
        kind = ZERO if digest is None else SEND
        if run is not None and run.kind == kind:
            run = run._replace(blocks=run.blocks + 1)
            continue
        if run is not None:
            yield run
        run = Run(kind, block, 1)
    if run is not None:
        yield run


def frame_blocks(bytes_per_s: float | None) -> int:
    """How many blocks a frame has on a link.

    >>> frame_blocks(48_000), frame_blocks(1e9), frame_blocks(None), frame_blocks(100)
    (17, 256, 256, 1)
    """
    if bytes_per_s is None:
        return BLOCKS_PER_SEGMENT
    return max(1, min(BLOCKS_PER_SEGMENT, int(FRAME_S * bytes_per_s / BLOCK_BYTES)))
