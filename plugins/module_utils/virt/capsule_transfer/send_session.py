# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the sender's part of one connection: the capsule is offered, then what is missing is sent.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import Delta, Source
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receiver import said
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES, DIGEST_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.sender import Finished, Read, Send, Sender
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.codecs import codecs_for
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link import Link


class Reader(t.Protocol):
    """Reads what a guest sees of an image."""

    def read(self, offset: int, length: int) -> bytes:
        """These bytes."""


class OutgoingImage(t.NamedTuple):
    """An image of the capsule.

    Attributes:
        what: what it is of the guest, such as C(disk vda).
        manifest: of it.
        opened: gives a reader while inside.
    """

    what: str
    manifest: BlockManifest
    opened: t.Callable[[], t.ContextManager[Reader]]


class Outgoing(t.NamedTuple):
    """A capsule that is sent.

    Attributes:
        digest: of its document, C(sha256:) and 64 digits.
        document: its bytes.
        signature: of the document; empty: none.
        parts: content of the definition, NVRAM and TPM state, by the keys of the document.
        images: by name.
        known: gives those of the named images that this host has hashed as well.
        base_of: gives the manifest of the base of one of the images; None: it has none, or it is not known here.
    """

    digest: str
    document: bytes
    signature: bytes
    parts: t.Mapping[str, bytes]
    images: t.Mapping[str, OutgoingImage]
    known: t.Callable[[t.Sequence[str]], t.Sequence[Source]]
    base_of: t.Callable[[str], BlockManifest | None]


class Watch(t.Protocol):
    """Is told how the send goes."""

    def image_begins(self, name: str, delta: Delta, verified: t.AbstractSet[int]) -> None:
        """What must travel of an image is known; these of its segments are at the far end from before."""

    def content_sent(self, size_bytes: int) -> None:
        """So many bytes of content were read and handed over, before compression."""

    def tick(self, link: Link) -> None:
        """It goes on."""

    def image_ends(self, name: str) -> None:
        """The far end has the image."""


class SendSession:
    """One connection.

    Args:
        far_end: name of the host at the other end.
        link: the connection.
        capsule: what is sent.
        bytes_per_s: rate of the link; None: not known, or fast.
        watch: is told how it goes.
        came: what has come over the connection already.
    """

    def __init__(
        self,
        far_end: str,
        link: Link,
        capsule: Outgoing,
        bytes_per_s: float | None,
        watch: Watch,
        came: bytes = b"",
    ) -> None:
        self._far_end = far_end
        self._link = link
        self._capsule = capsule
        self._bytes_per_s = bytes_per_s
        self._watch = watch
        self._decoder = frames.Decoder(far_end)
        self._rest = b""
        self._first = came

    def run(self) -> bool:
        """Send what is missing; false if the far end had all of it.

        Raises:
            CapsuleError: the far end refuses, or an image here is not as it was.
            LinkLostError: the connection ended.
        """
        offer = frames.Offer(self._capsule.document, self._capsule.signature)
        came = self._link.send(frames.START + frames.encoded(offer))
        answer = self._next(frames.Answer, self._first + came)
        if answer.there:
            return False
        # The answer to the last part may come while that is sent.
        came = b"".join(self._link.send(frames.encoded(frames.Part(name, self._part(name)))) for name in answer.parts)
        if answer.parts:
            self._next(frames.Ready, came)
        for name in answer.images:
            self._send_image(name)
        sealed = self._next(frames.Sealed, self._rest)
        if "sha256:" + sealed.digest.hex() != self._capsule.digest:
            raise frames.broken(self._far_end, "word that another capsule is there")
        return True

    def start(self, word: frames.Start) -> frames.Started:
        """Have the guest started, once the far end has all; returns what became of that.

        Raises:
            CapsuleError: the far end refuses.
            LinkLostError: the connection ended. Nobody knows then whether the guest was started.
        """
        started: frames.Started = self._next(frames.Started, self._link.send(frames.encoded(word)))
        return started

    def _part(self, name: str) -> bytes:
        content = self._capsule.parts.get(name)
        if content is None:
            raise frames.broken(self._far_end, f"a question for {name}, which this capsule has not")
        return content

    def _next(self, kind: type[t.Any], came: bytes = b"") -> t.Any:
        """The next frame, which must be of this kind."""
        while True:
            for frame in self._decoder.feed(came):
                if isinstance(frame, frames.Error):
                    raise said(self._far_end, frame)
                if not isinstance(frame, kind):
                    raise frames.broken(self._far_end, f"a frame of {type(frame).__name__} instead of {kind.__name__}")
                return frame
            came = self._link.receive()
            self._watch.tick(self._link)

    def _send_image(self, name: str) -> None:
        image = self._capsule.images.get(name)
        if image is None:
            raise frames.broken(self._far_end, f"a question for {name}, which is no image of this capsule")
        sender = Sender(
            self._far_end,
            self._capsule.digest,
            image.manifest,
            self._capsule.known,
            codecs_for(self._rate),
            self._bytes_per_s,
        )
        with image.opened() as reader:
            self._pump(name, sender, reader)
        self._rest = sender.take_rest()
        self._watch.image_ends(name)

    def _rate(self) -> float | None:
        """Bytes in a second that can be had: as was told, or as the link has shown where that is less."""
        rates = [rate for rate in (self._bytes_per_s, self._link.rate) if rate is not None]
        return min(rates, default=None)

    def _pump(self, name: str, sender: Sender, reader: Reader) -> None:
        begun = False
        while True:
            step = sender.next_step()
            if isinstance(step, Finished):
                return
            if isinstance(step, Send):
                came = self._link.send(step.data)
            elif isinstance(step, Read):
                length = min(sender.image_bytes - step.first * BLOCK_BYTES, step.blocks * BLOCK_BYTES)
                came = self._link.send(sender.supply(reader.read(step.first * BLOCK_BYTES, length)))
                self._watch.content_sent(length)
            else:
                came = self._link.receive()
            if came:
                sender.feed(came)
            if sender.delta is not None and not begun:
                begun = True
                self._watch.image_begins(name, sender.delta, frozenset(sender.verified))
            self._watch.tick(self._link)


def digest_bytes(digest: str) -> bytes:
    """The bytes of a digest as documents write it."""
    raw = bytes.fromhex(digest.partition(":")[2])
    if len(raw) != DIGEST_BYTES:
        raise CapsuleError("capsule_damaged", f"{digest[:80]!r} is no digest", "send it again from its source")
    return raw
