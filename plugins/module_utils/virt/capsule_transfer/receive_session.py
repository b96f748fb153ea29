# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the receiver's part of one connection: a capsule is accepted or refused, then what is
# missing of it comes, and in the end it is sealed.

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import capsule_document, frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receiver import Receiver
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import PARTS, sha256_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.arrival import Arrival, Wanted
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.codecs import codecs_to_receive
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.incoming_image import IncomingImage
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.receive_lock import ReceiveLock

READ_BYTES = 256 * 1024
GUEST_LOCK_S = 60.0

#: Starts the guest of a capsule that is here, and says what became of that. It raises nothing.
Start = t.Callable[[Arrival, frames.Start], frames.Started]


class SenderLeftError(Exception):
    """The connection ended before the capsule was there."""


class ReceiveSession:
    """One connection.

    Args:
        ticket: what is permitted.
        store: where it goes.
        read: gives what has come, and nothing at the end; it may wait.
        write: sends bytes.
        start: starts the guest, if the sender may have that done.
    """

    def __init__(
        self,
        ticket: Ticket,
        store: CapsuleStore,
        read: t.Callable[[int], bytes],
        write: t.Callable[[bytes], object],
        start: Start | None = None,
    ) -> None:
        self._ticket = ticket
        self._store = store
        self._read = read
        self._write = write
        self._start = start
        self._decoder = frames.Decoder(ticket.sender)

    def run(self) -> None:
        """Receive the capsule.

        Raises:
            CapsuleError: it is refused; the sender was told.
            SenderLeftError: the connection ended.
        """
        self._write(frames.START)
        try:
            self._serve()
        except CapsuleError as error:
            # A connection that is gone cannot be told.
            with contextlib.suppress(OSError):
                self._write(Receiver.refused(error))
            raise

    def _serve(self) -> None:
        offer = self._next(frames.Offer)
        ticket = self._ticket
        arrival = Arrival(self._store, ticket, offer.document, offer.signature)
        lock = ReceiveLock(self._store.lock_path(arrival.digest), arrival.what, ticket.sender, ticket.sender_id)
        lock.take()
        try:
            self._receive(arrival)
        finally:
            lock.release()
        if self._start is not None:
            self._write(frames.encoded(self._start(arrival, self._next(frames.Start))))

    def _next(self, kind: type[t.Any]) -> t.Any:
        """The next frame, which must be of this kind."""
        # Several may have come at once.
        data = b""
        while True:
            for frame in self._decoder.feed(data):
                if isinstance(frame, frames.Error):
                    raise SenderLeftError
                if not isinstance(frame, kind):
                    raise frames.broken(
                        self._ticket.sender, f"a frame of {type(frame).__name__} instead of {kind.__name__}"
                    )
                return frame
            data = self._read(READ_BYTES)
            if not data:
                raise SenderLeftError

    def _receive(self, arrival: Arrival) -> None:
        wanted, there = arrival.wanted(), arrival.there()
        parts = _Parts(self._store, arrival.capsule, arrival.digest)
        answer = frames.Answer(there, () if there else tuple(parts.missing()), tuple(image.name for image in wanted))
        with self._store.using(self._needed(arrival, wanted), f"{arrival.what} comes here"):
            self._write(frames.encoded(answer))
            if there:
                return
            for dummy in answer.parts:
                parts.take(self._next(frames.Part))
            if answer.parts:
                self._write(frames.encoded(frames.Ready()))
            for image in wanted:
                self._image(arrival, image)
            with self._store.guest_lock(arrival.capsule["guest"]["uuid"], GUEST_LOCK_S):
                arrival.seal(parts.files())
            parts.remove()
        self._write(frames.encoded(frames.Sealed(bytes.fromhex(arrival.digest.partition(":")[2]))))

    def _needed(self, arrival: Arrival, wanted: t.Sequence[Wanted]) -> set[str]:
        """What must not be removed meanwhile."""
        needed = {arrival.digest, *capsule_document.images_of(arrival.capsule).values()}
        for image in wanted:
            needed.update(arrival.candidates(image.kind))
        return needed

    def _image(self, arrival: Arrival, wanted: Wanted) -> None:
        image = IncomingImage(self._store, self._ticket.name, wanted, arrival.capsule["trust_domain"])
        images: dict[str, BlockManifest] = {}
        for name in arrival.candidates(wanted.kind):
            with contextlib.suppress(CapsuleError):
                images[name] = self._store.manifest(name)
        state = image.state()
        if state is not None and state.ground is not None and state.ground not in images:
            state = None
        states = {wanted.name: state} if state else None
        receiver = Receiver(self._ticket.sender, {wanted.name: wanted.size_bytes}, images, states, codecs_to_receive())
        started = False
        try:
            while not receiver.done:
                data = self._read(READ_BYTES)
                if not data:
                    raise SenderLeftError
                # Not before the sender begins: until then it reads answers of another stream.
                if not started:
                    started = True
                    self._write(receiver.start())
                for action in receiver.feed(data):
                    answer = image.perform(receiver, action)
                    if answer:
                        self._write(answer)
                image.save(receiver)
        except BaseException:
            with contextlib.suppress(CapsuleError, OSError):
                image.save(receiver, now=True)
            raise
        finally:
            image.close()


class _Parts:
    """The small parts of a capsule, until it is sealed."""

    def __init__(self, store: CapsuleStore, capsule: Capsule, digest: str) -> None:
        self._capsule = capsule
        uuid = capsule["guest"]["uuid"]
        self._folder = os.path.join(store.guest_folder(uuid), f".parts.{digest.partition(':')[2][:16]}")
        self._content: dict[str, bytes] = {}
        before = [one.folder for one in reversed(store.capsules(uuid))]
        for key in self._needed():
            for path in (os.path.join(self._folder, key), *(os.path.join(one, PARTS[key]) for one in before)):
                content = durable_files.read_bytes(path, capsule_document.MOST_STATE_BYTES)
                if content is not None and self._fits(key, content):
                    self._content[key] = content
                    break

    def _needed(self) -> list[str]:
        return [key for key in PARTS if self._capsule[key] is not None]

    def _fits(self, key: str, content: bytes) -> bool:
        wanted = self._capsule[key]
        return len(content) == wanted["size_bytes"] and sha256_of([content]) == wanted["digest"]

    def missing(self) -> list[str]:
        """Those that are to be sent."""
        return [key for key in self._needed() if key not in self._content]

    def take(self, part: frames.Part) -> None:
        """Take one that came."""
        if part.name not in self.missing() or not self._fits(part.name, part.content):
            raise CapsuleError(
                "part_damaged",
                f"the {part.name} that came is not the one of the capsule",
                "check the capsule at its source (capsule_verify), and send it again",
            )
        self._content[part.name] = part.content
        self.files()

    def files(self) -> dict[str, str]:
        """Paths of all of them."""
        durable_files.make_directory(self._folder)
        paths = {key: os.path.join(self._folder, key) for key in self._content}
        for key, path in paths.items():
            durable_files.write_bytes(path, [self._content[key]])
        return paths

    def remove(self) -> None:
        """They are in the capsule now."""
        shutil.rmtree(self._folder, ignore_errors=True)
