# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a capsule of this host's store, as it is sent.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import bases_of, images_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import BASE, PREVIOUS, Source
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition import definition_file
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import (
    PARTS,
    StoredCapsule,
    sha256_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import saved_cpu
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess, opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_session import (
    Outgoing,
    OutgoingImage,
)


def outgoing(store: CapsuleStore, capsule: StoredCapsule) -> Outgoing:
    """A capsule with all that belongs to it.

    Raises:
        CapsuleError: something of it is missing or damaged here.
    """
    parts = {}
    for key in PARTS:
        path = capsule.part(key)
        if path is not None:
            parts[key] = _part(path, capsule.document[key], key, capsule)
    images = {name: _image(store, name, what, capsule) for what, name in images_of(capsule.document).items()}
    bases = bases_of(capsule.document)

    def known(names: t.Sequence[str]) -> t.Sequence[Source]:
        return [source for source in (_source(store, name, bases) for name in names) if source is not None]

    named = {disk["image"]: disk["base"] for disk in capsule.document["disks"] if disk["base"] is not None}

    def base_of(name: str) -> BlockManifest | None:
        source = _source(store, named[name], bases) if name in named else None
        return source.manifest if source is not None else None

    return Outgoing(capsule.digest, capsule.data, capsule.signature or b"", parts, images, known, base_of)


def what_of(capsule: StoredCapsule) -> str:
    """A capsule, for messages."""
    return f"capsule {capsule.document['number']} of {capsule.document['guest']['name']}"


def saved_cpu_of(capsule: Outgoing) -> dict[str, t.Any] | None:
    """The CPU with which the memory of a capsule was saved; None: it has no memory, or its definition says nothing."""
    try:
        running = definition_file.parsed(capsule.parts["definition"]).running
    except definition_file.DefinitionError:
        # The far end says what is wrong with it.
        return None
    return None if running is None else saved_cpu.described(running)


def unfinished_fill(store: CapsuleStore, capsule: StoredCapsule) -> None:
    """Refuse a guest whose disks have not come as a whole.

    Raises:
        CapsuleError: its fill is not finished.
    """
    guest = capsule.document["guest"]
    for record in store.runs("fill").values():
        if record["guest"]["uuid"] == guest["uuid"] and not record["ended"]:
            raise CapsuleError(
                "fill_unfinished",
                f"the disks of {guest['name']} have not come to this host as a whole (since {record['at']})",
                f"finish that first: capsule_fill with guest: {guest['name']}",
            )


def _part(path: str, wanted: t.Mapping[str, t.Any], key: str, capsule: StoredCapsule) -> bytes:
    content = durable_files.read_bytes(path, wanted["size_bytes"])
    if content is None or sha256_of([content]) != wanted["digest"]:
        raise CapsuleError(
            "part_damaged",
            f"the {key} of {what_of(capsule)} is not as it was saved",
            "save the guest again where it runs (capsule_save), or use an earlier capsule; capsule_verify checks them",
        )
    return content


def _image(store: CapsuleStore, name: str, what: str, capsule: StoredCapsule) -> OutgoingImage:
    record = store.image(name)
    if record is None:
        raise CapsuleError(
            "image_missing",
            f"the {what} of {what_of(capsule)} ({name}) is not in {store.directory}",
            "see what is missing of it (capsule_info); send it from a host that has all of it",
        )
    why = store.changed(record)
    if why is not None:
        raise CapsuleError(
            "image_changed",
            f"the {what} of {what_of(capsule)} is not known to be as it was saved: {why}",
            "see whether it is right (capsule_verify); save the guest again where it runs if it is not",
        )
    path, form = record["path"], record["format"]

    def reader() -> t.ContextManager[ImageAccess]:
        return opened(path, form)

    return OutgoingImage(what, store.manifest(name), reader)


def _source(store: CapsuleStore, name: str, bases: t.Container[str]) -> Source | None:
    """Our own manifest of an image; None where there is none. An image need not be here, but its manifest must be."""
    try:
        manifest = store.manifest(name)
    except CapsuleError:
        return None
    return Source(BASE if name in bases else PREVIOUS, manifest)
