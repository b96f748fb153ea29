# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one image that comes to this host: what a receiver decides is done to its file.

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest, bytes_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import MOST_LAYERS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receive_state import ReceiveState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receiver import (
    Begin,
    CheckImage,
    CheckSegment,
    CopyBlocks,
    Receiver,
    Reply,
    Write,
    WriteZeros,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    SEGMENT_BYTES,
    Segment,
    segment_of,
    segments_in,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import DISK, ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess, opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.arrival import Wanted
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.copying import (
    copy_content,
    make_image,
    shared_copy,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.reservation import Reservation

#: How far it is, is written this often: what came since then is sent again after an interruption.
SAVE_S = 2.0
#: Segments whose digests are kept until the end, so that they are not read once more: 64 MiB of memory.
MOST_KEPT = 16 * 1024


class IncomingImage:
    """One image.

    Args:
        store: where it goes.
        host: name of this host, for messages.
        wanted: the image.
        trust_domain: of its capsule.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: CapsuleStore,
        host: str,
        wanted: Wanted,
        trust_domain: str,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._name, self._kind, self._size_bytes = wanted
        self._trust_domain = trust_domain
        self._clock = clock
        self._form = "qcow2" if self._kind == DISK else "raw"
        self._receiving = store.receiving(self._name)
        self._path = self._receiving.data_path(self._form)
        self._reservation = Reservation(os.path.join(self._receiving.folder, "reserved"), host)
        self._stack = contextlib.ExitStack()
        self._access: ImageAccess | None = None
        self._sources: dict[str, ImageAccess] = {}
        self._ground: str | None = None
        self._backing: str | None = None
        self._checked: dict[int, Segment] = {}
        self._saved_at = clock()

    def state(self) -> ReceiveState | None:
        """How far it has come; None: nothing of it counts."""
        try:
            state = self._receiving.state()
        except CapsuleError:
            # What says so is damaged, so nothing of it is believed.
            state = None
        if state is not None and not os.path.exists(self._path):
            # It was whole and on its way to its place when the host died.
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._store.image_path(self._name, self._form), self._path)
        if state is None or not os.path.exists(self._path):
            return None
        return state

    def perform(self, receiver: Receiver, action: t.Any) -> bytes:
        """Do what the receiver has decided; returns what is to be sent.

        Raises:
            CapsuleError: it cannot be done, or what came is not right.
        """
        if isinstance(action, Reply):
            return action.data
        if isinstance(action, Begin):
            self._begin(action)
        elif isinstance(action, Write):
            self._reservation.give(len(action.content))
            self._open.write(action.first * BLOCK_BYTES, action.content)
        elif isinstance(action, WriteZeros):
            self._open.zero(action.first * BLOCK_BYTES, self._length(action.first, action.blocks))
        elif isinstance(action, CopyBlocks):
            length = self._length(action.first, action.blocks)
            content = self._source(action.image).read(action.source_first * BLOCK_BYTES, length)
            self._reservation.give(length)
            self._open.write(action.first * BLOCK_BYTES, content)
        elif isinstance(action, CheckSegment):
            return receiver.segment_checked(action.number, self._check(action.number).digest)
        elif isinstance(action, CheckImage):
            return self._check_image(receiver)
        return b""

    def save(self, receiver: Receiver, now: bool = False) -> None:
        """Write how far it is, if it is time: the data first."""
        document = receiver.state_document()
        if document is None or self._access is None or not (now or self._clock() - self._saved_at >= SAVE_S):
            return
        self._access.flush()
        self._receiving.write_state(document)
        self._saved_at = self._clock()

    def close(self) -> None:
        """Close all files. What has come stays."""
        self._access = None
        self._sources.clear()
        self._stack.close()
        self._reservation.release()

    @property
    def _open(self) -> ImageAccess:
        if self._access is None:
            raise ValueError("the image has not begun")
        return self._access

    def _length(self, first: int, blocks: int) -> int:
        return min(self._size_bytes, (first + blocks) * BLOCK_BYTES) - first * BLOCK_BYTES

    def _begin(self, action: Begin) -> None:
        self._receiving.prepare()
        self._ground = action.ground
        ground = self._record(action.ground) if action.ground else None
        if not action.resumed:
            self._receiving.forget_data(self._form)
        copied = self._copied_bytes(ground) if not action.resumed else 0
        self._reservation.take(action.most_bytes + copied, f"the {self._kind} {self._name}")
        if not action.resumed:
            if copied:
                self._reservation.give(copied)
            self._make(ground)
        elif ground is not None and self._layers_on(ground):
            self._backing = ground["image"]
        self._access = self._stack.enter_context(opened(self._path, self._form, writable=True))

    def _record(self, name: str) -> ImageRecord:
        record = self._store.image(name)
        if record is None:
            raise CapsuleError("base_missing", f"{name} is not here any more", "run capsule_send again")
        return record

    def _layers_on(self, ground: ImageRecord) -> bool:
        """Whether the image is a layer on its ground; otherwise it is a file that stands alone."""
        if self._form == "raw":
            return False
        if os.path.exists(self._path):
            return len(chain(self._path, self._form)) > 1
        return len(chain(ground["path"], ground["format"])) < MOST_LAYERS

    def _copied_bytes(self, ground: ImageRecord | None) -> int:
        """What is written of the ground itself before anything comes."""
        if ground is None or self._layers_on(ground):
            return 0
        with opened(ground["path"], ground["format"]) as image:
            return sum(length for dummy, length in image.data())

    def _make(self, ground: ImageRecord | None) -> None:
        layer = ground is not None and self._layers_on(ground)
        if ground is not None and layer:
            make_image(self._path, self._form, self._size_bytes, (ground["path"], ground["format"]))
            self._backing = ground["image"]
            return
        if ground is not None and self._form == ground["format"] == "raw" and shared_copy(ground["path"], self._path):
            os.truncate(self._path, self._size_bytes)
            return
        make_image(self._path, self._form, self._size_bytes)
        if ground is not None:
            with contextlib.ExitStack() as stack:
                source = stack.enter_context(opened(ground["path"], ground["format"]))
                target = stack.enter_context(opened(self._path, self._form, writable=True))
                copy_content(source, target, self._size_bytes)

    def _source(self, name: str) -> ImageAccess:
        if name not in self._sources:
            record = self._record(name)
            self._sources[name] = self._stack.enter_context(opened(record["path"], record["format"]))
        return self._sources[name]

    def _check(self, number: int) -> Segment:
        """Read a segment back."""
        content = self._open.read(number * SEGMENT_BYTES, bytes_of(self._size_bytes, number))
        segment = segment_of(content)
        if len(self._checked) < MOST_KEPT:
            self._checked[number] = segment
        return segment

    def _check_image(self, receiver: Receiver) -> bytes:
        """Make it last, and see that it is right as a whole."""
        self.save(receiver, now=True)
        kept = self._as_in_ground(receiver)
        segments = []
        for number in range(segments_in(self._size_bytes)):
            segment = kept.get(number) or self._checked.get(number)
            segments.append(segment or self._check(number))
        manifest = BlockManifest(self._size_bytes, tuple(segments))
        try:
            answer = receiver.image_checked(manifest)
        finally:
            self.save(receiver, now=True)
        self._seal(manifest)
        return answer

    def _as_in_ground(self, receiver: Receiver) -> t.Mapping[int, Segment]:
        """The segments that need not be read, as the ground is as it was when it was sealed."""
        if self._ground is None or self._store.changed(self._record(self._ground)) is not None:
            return {}
        return _Kept(self._store.manifest(self._ground), self._size_bytes, frozenset(receiver.kept))

    def _seal(self, manifest: BlockManifest) -> None:
        """It is whole: it goes to its place, and then into the index."""
        self.close()
        path = self._store.take_image(self._path, self._name, self._form)
        facts = file_facts(path)
        if facts is None:
            raise CapsuleError("image_missing", f"{path} has vanished", "run capsule_send again")
        record = image_record.record_of(
            self._name,
            kind=self._kind,
            path=path,
            form=self._form,
            size_bytes=self._size_bytes,
            facts=facts,
            sealed_at=utc_now(),
            trust_domain=self._trust_domain,
            backing=self._backing,
        )
        self._store.add_image(record, manifest)
        self._receiving.remove()


class _Kept(t.Mapping[int, Segment]):
    """Segments of a ground, read as they are asked for."""

    def __init__(self, ground: BlockManifest, size_bytes: int, numbers: frozenset[int]) -> None:
        self._ground = ground
        self._size_bytes = size_bytes
        self._numbers = numbers

    def __getitem__(self, number: int) -> Segment:
        there = number < len(self._ground.segments)
        if number not in self._numbers or not there:
            raise KeyError(number)
        if bytes_of(self._ground.size_bytes, number) != bytes_of(self._size_bytes, number):
            raise KeyError(number)
        return self._ground.segments[number]

    def __iter__(self) -> t.Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)
