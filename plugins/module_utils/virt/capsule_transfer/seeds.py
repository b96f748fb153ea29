# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: disks that were carried here: what is on them goes into the store, and need not be sent.

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import capsule_document
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import DISK, MEMORY
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.hashing import hashed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.copying import (
    copy_content,
    make_image,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.reservation import Reservation

_QCOW2 = b"QFI\xfb"


def seed(store: CapsuleStore, path: str, document: bytes, host: str, dry: bool = False) -> list[str]:
    """Take what is at a path into the store.

    A file is an image. Of a directory, each file in it and in C(images) below it is one. What has come is used only if
    the store then has a digest of it that somebody asks for: so a wrong disk does no harm.

    Args:
        store: where it goes.
        path: of the image or the directory.
        document: of the capsule that is to come: its trust domain, and which images are memory.
        host: name of this host, for messages.
        dry: hash only, and change nothing.

    Returns:
        the names of the images that were taken.

    Raises:
        CapsuleError: there is nothing, it cannot be read, or there is no space for it.
    """
    capsule = capsule_document.parsed(document, "the capsule that is to come")
    taken = []
    for file in _files(path):
        form = _form(file)
        _check_below(store, path, file, form)
        with opened(file, form) as image:
            manifest = hashed(image, file).manifest
            if store.image(manifest.name) is not None:
                continue
            memory = capsule["memory"]
            kind = MEMORY if memory is not None and memory["image"] == manifest.name else DISK
            if not dry:
                _take(store, file, form, kind, manifest, capsule["trust_domain"], host)
        taken.append(manifest.name)
    return taken


def _files(path: str) -> list[str]:
    """The images at a path: that file, or those in the directory and in C(images) below it."""
    if os.path.isfile(path) or _is_device(path):
        return [path]
    if not os.path.isdir(path):
        raise CapsuleError(
            "seed_missing",
            f"there is no {path} on this host",
            "set seed_from to the image or the directory on the disk that was carried here, and see that it is mounted",
        )
    found = []
    for folder in (path, os.path.join(path, "images")):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found += [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    images = [file for file in found if os.path.isfile(file) and not os.path.islink(file) and _is_image(file)]
    if not images:
        raise CapsuleError(
            "seed_missing",
            f"there is no image in {path} on this host",
            "set seed_from to the directory with the files *.qcow2, *.raw or *.img",
        )
    return images


def _check_below(store: CapsuleStore, path: str, file: str, form: str) -> None:
    """Refuse an image that would show the content of other files of this host."""
    own = [os.path.realpath(path), os.path.realpath(os.path.join(store.directory, "images"))]
    known = {os.path.realpath(record["path"]) for record in store.images().values()}
    for below in chain(file, form)[1:]:
        if below.path not in known and not below.path.startswith(tuple(f"{folder}/" for folder in own)):
            raise CapsuleError(
                "seed_hostile",
                f"{file} is not used: it stands on {below.path}, which is neither on the disk that was carried here nor"
                " an image of the store",
                "if this image is yours, make a copy that stands alone where its files are: qemu-img convert -O qcow2",
            )


def _is_image(file: str) -> bool:
    return file.endswith((".qcow2", ".raw", ".img"))


def _is_device(path: str) -> bool:
    return path.startswith("/dev/") and os.path.exists(path)


def _form(file: str) -> str:
    """The format, by the first bytes: the operator has carried it, and its digest decides what it is worth."""
    if file.endswith((".raw", ".img")):
        return "raw"
    with open(file, "rb") as content:
        return "qcow2" if content.read(4) == _QCOW2 else "raw"


def _take(
    store: CapsuleStore, file: str, form: str, kind: str, manifest: BlockManifest, trust_domain: str, host: str
) -> None:
    """Copy an image into the store, and prove that the copy is right."""
    into = "raw" if kind == MEMORY else "qcow2"
    receiving = store.receiving(manifest.name)
    receiving.prepare()
    receiving.forget_state()
    path = receiving.data_path(into)
    reservation = Reservation(os.path.join(receiving.folder, "reserved"), host)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with opened(file, form) as source:
        reservation.take(sum(length for dummy, length in source.data()), f"the disk {file}")
        reservation.release()
        make_image(path, into, manifest.size_bytes)
        with opened(path, into, writable=True) as target:
            copy_content(source, target, manifest.size_bytes)
            target.flush()
    with opened(path, into) as copy:
        found = hashed(copy, path).manifest.name
    if found != manifest.name:
        raise CapsuleError(
            "seed_damaged",
            f"the copy of {file} has another digest than {file} had a moment ago",
            f"see that nobody writes to {file}, and check the disks (dmesg)",
        )
    place = store.take_image(path, manifest.name, into)
    store.add_image(_record(manifest, kind, place, into, trust_domain), manifest)
    receiving.remove()


def _record(manifest: BlockManifest, kind: str, place: str, form: str, trust_domain: str) -> dict[str, t.Any]:
    facts = file_facts(place)
    if facts is None:
        raise CapsuleError("image_missing", f"{place} has vanished", "run capsule_send again")
    return image_record.record_of(
        manifest.name,
        kind=kind,
        path=place,
        form=form,
        size_bytes=manifest.size_bytes,
        facts=facts,
        sealed_at=utc_now(),
        trust_domain=trust_domain,
    )
