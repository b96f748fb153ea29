# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: makes the capsule of what is frozen: digests of memory and disks, document, signature. The
# guest runs meanwhile, if it was to go on.

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import canonical_json
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import MOST_LAYERS, SCHEMA
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.changed_ranges import Hint
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition import definition_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import capsules, guest_layers
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.hashing import Hashed, Progress, hashed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.signature import signed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.save_record import SavedDisk, SaveRecord


class Finished(t.NamedTuple):
    """A capsule, and what it took to make it.

    Attributes:
        capsule: as it is in the store.
        disks: for each disk, what the module returns of it.
        memory: the same of the memory, or None.
    """

    capsule: StoredCapsule
    disks: list[dict[str, t.Any]]
    memory: dict[str, t.Any] | None


class Finisher:
    """Makes one capsule.

    Args:
        store: of this host.
        record: of the save, which is C(frozen).
        versions: of libvirt and QEMU here.
        progress: is told what is hashed, and how far it is.
    """

    def __init__(
        self,
        store: CapsuleStore,
        record: SaveRecord,
        versions: t.Mapping[str, str],
        progress: t.Callable[[str], Progress | None] = lambda _what: None,
    ) -> None:
        self._store = store
        self._record = record
        self._versions = versions
        self._progress = progress
        self._uuid = record.guest["uuid"]

    def finish(self, sign_with: str | None) -> Finished:
        """Hash what is frozen, and add the capsule to the store.

        Raises:
            CapsuleError: something cannot be read, signed or written. The record stays, and the next run goes on.
        """
        parent = self._parent()
        disks = [self._disk(disk, parent) for disk in self._record.disks]
        memory = self._memory()
        document = self._document(parent, [part for part, dummy in disks], memory[0] if memory else None)
        data = canonical_json.canonical(document)
        signature = signed(data, sign_with) if sign_with else None
        parts = {key: f"{self._record.folder}/{name}" for key, name in capsules.PARTS.items() if document[key]}
        capsule = self._store.add_capsule(data, signature, parts)
        self._store.remember(self._uuid, Known(capsule.document["number"], capsule.digest, signature is not None))
        return Finished(capsule, [told for dummy, told in disks], memory[1] if memory else None)

    def _parent(self) -> StoredCapsule | None:
        """The capsule before this one; where it is damaged, this one has none."""
        earlier = [one for one in self._store.capsules(self._uuid) if one.document["number"] < self._record.number]
        return max(earlier, key=lambda one: int(one.document["number"]), default=None)

    # Disks

    def _disk(self, disk: SavedDisk, parent: StoredCapsule | None) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
        """One disk, for the document and for the operator."""
        below, anew = self._below(disk)
        earlier = self._store.manifest(below["image"]) if below else None
        with opened(disk.path, disk.form) as access:
            written = access.allocated()
            hint = Hint(below["image"], tuple(written)) if below else None
            found = hashed(
                access,
                disk.target,
                earlier=earlier,
                hint=hint,
                turn=self._record.number,
                progress=self._progress(f"disk {disk.target}"),
            )
        image = found.manifest.name
        self._add(image_record.DISK, disk.path, disk.form, found, below["image"] if below else None)
        guest_layers.remember(self._store, self._uuid, disk.path, image)
        base, layers = _lineage(disk.target, image, self._record.number, below, parent)
        part = {
            "target": disk.target,
            "size_bytes": found.manifest.size_bytes,
            "image": image,
            "base": base,
            "layers": layers,
        }
        return part, {
            "target": disk.target,
            "image": image,
            "path": disk.path,
            "layer_bytes": sum(length for dummy, length in written),
            "read_bytes": found.read_bytes + (anew.read_bytes if anew else 0),
            "full_because": found.full_because or (anew.full_because if anew else None),
            "layers": len(layers),
        }

    def _below(self, disk: SavedDisk) -> tuple[ImageRecord | None, Hashed | None]:
        """The image that the frozen layer stands on, and its digests if they had to be computed now.

        That is so where nobody has done it before, and where they were lost, such as in a crash.
        """
        files = chain(disk.path, disk.form)
        if len(files) == 1:
            return None, None
        path, form = files[1].path, files[1].form
        known = guest_layers.image_at(self._store, self._uuid, path)
        if known is not None and self._store.has_manifest(known["image"]):
            return known, None
        with opened(path, form) as access:
            found = hashed(
                access, f"{disk.target} below {disk.path}", progress=self._progress(f"base of {disk.target}")
            )
        self._store.add_manifest(found.manifest)
        because = f"there were no digests of {path}, on which {disk.target} stands"
        record = self._add(image_record.DISK, path, form, found, None, base=True)
        return record, found._replace(full_because=because)

    def _add(
        self, kind: str, path: str, form: str, found: Hashed, backing: str | None, *, base: bool = False
    ) -> ImageRecord:
        """The record of an image; one that is here already with the same content stays as it is."""
        image = found.manifest.name
        there = self._store.image(image)
        if there is not None and self._store.changed(there) is None:
            return there
        facts = file_facts(path)
        if facts is None:
            raise CapsuleError("image_missing", f"{path} has gone while it was hashed", "see who removes files there")
        record = image_record.record_of(
            image,
            kind=kind,
            path=path,
            form=form,
            size_bytes=found.manifest.size_bytes,
            facts=facts,
            sealed_at=utc_now(),
            trust_domain=self._record["trust_domain"],
            backing=None if backing == image else backing,
            base=base,
        )
        self._store.add_image(record, found.manifest)
        return record

    # Memory

    def _memory(self) -> tuple[dict[str, t.Any], dict[str, t.Any]] | None:
        if self._record["consistency"] != "memory":
            return None
        waits = os.path.exists(self._record.memory_file)
        image = None if waits else self._record["memory_image"]
        record = self._store.image(image) if image else None
        if record is None:
            # After a crash it may be at its place already, without a record.
            path = self._store.image_path(image, "raw") if image else self._record.memory_file
            record = self._take_memory(path)
            image = record["image"]
        part = {"format": self._record["memory_format"], "size_bytes": record["size_bytes"], "image": image}
        taken = os.stat(record["path"]).st_blocks * 512
        return part, {**part, "allocated_bytes": taken}

    def _take_memory(self, path: str) -> ImageRecord:
        with opened(path, "raw") as access:
            found = hashed(access, "memory", progress=self._progress("memory"))
        image = found.manifest.name
        self._record.write(memory_image=image)
        place = self._store.take_image(path, image, "raw")
        return self._add(image_record.MEMORY, place, "raw", found, None)

    # The document

    def _document(
        self, parent: StoredCapsule | None, disks: list[dict[str, t.Any]], memory: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        definition = self._part("definition")
        with open(f"{self._record.folder}/definition.xml", "rb") as file:
            kind = definition_file.parsed(file.read()).persistent.find("os/type")
        return {
            "schema": SCHEMA,
            "guest": self._record.guest,
            "number": self._record.number,
            "parent": {"number": parent.document["number"], "digest": parent.digest} if parent else None,
            "made_at": self._record["made_at"],
            "made_on": self._record["made_on"],
            "trust_domain": self._record["trust_domain"],
            "consistency": self._record["consistency"],
            "versions": dict(self._versions),
            "arch": kind.get("arch") if kind is not None else "",
            "machine": kind.get("machine") if kind is not None else "",
            "definition": definition,
            "nvram": self._part("nvram"),
            "tpm": self._part("tpm"),
            "memory": memory,
            "disks": disks,
        }

    def _part(self, key: str) -> dict[str, t.Any] | None:
        try:
            with open(f"{self._record.folder}/{capsules.PARTS[key]}", "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return None
        return {"size_bytes": len(content), "digest": capsules.sha256_of([content])}


def _lineage(
    target: str, image: str, number: int, below: ImageRecord | None, parent: StoredCapsule | None
) -> tuple[str | None, list[dict[str, t.Any]]]:
    """The base of a disk, and its layers: those of the capsule before, where it stands on that one's image."""
    before = None
    for disk in parent.document["disks"] if parent else ():
        if disk["target"] == target and below is not None and disk["image"] == below["image"]:
            before = disk
    new = {"number": number, "image": image}
    if before is None or len(before["layers"]) >= MOST_LAYERS:
        return (below["image"] if below else None), [new]
    if before["image"] == image:
        # Nobody has written to it.
        return before["base"], before["layers"]
    return before["base"], [*before["layers"], new]
