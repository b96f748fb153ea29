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

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import acceptance, capsule_document, frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receiver import Receiver
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import DISK, MEMORY
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import PARTS, sha256_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.signature import verified
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.codecs import codecs_for
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.incoming_image import IncomingImage
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.receive_lock import ReceiveLock
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.ticket import Ticket

READ_BYTES = 256 * 1024
#: So many images are offered to the sender. Each name costs 75 bytes of the link.
MOST_OFFERED = 24
GUEST_LOCK_S = 60.0


class SenderLeftError(Exception):
    """The connection ended before the capsule was there."""


class ReceiveSession:
    """One connection.

    Args:
        ticket: what is permitted.
        store: where it goes.
        read: gives what has come, and nothing at the end; it may wait.
        write: sends bytes.
    """

    def __init__(
        self, ticket: Ticket, store: CapsuleStore, read: t.Callable[[int], bytes], write: t.Callable[[bytes], object]
    ) -> None:
        self._ticket = ticket
        self._store = store
        self._read = read
        self._write = write
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
        capsule = self._accepted(offer)
        what = f"capsule {capsule['number']} of {capsule['guest']['name']}"
        lock = ReceiveLock(
            self._store.lock_path(self._ticket.capsule), what, self._ticket.sender, self._ticket.sender_id
        )
        lock.take()
        try:
            self._receive(capsule, offer)
        finally:
            lock.release()

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

    def _accepted(self, offer: frames.Offer) -> Capsule:
        """The capsule, if it is the one that may come and this host may have it."""
        ticket = self._ticket
        capsule = capsule_document.parsed(offer.document, f"what {ticket.sender} sent")
        digest = sha256_of([offer.document])
        if digest != ticket.capsule:
            raise CapsuleError(
                "capsule_other",
                f"{ticket.sender} sends capsule {digest}, and may send {ticket.capsule} only",
                "run capsule_send again",
            )
        known = self._store.known(capsule["guest"]["uuid"])
        raise_first(
            [
                acceptance.signature_refusal(
                    capsule, verified(offer.document, offer.signature, ticket.keys), known, bool(ticket.keys)
                ),
                acceptance.replay_refusal(capsule, digest, known, ticket.allow_older),
                *acceptance.host_refusals(capsule, ticket.host),
            ]
        )
        return capsule

    def _receive(self, capsule: Capsule, offer: frames.Offer) -> None:
        wanted = self._wanted(capsule)
        parts = _Parts(self._store, capsule, self._ticket.capsule)
        there = self._there(capsule) and not wanted
        answer = frames.Answer(there, () if there else tuple(parts.missing()), tuple(wanted))
        candidates = {name: self._candidates(capsule, kind) for name, (kind, dummy) in wanted.items()}
        in_use = {self._ticket.capsule, *wanted, *(one for each in candidates.values() for one in each)}
        in_use |= set(capsule_document.images_of(capsule).values())
        with self._store.using(in_use, f"capsule {capsule['number']} of {capsule['guest']['name']} comes here"):
            self._write(frames.encoded(answer))
            if there:
                return
            for dummy in answer.parts:
                parts.take(self._next(frames.Part))
            if answer.parts:
                self._write(frames.encoded(frames.Ready()))
            for name, (kind, size_bytes) in wanted.items():
                self._image(capsule, name, kind, size_bytes)
            self._seal(capsule, offer, parts)
            parts.remove()
        self._write(frames.encoded(frames.Sealed(bytes.fromhex(self._ticket.capsule.partition(":")[2]))))

    def _there(self, capsule: Capsule) -> bool:
        stored = self._store.capsule(capsule["guest"]["uuid"], capsule["number"])
        return stored is not None and stored.digest == self._ticket.capsule

    def _wanted(self, capsule: Capsule) -> dict[str, tuple[str, int]]:
        """Kind and size of each image that is to come, by name: disks first, as memory has much of what they have."""
        images = {disk["image"]: (DISK, disk["size_bytes"]) for disk in capsule["disks"]}
        if capsule["memory"] is not None:
            images[capsule["memory"]["image"]] = (MEMORY, capsule["memory"]["size_bytes"])
        wanted = {}
        for name, what in images.items():
            record = self._store.image(name)
            if record is None:
                wanted[name] = what
                continue
            self._refuse_changed(record)
        for name in capsule_document.bases_of(capsule):
            record = self._store.image(name)
            if record is not None:
                self._refuse_changed(record)
        return wanted

    def _refuse_changed(self, record: t.Mapping[str, t.Any]) -> None:
        why = self._store.changed(dict(record))
        if why is not None:
            raise CapsuleError(
                "base_changed",
                f"{record['image']} on {self._ticket.name} is not known to be right any more: {why}; what stands on it"
                " would be silently corrupt",
                "see what it is now (capsule_verify on that host); remove it there (capsule_prune), and send again",
            )

    def _candidates(self, capsule: Capsule, kind: str) -> list[str]:
        """Names of the images to start or copy from, the likely ones first: of this guest, then of its trust domain."""
        uuid, domain = capsule["guest"]["uuid"], capsule["trust_domain"]
        likely: list[str] = []
        for stored in reversed(self._store.capsules(uuid)):
            if kind == MEMORY and stored.document["memory"] is not None:
                likely.append(stored.document["memory"]["image"])
            likely += [disk["image"] for disk in stored.document["disks"]]
        if kind == MEMORY:
            likely += [disk["image"] for disk in capsule["disks"]]
        likely += sorted(capsule_document.bases_of(capsule))
        records = self._store.images()
        others = sorted(records.values(), key=lambda record: str(record["sealed_at"]), reverse=True)
        likely += [record["image"] for record in others if record["kind"] == DISK]
        found: list[str] = []
        for name in dict.fromkeys(likely):
            record = records.get(name)
            if record is None or record["trust_domain"] != domain or self._store.changed(record) is not None:
                continue
            if record["kind"] == kind or kind == MEMORY:
                found.append(name)
        return found[:MOST_OFFERED]

    def _image(self, capsule: Capsule, name: str, kind: str, size_bytes: int) -> None:
        image = IncomingImage(self._store, self._ticket.name, name, kind, size_bytes, capsule["trust_domain"])
        images: dict[str, BlockManifest] = {}
        for one in self._candidates(capsule, kind):
            with contextlib.suppress(CapsuleError):
                images[one] = self._store.manifest(one)
        state = image.state()
        if state is not None and state.ground is not None and state.ground not in images:
            state = None
        receiver = Receiver(
            self._ticket.sender, {name: size_bytes}, images, {name: state} if state else None, codecs_for()
        )
        try:
            self._write(receiver.start())
            while not receiver.done:
                data = self._read(READ_BYTES)
                if not data:
                    raise SenderLeftError
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

    def _seal(self, capsule: Capsule, offer: frames.Offer, parts: _Parts) -> None:
        uuid = capsule["guest"]["uuid"]
        with self._store.guest_lock(uuid, GUEST_LOCK_S):
            known = self._store.known(uuid)
            # While it came, a newer one may have come from elsewhere.
            raise_first([acceptance.replay_refusal(capsule, self._ticket.capsule, known, self._ticket.allow_older)])
            self._store.add_capsule(offer.document, offer.signature or None, parts.files())
            signed = known.signed or bool(offer.signature)
            self._store.remember(uuid, Known(capsule["number"], self._ticket.capsule, signed))


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


def raise_first(refusals: t.Sequence[Refusal | None]) -> None:
    """Refuse for the first reason that there is."""
    for one in refusals:
        if one is not None:
            raise CapsuleError(one["code"], one["reason"], one["remedy"])
