# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The receiver of an image: which frames it accepts, and what is to be done for each. It does nothing itself.

It takes the blocks of an image that was announced in a capsule, and nothing else. The segments that the sender
announces must make that image together with the ground as the receiver itself has hashed it. So another base is refused
by its digest before the first block comes. What is put together counts when the content of its segment, as it is on
disk, has the announced digest.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    BlockManifest,
    bytes_of,
    image_digest,
    image_name,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import ground_digest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.payload import ZLIB, Codec, unpacked
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receive_state import ReceiveState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    BLOCKS_PER_SEGMENT,
    blocks_in,
    segments_in,
)

#: A segment that is damaged is sent again, as a whole. More often than this it is the disk, or an image that changes.
MOST_ATTEMPTS = 3


class Reply(t.NamedTuple):
    """Send these bytes to the sender."""

    data: bytes


class Begin(t.NamedTuple):
    """Make the image: from the ground, cut or grown with zeros to this size, or go on with the one that is there.

    C(most_bytes) is to be reserved before anything else is done: no more than that will be written.
    """

    ground: str | None
    size_bytes: int
    resumed: bool
    most_bytes: int


class Write(t.NamedTuple):
    """Write these bytes from this block on."""

    first: int
    content: bytes


class WriteZeros(t.NamedTuple):
    """Make so many blocks zero. The last one of an image may be shorter."""

    first: int
    blocks: int


class CopyBlocks(t.NamedTuple):
    """Copy blocks of an image that is here, as that was before anything came."""

    first: int
    blocks: int
    image: str
    source_first: int


class CheckSegment(t.NamedTuple):
    """Read the segment, and tell C(Receiver.segment_checked) its digest."""

    number: int


class CheckImage(t.NamedTuple):
    """All has come: make it last on disk, and tell C(Receiver.image_checked) the manifest of the whole image.

    A segment that is as in the ground (C(Receiver.kept)) may be taken from the manifest of the ground, where that was
    read a short time ago; the others are read.
    """


Action = t.Union[Reply, Begin, Write, WriteZeros, CopyBlocks, CheckSegment, CheckImage]


class Receiver:
    """Receives one image.

    C(state_document) is to be taken, then the data made last on disk, then the document written: so it never speaks of
    data that a loss of power takes.

    Args:
        sender: who sends, for messages.
        wanted: size of each image that may come, by name: those of a capsule that was accepted.
        images: manifests of the images that are here, by name, as this host has hashed them; 255 are offered.
        states: how far an image has been received, by its name.
        codecs: what content may be compressed with.
    """

    def __init__(
        self,
        sender: str,
        wanted: t.Mapping[str, int],
        images: t.Mapping[str, BlockManifest],
        states: t.Mapping[str, ReceiveState] | None = None,
        codecs: t.Mapping[str, Codec] = ZLIB,
    ) -> None:
        if any(manifest.name != name for name, manifest in images.items()):
            raise ValueError("an image has another digest than its name")
        self._sender = sender
        self._wanted = wanted
        self._images = images
        self._states = states or {}
        self._codecs = codecs
        self._decoder = frames.Decoder(sender)
        self._step: t.Callable[[frames.Frame], t.Iterator[Action]] = self._hello
        self._hello_frame = frames.Hello("", "", 0, ())
        self._sources: tuple[str, ...] = ()
        self._ground: str | None = None
        self._digests: dict[int, bytes] = {}
        self._told: BlockManifest | None = None
        self._untold: set[int] = set()
        self._open: int | None = None
        self._next = 0
        self._unchecked: set[int] = set()
        self._attempts: dict[int, int] = {}
        self.state: ReceiveState | None = None
        self.done = False

    def start(self) -> bytes:
        """What the receiver sends first."""
        return frames.START

    def feed(self, data: bytes) -> t.Iterator[Action]:
        """What is to be done for these bytes, in this order; each is to be done before the next is asked for.

        Raises:
            CapsuleError: the sender does not keep to the protocol, or what it sends is refused. Then C(refused) has the
                bytes that tell it so, and the connection is closed.
        """
        for frame in self._decoder.feed(data):
            if isinstance(frame, frames.Error):
                raise said(self._sender, frame)
            yield from self._step(frame)

    @staticmethod
    def refused(error: CapsuleError) -> bytes:
        """The last bytes for the sender after an error."""
        return frames.encoded(frames.Error(error.refusal))

    def closed(self) -> CapsuleError | None:
        """What the end of the connection means: an error unless the image is there."""
        if self.done:
            return None
        there = len(self.state.verified & set(self._digests)) if self.state else 0
        return CapsuleError(
            "transfer_interrupted",
            f"the connection to {self._sender} ended; {there} of {len(self._digests)} segments are verified here",
            "run capsule_send again: it goes on from there",
        )

    def state_document(self) -> dict[str, t.Any] | None:
        """How far the image has been received; None before it begins."""
        return self.state.document(self._digests) if self.state else None

    @property
    def kept(self) -> t.Iterator[int]:
        """The segments that are as in the ground."""
        count = segments_in(self._hello_frame.size_bytes)
        return (number for number in range(count) if number not in self._digests)

    def _hello(self, frame: frames.Frame) -> t.Iterator[Action]:
        if not isinstance(frame, frames.Hello):
            raise self._unexpected(frame, "Hello")
        if frame.image not in self._wanted:
            raise CapsuleError(
                "image_not_wanted",
                f"{self._sender} sends {frame.image}, which is no part of a capsule that was accepted here",
                "send the document of the capsule first: capsule_send does that by itself",
            )
        if frame.size_bytes != self._wanted[frame.image]:
            raise CapsuleError(
                "image_size",
                f"{self._sender} sends an image of {frame.size_bytes} bytes, and the capsule says"
                f" {self._wanted[frame.image]}",
                "send it again from a capsule that is whole; capsule_verify checks it at its source",
            )
        self._hello_frame = frame
        state = self._states.get(frame.image)
        codecs = tuple(one for one in frame.codecs if one in self._codecs)
        self._codecs = {one: self._codecs[one] for one in codecs}
        names = tuple(self._images)[: frames.MOST_SOURCES]
        self._step = self._take_sources
        yield Reply(frames.encoded(frames.Have(names, state.document() if state else None, codecs)))

    def _take_sources(self, frame: frames.Frame) -> t.Iterator[Action]:
        if isinstance(frame, (frames.AskDigests, frames.AskBlocks)):
            yield from self._tell(frame)
            return
        if not isinstance(frame, frames.Sources):
            raise self._unexpected(frame, "Sources")
        self._sources = tuple(image_name(digest) for digest in frame.digests)
        unknown = [name for name in self._sources if name not in self._images]
        if unknown:
            raise CapsuleError(
                "base_missing",
                f"{self._sender} starts from {unknown[0]}, and no image with this digest is here",
                "send that base first, or seal it here with capsule_base",
            )
        self._ground = self._sources[0] if frame.ground else None
        self._step = self._take_changed

    def _tell(self, frame: frames.AskDigests | frames.AskBlocks) -> t.Iterator[Action]:
        """Tell the digests of an image of which the sender has no manifest: of one image, each segment once."""
        if isinstance(frame, frames.AskDigests):
            asked = self._images.get(image_name(frame.digest))
            if asked is None or self._told is not None:
                raise frames.broken(self._sender, "a question for an image that is not here, or for one more")
            self._told, self._untold = asked, set(range(len(asked.segments)))
            for start in range(0, max(1, len(asked.segments)), frames.MOST_CHANGED):
                digests = tuple(one.digest for one in asked.segments[start : start + frames.MOST_CHANGED])
                last = start + frames.MOST_CHANGED >= len(asked.segments)
                yield Reply(frames.encoded(frames.SegmentDigests(last, asked.size_bytes, digests)))
            return
        for number in frame.numbers:
            if self._told is None or number not in self._untold:
                raise frames.broken(self._sender, f"a question for segment {number}, which is not there, or once more")
            self._untold.discard(number)
            segment = self._told.segments[number]
            yield Reply(frames.encoded(frames.BlockDigests(number, segment.zeros, segment.digests)))

    def _take_changed(self, frame: frames.Frame) -> t.Iterator[Action]:
        if not isinstance(frame, frames.Changed):
            raise self._unexpected(frame, "Changed")
        last, count = max(self._digests, default=-1), segments_in(self._hello_frame.size_bytes)
        for number, digest in frame.segments:
            if not last < number < count:
                raise frames.broken(self._sender, f"segment {number} after {last}, out of order or of {count}")
            self._digests[number] = digest
            last = number
        if frame.last:
            self._check_announced(count)
            yield from self._begin()

    def _check_announced(self, count: int) -> None:
        """Hold what was announced, with the ground as it is here, against the name of the image."""
        size_bytes = self._hello_frame.size_bytes
        ground = self._images[self._ground] if self._ground else None
        found = [
            self._digests.get(number) or ground_digest(ground, size_bytes, number) or b"" for number in range(count)
        ]
        if image_name(image_digest(size_bytes, found)) != self._hello_frame.image:
            raise CapsuleError(
                "base_differs",
                f"what {self._sender} announced does not make the image {self._hello_frame.image} on"
                f" {self._ground or 'zeros'} as it is here: one of the block manifests is wrong",
                "check both with capsule_verify, and send again",
            )

    def _begin(self) -> t.Iterator[Action]:
        hello = self._hello_frame
        state = self._states.get(hello.image)
        resumed = state is not None and (state.ground, state.size_bytes) == (self._ground, hello.size_bytes)
        if state is None or not resumed:
            state = ReceiveState(hello.image, self._ground, hello.size_bytes)
        self.state = state
        self._step = self._content
        missing = sum(bytes_of(hello.size_bytes, number) for number in self._digests if number not in state.verified)
        yield Begin(self._ground, hello.size_bytes, resumed, missing)
        yield Reply(frames.encoded(frames.Ready()))

    def _content(self, frame: frames.Frame) -> t.Iterator[Action]:
        if isinstance(frame, (frames.Blocks, frames.Zero, frames.Copy)):
            self._place(frame)
            yield self._placed(frame)
            if self.state is not None:
                self.state.blocks_arrived(frame.first, frame.blocks)
        elif isinstance(frame, frames.SegmentDone):
            yield from self._segment_done(frame.number)
        elif isinstance(frame, frames.End):
            yield from self._all_sent(frame)
        else:
            raise self._unexpected(frame, "Blocks, Zero, Copy, SegmentDone or End")

    def _place(self, frame: frames.Blocks | frames.Zero | frames.Copy) -> None:
        """Hold the place of blocks against the order: within one announced segment, and after those before them."""
        number, end = frame.first // BLOCKS_PER_SEGMENT, frame.first + frame.blocks
        if number not in self._missing or number in self._unchecked:
            raise frames.broken(self._sender, f"blocks of segment {number}, which is not to come")
        if self._open not in (None, number):
            raise frames.broken(self._sender, f"blocks of segment {number} before the end of segment {self._open}")
        if end > min((number + 1) * BLOCKS_PER_SEGMENT, blocks_in(self._hello_frame.size_bytes)):
            raise frames.broken(self._sender, f"blocks {frame.first} to {end}, which end beyond segment {number}")
        if frame.first < self._next:
            raise frames.broken(self._sender, f"block {frame.first} after block {self._next - 1}")
        self._open, self._next = number, end

    @property
    def _missing(self) -> t.Container[int]:
        verified = self.state.verified if self.state else set()
        return _Without(self._digests, verified)

    def _placed(self, frame: frames.Blocks | frames.Zero | frames.Copy) -> Action:
        if isinstance(frame, frames.Zero):
            return WriteZeros(frame.first, frame.blocks)
        length = (
            min(self._hello_frame.size_bytes, (frame.first + frame.blocks) * BLOCK_BYTES) - frame.first * BLOCK_BYTES
        )
        if isinstance(frame, frames.Blocks):
            try:
                return Write(frame.first, unpacked(frame.codec, frame.payload, length, self._codecs))
            except ValueError as error:
                raise frames.broken(
                    self._sender, f"content of block {frame.first} that is not right: {error}"
                ) from error
        if frame.source >= len(self._sources):
            raise frames.broken(self._sender, f"a copy from source {frame.source} of {len(self._sources)}")
        name = self._sources[frame.source]
        if frame.source_first * BLOCK_BYTES + length > self._images[name].size_bytes:
            raise frames.broken(
                self._sender, f"a copy of block {frame.source_first}, which is beyond the end of {name}"
            )
        return CopyBlocks(frame.first, frame.blocks, name, frame.source_first)

    def _segment_done(self, number: int) -> t.Iterator[Action]:
        if number not in self._missing or number in self._unchecked:
            raise frames.broken(self._sender, f"the end of segment {number}, which is not to come")
        if self._open not in (None, number):
            raise frames.broken(self._sender, f"the end of segment {number} before that of segment {self._open}")
        self._attempts[number] = self._attempts.get(number, 0) + 1
        self._open, self._next = None, 0
        self._unchecked.add(number)
        yield CheckSegment(number)

    def segment_checked(self, number: int, digest: bytes) -> bytes:
        """Take the digest that a segment has on disk.

        Returns:
            what to send.

        Raises:
            CapsuleError: it is wrong once more, and it was sent often enough.
        """
        state = self.state
        if state is None or number not in self._unchecked:
            raise ValueError(f"segment {number} was not to be checked")
        self._unchecked.discard(number)
        if digest == self._digests[number]:
            state.segment_verified(number)
            return frames.encoded(frames.Verified(number, True))
        state.segment_damaged(number)
        if self._attempts[number] >= MOST_ATTEMPTS:
            raise CapsuleError(
                "segment_damaged",
                f"segment {number} of {state.image} is wrong after it was sent {MOST_ATTEMPTS} times",
                f"check the disk of this host, and on {self._sender} whether the image still changes (capsule_verify)",
            )
        return frames.encoded(frames.Verified(number, False))

    def _all_sent(self, frame: frames.End) -> t.Iterator[Action]:
        missing = len(set(self._digests) - (self.state.verified if self.state else set()))
        if missing or image_name(frame.digest) != self._hello_frame.image:
            raise frames.broken(self._sender, f"the end, with {missing} segments missing")
        self._step = self._nothing_more
        yield CheckImage()

    def image_checked(self, manifest: BlockManifest) -> bytes:
        """Take the manifest of the whole image as it is on disk.

        Returns:
            what to send. The image is there then.

        Raises:
            CapsuleError: it is another image. What was damaged after it came is sent again by the next run; otherwise a
                part that came from the ground is damaged here.
        """
        state, ground = self.state, self._images[self._ground] if self._ground else None
        if self._step != self._nothing_more or state is None:
            raise ValueError("the image was not to be checked")
        if manifest.name == state.image:
            self.done = True
            return frames.encoded(frames.End(manifest.image_digest))
        found = [segment.digest for segment in manifest.segments]
        wrong = [number for number, digest in self._digests.items() if digest not in found[number : number + 1]]
        for number in wrong:
            state.segment_damaged(number)
        if wrong:
            raise CapsuleError(
                "image_damaged",
                f"{state.image} is not as it came: {len(wrong)} of its segments differ, the first is {wrong[0]}",
                "check the disk of this host, and run capsule_send again: it sends these segments again",
            )
        kept = (one for one in self.kept if ground_digest(ground, state.size_bytes, one) not in found[one : one + 1])
        raise CapsuleError(
            "base_damaged",
            f"{self._ground or 'the empty image'} is damaged here, in segment {next(kept, 0)}:"
            f" {state.image} cannot be made from it",
            "send that base again (capsule_verify says what is wrong with it), then this image",
        )

    def _nothing_more(self, frame: frames.Frame) -> t.Iterator[Action]:
        raise self._unexpected(frame, "nothing")

    def _unexpected(self, frame: frames.Frame, wanted: str) -> CapsuleError:
        return frames.broken(self._sender, f"a frame of {type(frame).__name__} where {wanted} was to come")


class _Without(t.Container[int]):
    """Numbers that are in one and not in the other, without making a third."""

    def __init__(self, numbers: t.Container[int], but: t.Container[int]) -> None:
        self._numbers = numbers
        self._but = but

    def __contains__(self, number: object) -> bool:
        return number in self._numbers and number not in self._but


def said(peer: str, frame: frames.Error) -> CapsuleError:
    """The error that the other end has sent."""
    told = frame.refusal
    return CapsuleError(told["code"], f"{peer} says: {told['reason']}", told["remedy"])
