# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: gets an image of a capsule from its export into the store of this host. Sender and receiver
# of capsule_send are both here: so only what this host lacks is read, each segment is checked with the capsule's
# digests, and what has come counts after any death.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import capsule_document, manifest_format
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import BASE, PREVIOUS, SEND, Source
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receiver import Receiver
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.sender import (
    Finished,
    Read,
    Send,
    Sender,
    frame_blocks,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import DISK
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.export_reader import ExportReader, Piece
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.arrival import Wanted, candidates
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.incoming_image import IncomingImage


class Fetch:
    """One image.

    Args:
        store: of this host.
        host, source: their names, for messages.
        capsule: which has the image.
        target: the disk that it is of.
        bytes_per_s: how fast it is read; None: no limit.
        told: is told how many bytes are to be read in all, and how many were.
    """

    def __init__(
        self,
        store: CapsuleStore,
        host: str,
        source: str,
        capsule: StoredCapsule,
        target: str,
        bytes_per_s: float | None,
        told: t.Callable[[int, int], None],
    ) -> None:
        self._store = store
        self._host = host
        self._source = source
        self._capsule = capsule
        self._target = target
        self._bytes_per_s = bytes_per_s
        self._told = told
        (disk,) = [one for one in capsule.document["disks"] if one["target"] == target]
        self.name: str = disk["image"]
        self.size_bytes: int = disk["size_bytes"]

    def is_here(self) -> bool:
        """Whether the image is in the store."""
        return self._store.image(self.name) is not None

    def checked_manifest(self, data: bytes) -> BlockManifest:
        """The manifest of the image, in bytes from the source. Its digests prove that it is the one.

        Raises:
            CapsuleError: it is damaged, or that of another image.
        """
        manifest = manifest_format.parsed(data, f"disk {self._target} on {self._source}")
        if manifest.name != self.name or manifest.size_bytes != self.size_bytes:
            raise CapsuleError(
                "export_differs",
                f"{self._source} has {manifest.name} as disk {self._target}, and the capsule says {self.name}",
                "let the source export the images of this very capsule (capsule_export with ticket and guest)",
            )
        return manifest

    def run(self, manifest: BlockManifest, reader: ExportReader) -> None:
        """Get it. Afterwards it is an image of the store like any other.

        Raises:
            CapsuleError: it cannot be had; what has come counts.
        """
        document = self._capsule.document
        names = candidates(self._store, document, DISK)
        with self._store.using([self._capsule.digest, self.name, *names], f"disk {self._target} comes here"):
            images: dict[str, BlockManifest] = {}
            for name in names:
                with contextlib.suppress(CapsuleError):
                    images[name] = self._store.manifest(name)
            self._receive(manifest, images, reader)

    def _receive(self, manifest: BlockManifest, images: dict[str, BlockManifest], reader: ExportReader) -> None:
        wanted = Wanted(self.name, DISK, self.size_bytes)
        image = IncomingImage(self._store, self._host, wanted, self._capsule.document["trust_domain"])
        state = image.state()
        if state is not None and state.ground is not None and state.ground not in images:
            state = None
        receiver = Receiver(
            self._source, {self.name: self.size_bytes}, images, {self.name: state} if state else None, {}
        )
        bases = capsule_document.bases_of(self._capsule.document)
        known = [Source(BASE if name in bases else PREVIOUS, one) for name, one in images.items()]
        sender = Sender(self._host, self._capsule.digest, manifest, known, {}, self._bytes_per_s)
        try:
            self._pump(sender, receiver, image, reader)
        except BaseException:
            with contextlib.suppress(CapsuleError, OSError):
                image.save(receiver, now=True)
            raise
        finally:
            image.close()

    def _pump(self, sender: Sender, receiver: Receiver, image: IncomingImage, reader: ExportReader) -> None:
        answer, total = receiver.start(), None
        while True:
            step = sender.next_step()
            if isinstance(step, Finished):
                return
            if isinstance(step, Send):
                data = step.data
            elif isinstance(step, Read):
                if total is None:
                    pieces = list(self._pieces(sender))
                    total = sum(length for dummy, length in pieces)
                    reader.expect(pieces)
                data = self._supplied(sender, step, reader)
                self._told(total, reader.read_bytes)
            elif answer:
                data = b""
            else:
                raise ValueError("sender and receiver wait for each other")
            for action in receiver.feed(data):
                answer += image.perform(receiver, action)
            image.save(receiver)
            if answer:
                sender.feed(answer)
                answer = b""

    def _supplied(self, sender: Sender, step: Read, reader: ExportReader) -> bytes:
        offset, length = self._piece(step.first, step.blocks)
        content = reader.read(offset, length)
        try:
            return sender.supply(content)
        except CapsuleError as error:
            raise CapsuleError(
                "source_changed",
                f"what {self._source} gave of disk {self._target} is not what capsule"
                f" {self._capsule.document['number']} says ({error.refusal['reason']}); nothing of that was used",
                f"see on {self._source} who has written to it (capsule_verify); the guest goes on meanwhile",
            ) from error

    def _pieces(self, sender: Sender) -> t.Iterator[Piece]:
        """What the sender will read, if nothing has to be read again."""
        most = frame_blocks(self._bytes_per_s)
        if sender.delta is None:
            return
        for segment in sender.delta.segments(skip=frozenset(sender.verified)):
            for run in segment.runs:
                if run.kind == SEND:
                    for first in range(run.first, run.first + run.blocks, most):
                        yield self._piece(first, min(most, run.first + run.blocks - first))

    def _piece(self, first: int, blocks: int) -> Piece:
        offset = first * BLOCK_BYTES
        return offset, min(self.size_bytes - offset, blocks * BLOCK_BYTES)
