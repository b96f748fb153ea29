# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What goes over the connection between a sender and a receiver of an image: frames, as bytes.

Each direction begins with 8 bytes "KVMOPSTR" and a version (2). Then there are frames: type (1), length of the
body (4), body. Numbers are unsigned and big-endian. docs/contracts.md, "Transfer", has the frames and their order.

What comes in is not trusted: each type has its longest body, and one that is longer is refused by its length, before
any of it is kept.
"""

from __future__ import annotations

import json
import struct
import typing as t
import zlib

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import canonical_json
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import (
    MOST_DISKS,
    MOST_STATE_BYTES,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.fields import FieldError, Fields, shown
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.payload import MOST_PAYLOAD_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receive_state import MOST_RANGES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_DIGEST_BYTES,
    BLOCKS_PER_SEGMENT,
    DIGEST_BYTES,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

MAGIC = b"KVMOPSTR"
VERSION = 1
START = MAGIC + struct.pack(">H", VERSION)

#: So many images are offered as sources at most. The number of one has a byte.
MOST_SOURCES = 255
#: So many segments are announced in one frame at most.
MOST_CHANGED = 4096


class Hello(t.NamedTuple):
    """Sender: what it is about to send.

    Attributes:
        capsule: digest of the document of the capsule.
        image: name of the image, by its digest.
        size_bytes: of the image.
        codecs: by which content may be compressed, in the order of preference.
    """

    capsule: str
    image: str
    size_bytes: int
    codecs: tuple[str, ...]


class Have(t.NamedTuple):
    """Receiver: what it has.

    Attributes:
        images: names of the images that it can start or copy from, as it hashed them itself.
        state: how far this image has been received (docs/contracts.md, "Receive state"); None: nothing of it is there.
        codecs: those of the sender's that it has.
    """

    images: tuple[str, ...]
    state: dict[str, t.Any] | None
    codecs: tuple[str, ...]


class AskDigests(t.NamedTuple):
    """Sender: the digests of all segments of this image, as it has no manifest of it."""

    digest: bytes


class SegmentDigests(t.NamedTuple):
    """Receiver: digests of segments of the image that was asked for, in order; C(last): there are no more."""

    last: bool
    size_bytes: int
    digests: tuple[bytes, ...]


class AskBlocks(t.NamedTuple):
    """Sender: the digests of the blocks of these segments of that image."""

    numbers: tuple[int, ...]


class BlockDigests(t.NamedTuple):
    """Receiver: for one segment, a bit for each block that is zero, and the digests of the others."""

    number: int
    zeros: int
    digests: bytes


class Sources(t.NamedTuple):
    """Sender: the images that it uses, by digest; with C(ground), the first is the one to start from."""

    ground: bool
    digests: tuple[bytes, ...]


class Changed(t.NamedTuple):
    """Sender: segments that are not as in the ground, with their digests, in order; C(last): there are no more."""

    last: bool
    segments: tuple[tuple[int, bytes], ...]


class Ready(t.NamedTuple):
    """Receiver: what was announced makes the image; it may come."""


class Blocks(t.NamedTuple):
    """Sender: content of blocks."""

    first: int
    blocks: int
    codec: int
    payload: bytes


class Zero(t.NamedTuple):
    """Sender: blocks that are zero."""

    first: int
    blocks: int


class Copy(t.NamedTuple):
    """Sender: blocks that are as others in a source."""

    first: int
    blocks: int
    source: int
    source_first: int


class SegmentDone(t.NamedTuple):
    """Sender: all of this segment was sent."""

    number: int


class Verified(t.NamedTuple):
    """Receiver: whether a segment has the right digest. If it has not, it is sent again as a whole."""

    number: int
    ok: bool


class End(t.NamedTuple):
    """Sender: that was all. Receiver: the whole image has the right digest and is on disk."""

    digest: bytes


class Error(t.NamedTuple):
    """Either: it ends here, and why."""

    refusal: Refusal


class Offer(t.NamedTuple):
    """Sender: the document of the capsule that it wants to send, and its signature (empty: it has none)."""

    document: bytes
    signature: bytes


class Answer(t.NamedTuple):
    """Receiver: the capsule is accepted, and this of it is missing.

    Attributes:
        there: whether the whole capsule is there already.
        parts: those of L(PARTS) that are to be sent, in this order.
        images: names of the images that are to be sent, in this order.
    """

    there: bool
    parts: tuple[str, ...]
    images: tuple[str, ...]


class Part(t.NamedTuple):
    """Sender: a small part of the capsule, as it is; on the way it is compressed."""

    name: str
    content: bytes


class Sealed(t.NamedTuple):
    """Receiver: the whole capsule is there, and on disk."""

    digest: bytes


class Start(t.NamedTuple):
    """Sender: start the guest, which is off at the source and stays off.

    Attributes:
        host: name of the source.
        at: since when it is off.
        wait_s: how long to wait until it is of use.
    """

    host: str
    at: str
    wait_s: int


class Started(t.NamedTuple):
    """Receiver: what became of the start.

    Attributes:
        state: C(running); C(off): it surely does not run; C(unclear): nobody can tell.
        running_ms: from the word to start it until it ran; None: it does not.
        useful_ms: until it was of use; None: it was not, so far.
        useful_by: how that was seen; empty: it was not.
        notes: what an operator should know.
        refusal: why it does not run; None: it does.
    """

    state: str
    running_ms: int | None
    useful_ms: int | None
    useful_by: str
    notes: tuple[str, ...]
    refusal: Refusal | None


RUNNING, OFF, UNCLEAR = STATES = ("running", "off", "unclear")
#: Codes of refusals that say that the guest ran there and is off now. To the sender its state is unclear.
RAN_THERE = ("ran_there",)
MOST_NOTES = 32
_LONGEST_NOTE = 600

#: The small parts of a capsule, by the keys of its document.
PARTS = ("definition", "nvram", "tpm")
#: Of a signature: a few hundred bytes, and a certificate perhaps.
MOST_SIGNATURE_BYTES = 64 * 1024

Frame = t.Union[
    Offer,
    Answer,
    Part,
    Sealed,
    Start,
    Started,
    Hello,
    Have,
    Sources,
    Changed,
    Ready,
    Blocks,
    Zero,
    Copy,
    SegmentDone,
    Verified,
    End,
    Error,
    AskDigests,
    SegmentDigests,
    AskBlocks,
    BlockDigests,
]

_HEAD = struct.Struct(">BI")
_BLOCKS = struct.Struct(">QHB")
_ZERO = struct.Struct(">QH")
_COPY = struct.Struct(">QHBQ")
_NUMBER = struct.Struct(">I")
_VERIFIED = struct.Struct(">I?")
_ENTRY = struct.Struct(f">I{DIGEST_BYTES}s")
#: Of the frames that are numbers only.
_FORMS: t.Mapping[t.Any, struct.Struct] = {Zero: _ZERO, Copy: _COPY, SegmentDone: _NUMBER, Verified: _VERIFIED}
#: Characters of the texts of an error.
_LONGEST = {"code": 60, "reason": 2000, "remedy": 1000}

_MAP_BYTES = BLOCKS_PER_SEGMENT // 8

#: Type and longest body. A state has at most so many ranges twice, with 30 characters for each.
_TYPES: t.Mapping[t.Any, tuple[int, int]] = {
    Hello: (1, 4096),
    Have: (2, MOST_SOURCES * 80 + 2 * MOST_RANGES * 30 + 4096),
    Sources: (3, 1 + MOST_SOURCES * DIGEST_BYTES),
    Changed: (4, 1 + MOST_CHANGED * _ENTRY.size),
    Ready: (5, 0),
    Blocks: (6, _BLOCKS.size + MOST_PAYLOAD_BYTES),
    Zero: (7, _ZERO.size),
    Copy: (8, _COPY.size),
    SegmentDone: (9, _NUMBER.size),
    Verified: (10, _VERIFIED.size),
    End: (11, DIGEST_BYTES),
    AskDigests: (13, DIGEST_BYTES),
    SegmentDigests: (14, 9 + MOST_CHANGED * DIGEST_BYTES),
    AskBlocks: (15, MOST_CHANGED * 4),
    BlockDigests: (16, 4 + _MAP_BYTES + BLOCKS_PER_SEGMENT * BLOCK_DIGEST_BYTES),
    Offer: (17, canonical_json.MOST_BYTES + 2 * MOST_SIGNATURE_BYTES),
    Answer: (18, (MOST_DISKS + 2) * 80 + 1024),
    Part: (19, MOST_STATE_BYTES + MOST_STATE_BYTES // 64),
    Sealed: (20, DIGEST_BYTES),
    Start: (21, 4096),
    Started: (22, 6 * (MOST_NOTES * _LONGEST_NOTE + sum(_LONGEST.values())) + 1000),
    Error: (12, 6 * sum(_LONGEST.values()) + 100),
}
_BY_NUMBER: t.Mapping[int, tuple[t.Any, int]] = {number: (kind, most) for kind, (number, most) in _TYPES.items()}
_REMEDY = "run it again; if it fails again, see that both hosts have the same version of kvmops.cluster"


def encoded(frame: Frame) -> bytes:
    """A frame as bytes."""
    number, most = _TYPES[type(frame)]
    body = _body(frame)
    if len(body) > most:
        raise ValueError(f"a frame of {type(frame).__name__} has at most {most} bytes, not {len(body)}")
    return _HEAD.pack(number, len(body)) + body


def _body(frame: Frame) -> bytes:
    if isinstance(frame, (Hello, Have, Answer, Start, Error, Started)):
        return json.dumps(_values(frame), separators=(",", ":")).encode("ascii")
    if isinstance(frame, Sources):
        return bytes([frame.ground]) + b"".join(frame.digests)
    if isinstance(frame, Changed):
        return bytes([frame.last]) + b"".join(_ENTRY.pack(*one) for one in frame.segments)
    if isinstance(frame, Blocks):
        return _BLOCKS.pack(frame.first, frame.blocks, frame.codec) + frame.payload
    if isinstance(frame, Offer):
        return zlib.compress(_NUMBER.pack(len(frame.document)) + frame.document + frame.signature, 9)
    if isinstance(frame, Part):
        return bytes([PARTS.index(frame.name)]) + zlib.compress(frame.content, 9)
    return _body_of_digests(frame)


def _values(frame: Hello | Have | Answer | Start | Error | Started) -> dict[str, t.Any]:
    if isinstance(frame, Error):
        return _cut(frame.refusal)
    values = frame._asdict()
    if isinstance(frame, Started):
        values["notes"] = [note[:_LONGEST_NOTE] for note in frame.notes[:MOST_NOTES]]
        values["refusal"] = _cut(frame.refusal) if frame.refusal else None
    return values


def _cut(told: Refusal) -> dict[str, str]:
    """A refusal that fits: at most six bytes for each character."""
    return {key: str(value)[: _LONGEST[key]] for key, value in told.items()}


def _body_of_digests(frame: Frame) -> bytes:
    if isinstance(frame, SegmentDigests):
        return struct.pack(">?Q", frame.last, frame.size_bytes) + b"".join(frame.digests)
    if isinstance(frame, AskBlocks):
        return b"".join(_NUMBER.pack(number) for number in frame.numbers)
    if isinstance(frame, BlockDigests):
        return _NUMBER.pack(frame.number) + frame.zeros.to_bytes(_MAP_BYTES, "little") + frame.digests
    if isinstance(frame, (End, AskDigests, Sealed)):
        return frame.digest
    form = _FORMS.get(type(frame))
    return form.pack(*frame) if form else b""


class Decoder:
    """Takes bytes as they come, in pieces of any size, and gives frames. After an error it gives nothing more.

    Args:
        peer: who is at the other end, for messages.
    """

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._rest = bytearray()
        self._started = False
        self._failed = False

    def feed(self, data: bytes) -> t.Iterator[Frame]:
        """The frames that are complete with these bytes.

        Raises:
            CapsuleError: what came is no frame.
        """
        self._rest += data
        try:
            yield from self._frames()
        except CapsuleError:
            self._failed = True
            self._rest.clear()
            raise

    def _frames(self) -> t.Iterator[Frame]:
        while not self._failed and self._start() and len(self._rest) >= _HEAD.size:
            number, length = _HEAD.unpack_from(self._rest)
            kind, most = _BY_NUMBER.get(number, (None, 0))
            if kind is None:
                raise broken(self._peer, f"a frame of the unknown type {number}")
            if length > most:
                raise broken(self._peer, f"a frame of {kind.__name__} with {length} bytes, and {most} is the most")
            if len(self._rest) < _HEAD.size + length:
                return
            body = bytes(self._rest[_HEAD.size : _HEAD.size + length])
            del self._rest[: _HEAD.size + length]
            try:
                frame = _decoded(kind, body)
            except (ValueError, struct.error, RecursionError) as error:
                why = str(error) if isinstance(error, FieldError) else "its length or content is not possible"
                raise broken(self._peer, f"a frame of {kind.__name__} that cannot be read ({why})") from error
            yield frame

    def _start(self) -> bool:
        """Whether the start of the stream is there and right."""
        if not self._started:
            seen = bytes(self._rest[: len(START)])
            if not MAGIC.startswith(seen[: len(MAGIC)]):
                raise CapsuleError(
                    "transfer_no_protocol",
                    f"{self._peer} sent {shown(self._rest[:40].decode('ascii', 'replace'))} instead of the protocol",
                    "see that nothing is printed at a login there (files such as .bashrc), and that its key has the"
                    " forced command of capsule_send",
                )
            if len(seen) < len(START):
                return False
            if seen != START:
                (version,) = struct.unpack(">H", seen[len(MAGIC) :])
                raise CapsuleError(
                    "transfer_version",
                    f"{self._peer} speaks version {version} of the transfer, and this host version {VERSION}",
                    "use the same version of kvmops.cluster on both hosts",
                )
            del self._rest[: len(START)]
            self._started = True
        return True

    def take_rest(self) -> bytes:
        """What came behind the frames that were asked for: it belongs to what follows this stream."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest

    @property
    def inside_a_frame(self) -> bool:
        """Whether the bytes so far end within a frame."""
        return bool(self._rest)


def _decoded(kind: t.Any, body: bytes) -> Frame:
    if kind in (Hello, Have, Answer, Error, Start, Started):
        return _from_json(kind, json_text.parsed(body))
    if kind is Sources:
        if not body or body[0] > 1 or (len(body) - 1) % DIGEST_BYTES or (body[0] and len(body) == 1):
            raise ValueError("no whole digests")
        return Sources(bool(body[0]), tuple(body[at : at + DIGEST_BYTES] for at in range(1, len(body), DIGEST_BYTES)))
    if kind is Changed:
        if not body or body[0] > 1:
            raise ValueError("neither the last nor not")
        return Changed(bool(body[0]), tuple(t.cast("t.Iterator[tuple[int, bytes]]", _ENTRY.iter_unpack(body[1:]))))
    if kind is Blocks:
        first, blocks, codec = _BLOCKS.unpack_from(body)
        return _counted(Blocks(first, blocks, codec, body[_BLOCKS.size :]), blocks)
    if kind in (Offer, Part):
        return _decoded_part(kind, body)
    return _decoded_digests(kind, body)


def _decoded_part(kind: t.Any, body: bytes) -> Frame:
    if kind is Part:
        if not body or body[0] >= len(PARTS):
            raise ValueError("no known part")
        return Part(PARTS[body[0]], _unpacked(body[1:], MOST_STATE_BYTES))
    whole = _unpacked(body, _NUMBER.size + canonical_json.MOST_BYTES + MOST_SIGNATURE_BYTES)
    (length,) = _NUMBER.unpack_from(whole)
    end = _NUMBER.size + length
    if end > len(whole) or len(whole) - end > MOST_SIGNATURE_BYTES:
        raise ValueError("it is cut off, or its signature is too long")
    return Offer(whole[_NUMBER.size : end], whole[end:])


def _unpacked(packed: bytes, most: int) -> bytes:
    """What these bytes unpack to, which are not trusted: at most so much is ever made of them."""
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(packed, most + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if len(content) > most or not unpack.eof or unpack.unused_data:
        raise ValueError("it is cut off, or too long")
    return content


def _decoded_digests(kind: t.Any, body: bytes) -> Frame:
    if kind is SegmentDigests:
        last, size_bytes = struct.unpack_from(">BQ", body)
        if last > 1 or (len(body) - 9) % DIGEST_BYTES:
            raise ValueError("no whole digests")
        digests = tuple(body[at : at + DIGEST_BYTES] for at in range(9, len(body), DIGEST_BYTES))
        return SegmentDigests(bool(last), size_bytes, digests)
    if kind is AskBlocks:
        return AskBlocks(tuple(number for (number,) in _NUMBER.iter_unpack(body)))
    if kind is BlockDigests:
        (number,), start = _NUMBER.unpack_from(body), _NUMBER.size + _MAP_BYTES
        if len(body) < start:
            raise ValueError("no whole bit map")
        return BlockDigests(number, int.from_bytes(body[_NUMBER.size : start], "little"), body[start:])
    if kind in (End, AskDigests, Sealed):
        if len(body) != DIGEST_BYTES:
            raise ValueError("no digest")
        return t.cast(Frame, kind(body))
    return Ready() if kind is Ready else _fixed(kind, body)


def _fixed(kind: t.Any, body: bytes) -> Frame:
    frame: Frame = kind(*_FORMS[kind].unpack(body))
    if isinstance(frame, Verified) and body[-1] > 1:
        raise ValueError("neither verified nor not")
    return _counted(frame, frame.blocks) if isinstance(frame, (Zero, Copy)) else frame


def _counted(frame: Frame, count: int) -> Frame:
    if not 1 <= count <= BLOCKS_PER_SEGMENT:
        raise ValueError("no block, or more than a segment has")
    return frame


def _from_json(kind: t.Any, value: t.Any) -> Frame:
    fields = Fields(value, "")
    if kind is Error:
        return Error(_told(fields))
    if kind is Start:
        return Start(fields.text("host", r".{1,255}"), fields.text("at", r"[0-9TZ:.-]{1,40}"), _seconds(fields))
    if kind is Started:
        return _started(fields, value)
    if kind is Answer:
        there = value.get("there")
        if not isinstance(there, bool):
            raise FieldError("there is neither true nor false")
        parts = _texts(value, "parts", len(PARTS), 16)
        if set(parts) - set(PARTS):
            raise FieldError("parts has one that is not known")
        return Answer(there, parts, _texts(value, "images", MOST_DISKS + 1, 80))
    codecs = _texts(value, "codecs", 8, 16)
    if kind is Hello:
        return Hello(
            fields.text("capsule", r"sha256:[0-9a-f]{64}"),
            fields.text("image", r"blocks:[0-9a-f]{64}"),
            fields.number("size_bytes", 0, 2**53),
            codecs,
        )
    state = value.get("state")
    if state is not None and not isinstance(state, dict):
        raise FieldError("state is no object")
    return Have(_texts(value, "images", MOST_SOURCES, 80), state, codecs)


def _told(fields: Fields) -> Refusal:
    code, reason, remedy = (
        shown_text(fields.text(key, rf"(?s).{{0,{_LONGEST[key]}}}")) for key in ("code", "reason", "remedy")
    )
    return refusal(code, reason, remedy)


def _seconds(fields: Fields) -> int:
    return fields.number("wait_s", 0, 86400)


def _started(fields: Fields, value: t.Any) -> Started:
    told = fields.fields_or_none("refusal")
    running_ms, useful_ms = (
        None if value.get(key) is None else fields.number(key, 0, 2**53) for key in ("running_ms", "useful_ms")
    )
    notes = tuple(shown_text(note) for note in _texts(value, "notes", MOST_NOTES, _LONGEST_NOTE))
    state, useful_by = fields.one_of("state", STATES), shown_text(fields.text("useful_by", r"(?s).{0,100}"))
    return Started(state, running_ms, useful_ms, useful_by, notes, _told(told) if told is not None else None)


def _texts(value: t.Any, key: str, most: int, longest: int) -> tuple[str, ...]:
    found = value.get(key)
    if not isinstance(found, list) or len(found) > most or not all(isinstance(one, str) for one in found):
        raise FieldError(f"{key} is no list of at most {most} texts")
    if any(len(one) > longest for one in found):
        raise FieldError(f"{key} has a text that is too long")
    return tuple(found)


def shown_text(text: str) -> str:
    """A text of the other end, for a message: on one line, without control characters.

    >>> shown_text("a\\nb\\x1b[2J")
    'a b [2J'
    """
    return "".join(one if one.isprintable() else " " for one in text)


def broken(peer: str, what: str) -> CapsuleError:
    """The error for a peer that does not keep to the protocol."""
    return CapsuleError("transfer_broken", f"{peer} sent {what}", _REMEDY)
