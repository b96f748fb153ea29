# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the store of a host: images, capsules, and what must outlive a run (docs/contracts.md,
# "Capsule store"). What it gives out it has read anew, as other runs work on the same store.

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import stat
import typing as t
import uuid as uuids

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import manifest_format
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    IMAGE_PREFIX,
    BlockManifest,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import (
    at_rest,
    capsules,
    durable_files,
    layout,
    locks,
    run_records,
    uses,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import (
    StoredCapsule,
    Unreadable,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.layout import Layout
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.receiving import Receiving

MARKS = "kvmops.capsule_marks/1"
CAPSULE_DIR = "/var/lib/libvirt/capsules"

# Must be kept in sync with plugins/doc_fragments/capsule_dir.py.
CAPSULE_DIR_ARGUMENT: dict[str, dict[str, t.Any]] = {"capsule_dir": {"type": "path", "default": CAPSULE_DIR}}
# Must be kept in sync with plugins/doc_fragments/require_encrypted.py.
REQUIRE_ENCRYPTED_ARGUMENT: dict[str, dict[str, t.Any]] = {"require_encrypted": {"type": "bool", "default": False}}


class CapsuleStore:
    """The store in a directory of this host. Making this reads and writes nothing.

    Args:
        directory: such as L(CAPSULE_DIR).
        require_encrypted: the memory of guests may come here only if that is encrypted.
    """

    def __init__(self, directory: str, require_encrypted: bool = False) -> None:
        self.directory = os.path.normpath(directory)
        self._require_encrypted = require_encrypted
        self._layout = Layout(self.directory)

    def prepare(self) -> None:
        """Make the directories, where they are not there.

        Raises:
            CapsuleError: one of them cannot be made, or somebody else may write into the store.
        """
        try:
            os.makedirs(os.path.dirname(self.directory), mode=0o755, exist_ok=True)
        except OSError as error:
            raise durable_files.cannot("be made", self.directory, error) from error
        durable_files.make_directory(self.directory, layout.PASSABLE)
        self._check_owner()
        for name, mode in layout.DIRECTORIES:
            durable_files.make_directory(self._layout.inside(name), mode)

    def _check_owner(self) -> None:
        found = os.stat(self.directory)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise CapsuleError(
                "store_open",
                f"{self.directory} belongs to another user, or others may write into it: whoever that is could put"
                " images of their own in place of those that a guest starts from",
                f"chown root:root {self.directory} && chmod 0711 {self.directory}",
            )

    # Images

    def images(self) -> dict[str, ImageRecord]:
        """The records of all images, by name. Damaged ones are left out; see L(damaged_records)."""
        return self._records()[0]

    def damaged_records(self) -> list[Unreadable]:
        """The records of images that cannot be read."""
        return self._records()[1]

    def _records(self) -> tuple[dict[str, ImageRecord], list[Unreadable]]:
        found, damaged = {}, []
        for file in durable_files.names_in(self._layout.inside("index")):
            digits, dot = os.path.splitext(file)
            if dot != ".json" or not layout.is_digits(digits):
                continue
            try:
                record = self.image(IMAGE_PREFIX + digits)
            except CapsuleError as error:
                damaged.append(Unreadable(self._layout.inside("index", file), error.refusal))
                continue
            if record is not None:
                found[IMAGE_PREFIX + digits] = record
        return found, damaged

    def image(self, name: str) -> ImageRecord | None:
        """The record of an image; None: no such image is here.

        Raises:
            CapsuleError: it is damaged.
        """
        path = self._layout.record(name)
        document = durable_files.read_json(path)
        return None if document is None else image_record.parsed(document, name, path)

    def manifest(self, name: str) -> BlockManifest:
        """The block manifest of an image.

        Raises:
            CapsuleError: it is missing or damaged, or of another image.
        """
        path = self._layout.manifest(name)
        data = durable_files.mapped(path)
        if data is None:
            raise CapsuleError(
                "manifest_missing",
                f"there is no block manifest of {name} in {self.directory}",
                "make it anew from the image (capsule_base for a base), or send its capsule again",
            )
        manifest = manifest_format.parsed(data, path)
        if manifest.name != name:
            raise durable_files.damaged(path, f"it is of {manifest.name}")
        return manifest

    def has_manifest(self, name: str) -> bool:
        """Whether the block manifest of an image is here and right."""
        try:
            self.manifest(name)
        except CapsuleError:
            return False
        return True

    def image_path(self, name: str, form: str) -> str:
        """Where the store keeps an image of its own, C(raw) or C(qcow2)."""
        return self._layout.image(name, form)

    def owns(self, record: ImageRecord) -> bool:
        """Whether the file of an image is one of the store, and not one in a guest's own place."""
        return record["path"] == self.image_path(record["image"], record["format"])

    def add_image(self, record: ImageRecord, manifest: BlockManifest) -> None:
        """Add an image that is at its place. Its manifest is on disk first, then its record: so a record has all.

        Raises:
            CapsuleError: its file or its backing image is not there, or is not as the record says.
        """
        with self.locked():
            self._add_image(record, manifest)

    def _add_image(self, record: ImageRecord, manifest: BlockManifest) -> None:
        image_record.check(record)
        name = record["image"]
        if manifest.name != name or manifest.size_bytes != record["size_bytes"]:
            raise ValueError(f"the manifest of {manifest.name} is not that of {name}")
        differs = self.changed(record)
        if differs is not None:
            raise CapsuleError("image_changed", differs, "run the task again: it hashes the image anew")
        if record["backing"] is not None and self.image(record["backing"]) is None:
            raise CapsuleError(
                "backing_missing",
                f"{record['path']} stands on {record['backing']}, which is not in {self.directory}",
                "seal that image first (capsule_base), or send it here",
            )
        durable_files.write_bytes(self._layout.manifest(name), manifest_format.encoded(manifest))
        durable_files.write_json(self._layout.record(name), record)

    def add_manifest(self, manifest: BlockManifest) -> None:
        """Keep the manifest of an image that is on another host only: what is sent there next is compared with it."""
        durable_files.write_bytes(self._layout.manifest(manifest.name), manifest_format.encoded(manifest))

    @contextlib.contextmanager
    def fresh_file(self, form: str) -> t.Iterator[str]:
        """A new file for an image that is to become one of the store (L(take_image)); what is left in the end goes."""
        path = self._layout.inside("images", f".{uuids.uuid4().hex}.{form}")
        with locks.locked(path, path, exclusive=True):
            try:
                yield path
            finally:
                _unlink(path)

    def take_image(self, path: str, name: str, form: str) -> str:
        """Move a file that is whole to the place of an image of the store, and make it last; returns that place.

        The file is made read-only, and no one but root may read it: libvirt gives it to QEMU when a guest starts.

        Args:
            path: on the same file system, such as L(Receiving.data_path).
            name, form: of the image.
        """
        place = self.image_path(name, form)
        try:
            os.chmod(path, 0o400)
            durable_files.sync_file(path)
            os.rename(path, place)
            durable_files.sync_directory(os.path.dirname(place))
            durable_files.sync_directory(os.path.dirname(path))
        except OSError as error:
            raise durable_files.cannot("be moved to its place", path, error) from error
        return place

    def forget_image(self, name: str) -> None:
        """Take an image out of the index. Its file stays."""
        for path in (self._layout.record(name), self._layout.manifest(name)):
            _unlink(path)

    def set_aside(self, record: ImageRecord) -> str | None:
        """Give the file of an image of the store a name that nobody looks for; None: it stays, or there is none.

        It is to be removed with L(durable_files.erase). So a new image with the same name is safe from that.
        """
        if not self.owns(record):
            return None
        suffix = durable_files.MEMORY_SUFFIX if record["kind"] == image_record.MEMORY else ".disk"
        path = self._layout.inside("images", f".{uuids.uuid4().hex}{suffix}")
        try:
            os.rename(record["path"], path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise durable_files.cannot("be removed", record["path"], error) from error
        return path

    def remove_image(self, name: str) -> None:
        """Forget an image; its file is removed if it is one of the store. First the record, then the file."""
        record = self.image(name)
        self.forget_image(name)
        path = None if record is None else self.set_aside(record)
        if path is not None:
            try:
                durable_files.erase(path)
            except OSError as error:
                raise durable_files.cannot("be removed", path, error) from error

    def changed(self, record: ImageRecord) -> str | None:
        """Why an image is not known to be as it was when it was sealed, as a sentence without a full stop; or None."""
        return image_record.facts_differ(record, file_facts(record["path"]))

    # Capsules

    def capsules(self, uuid: str | None = None) -> list[StoredCapsule]:
        """All capsules that can be read, of a guest or of all guests, by the guest's name and the number."""
        return capsules.listed(self._layout, uuid)[0]

    def unreadable(self, uuid: str | None = None) -> list[Unreadable]:
        """The capsules that cannot be read."""
        return capsules.listed(self._layout, uuid)[1]

    def capsule(self, uuid: str, number: int) -> StoredCapsule | None:
        """One capsule; None: it is not here.

        Raises:
            CapsuleError: it is damaged.
        """
        return capsules.read(self._layout.capsule(uuid, number))

    def find_capsule(self, guest: str, number: int | None = None) -> StoredCapsule:
        """The capsule that an operator means.

        Args:
            guest: its name or UUID.
            number: None: the newest one that is here.

        Raises:
            CapsuleError: there is none, several guests have that name, or it is damaged.
        """
        return capsules.find(self._layout, guest, number)

    def add_capsule(self, data: bytes, signature: bytes | None, parts: t.Mapping[str, str]) -> StoredCapsule:
        """Take a capsule in, as a whole or not at all; see L(capsules.add)."""
        with self.locked():
            return capsules.add(self._layout, data, signature, parts)

    def remove_capsule(self, capsule: StoredCapsule) -> None:
        """Remove a capsule. Its images stay."""
        capsules.remove(capsule)

    def known(self, uuid: str) -> Known:
        """What the host knows of a guest, whatever became of its capsules."""
        return capsules.known(self._layout, uuid)

    def remember(self, uuid: str, now: Known) -> None:
        """Write what the host knows of a guest from now on. The number never becomes lower."""
        capsules.remember(self._layout, uuid, now)

    def next_number(self, uuid: str) -> int:
        """The number for the next capsule of a guest: higher than any that this host has seen."""
        numbers = [int(name) for name in durable_files.names_in(self._layout.guest(uuid)) if layout.is_number(name)]
        return max([self.known(uuid).number, *numbers]) + 1

    def layers(self, uuid: str) -> str:
        """The file with the images of a guest's layers; see L(guest_layers)."""
        return os.path.join(self._layout.guest(uuid), "layers.json")

    def work_folder(self, name: str) -> str:
        """The directory of a run for files that are not at their place yet; made if it is not there."""
        folder = self._layout.inside("runs", name)
        durable_files.make_directory(folder)
        return folder

    def remove_work_folder(self, name: str) -> None:
        """Remove the directory of a run with all that is in it."""
        durable_files.erase_folder(self._layout.inside("runs", name))

    # What is under way

    def receiving(self, name: str) -> Receiving:
        """The directory in which an image is received; there may be none yet."""
        return Receiving(name, self._layout.receiving(name))

    def receivings(self) -> list[Receiving]:
        """All images that have begun to come."""
        names = durable_files.names_in(self._layout.inside("receiving"))
        return [self.receiving(IMAGE_PREFIX + name) for name in names if layout.is_digits(name)]

    def run(self, name: str) -> run_records.RunRecord | None:
        """The record of a run; None: there is none. See L(run_records)."""
        return run_records.read(self._layout.run(name))

    def runs(self, kind: str | None = None) -> dict[str, run_records.RunRecord]:
        """All records of runs, or those of a kind, by name.

        Raises:
            CapsuleError: one of them is damaged: nobody knows what that run needs.
        """
        names = durable_files.names_in(self._layout.inside("runs"))
        found = ((name[:-5], self.run(name[:-5])) for name in names if name.endswith(".json"))
        return {name: one for name, one in found if one is not None and kind in (None, one["kind"])}

    def write_run(self, name: str, record: run_records.RunRecord) -> None:
        """Write the record of a run; it is on disk when this returns."""
        run_records.check(record)
        durable_files.write_json(self._layout.run(name), record)

    def remove_run(self, name: str) -> None:
        """Remove the record of a run."""
        _unlink(self._layout.run(name))

    # Locks

    @contextlib.contextmanager
    def locked(self, exclusive: bool = False, wait_s: float = locks.WAIT_S) -> t.Iterator[None]:
        """Keep removals away from what is done meanwhile; exclusive: keep everybody away.

        For what takes long, such as a send, L(using) is right: a lock for hours would keep others away.

        Raises:
            CapsuleError: others hold it for longer than that.
        """
        path = self._layout.inside("lock")
        with locks.locked(path, f"the store {self.directory}", exclusive=exclusive, wait_s=wait_s):
            yield

    @contextlib.contextmanager
    def guest_lock(self, uuid: str, wait_s: float = 0.0) -> t.Iterator[None]:
        """Be the only one that saves, starts, receives or sends capsules of a guest here.

        Raises:
            CapsuleError: another run is at it.
        """
        durable_files.make_directory(self._layout.guest(uuid))
        path = os.path.join(self._layout.guest(uuid), "lock")
        with locks.locked(path, f"what belongs to guest {uuid}", exclusive=True, wait_s=wait_s):
            yield

    def lock_path(self, digest: str) -> str:
        """The file that is locked while a capsule with this digest comes here."""
        return self._layout.inside("runs", f"receive-{layout.digits_of(IMAGE_PREFIX + digest.partition(':')[2])}.lock")

    def send_lock_path(self, digest: str, host: str) -> str:
        """The file that is locked while this host sends a capsule with this digest to another host."""
        end = hashlib.sha256(host.encode("utf-8", "replace")).hexdigest()[:16]
        return self._layout.inside("runs", f"send-{digest.partition(':')[2][:32]}-{end}.lock")

    def move_lock_path(self, uuid: str) -> str:
        """The file that is locked while this host moves a guest away."""
        return self._layout.inside("runs", f"move-{os.path.basename(uuid)}.lock")

    def guest_folder(self, uuid: str) -> str:
        """The directory of a guest; it is made where it is not there."""
        durable_files.make_directory(self._layout.guest(uuid))
        return self._layout.guest(uuid)

    @contextlib.contextmanager
    def using(self, names: t.Iterable[str], why: str) -> t.Iterator[None]:
        """Keep images (by name) and capsules (by digest) from being removed for as long as this lasts.

        Args:
            names: of them.
            why: as a sentence without a full stop, such as C(it is sent to h3).
        """
        with contextlib.ExitStack() as stack:
            with self.locked():
                stack.enter_context(uses.using(self._layout.inside("uses"), names, why))
            yield

    def in_use(self) -> dict[str, str]:
        """Why images and capsules must not be removed, by name or digest: by runs that are at work, and by records."""
        found = uses.in_use(self._layout.inside("uses"))
        for record in self.runs().values():
            if not record["ended"]:
                for name in record["needs"]:
                    found.setdefault(name, f"{record['kind']} of {record['guest']['name']} needs it")
        return found

    def sweep(self) -> None:
        """Remove what runs that died have left. The lock must be held exclusively."""
        uses.sweep(self._layout.inside("uses"))
        capsules.sweep(self._layout)
        for path in durable_files.hidden_folders(self._layout.inside("receiving")):
            durable_files.erase_folder(path)
        for name, dummy in layout.DIRECTORIES:
            for path in durable_files.left_over(self._layout.inside(name)):
                # A copy of an image takes long, and holds its lock meanwhile.
                if not locks.is_held(path) and (name == "images" or durable_files.is_old(path)):
                    with contextlib.suppress(OSError):
                        durable_files.erase(path)

    def marks(self) -> dict[str, datetime.datetime]:
        """When each image and capsule was found not to be needed, by name or digest; a damaged file holds none."""
        try:
            document = durable_files.read_json(self._layout.inside("marks.json"), durable_files.MOST_MARKS_BYTES)
            rows = document["marks"].items() if isinstance(document, dict) else ()
            return {name: datetime.datetime.fromisoformat(at) for name, at in rows if at.endswith("+00:00")}
        except (AttributeError, CapsuleError, KeyError, TypeError, ValueError):
            # Then all are marked anew, and stay for longer.
            return {}

    def write_marks(self, marks: t.Mapping[str, datetime.datetime]) -> None:
        """Write when each image and capsule was found not to be needed."""
        rows = {name: at.astimezone(datetime.timezone.utc).isoformat() for name, at in marks.items()}
        durable_files.write_json(self._layout.inside("marks.json"), {"schema": MARKS, "marks": rows})

    def memory_refusal(self, guest: str, host: str) -> Refusal | None:
        """Why the memory of a guest must not come into this store, or None.

        Args:
            guest: its name.
            host: name of this host.
        """
        return at_rest.memory_refusal(self.directory, guest, host) if self._require_encrypted else None

    def free_bytes(self) -> int:
        """How much room the file system of the store has for root."""
        found = os.statvfs(self.directory)
        return found.f_bfree * found.f_frsize

    def remove_all_of(self, uuid: str) -> None:
        """Remove the directory of a guest, with what the host knows of it."""
        durable_files.erase_folder(self._layout.guest(uuid))


def file_facts(path: str) -> dict[str, int] | None:
    """Inode, size and time of change of the content of a file; None: there is no such file. Links are followed."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return {"inode": found.st_ino, "size_bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def _unlink(path: str) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            durable_files.sync_directory(os.path.dirname(path))
    except OSError as error:
        raise durable_files.cannot("be removed", path, error) from error
