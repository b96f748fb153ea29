# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: seals an image as a base: an image that never changes, named by what a guest sees of it.

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import bases_of, images_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record, qcow2_header
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import direct_reads, image_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.hashing import hashed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer, chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_writers import (
    is_written_by_qemu,
    writing_guests,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import LiveLines
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import node_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.image_users import unused

#: QEMU rounds the size of a raw file up to this, so its digest would not be that of what a guest sees.
SECTOR_BYTES = 512


class SealRequest(t.NamedTuple):
    """What is to be sealed.

    Attributes:
        path: of the image.
        form: its format; None: what its first bytes say, if it stands alone.
        copy: whether the store is to have a copy of its own in any case.
        image: the name that it must turn out to have; None: any.
        trust_domain: the operator's word.
        at: the time of now, as in all documents.
        dry: change nothing, and say what would be done.
    """

    path: str
    form: str | None
    copy: bool
    image: str | None
    trust_domain: str
    at: str
    dry: bool


class Sealed(t.NamedTuple):
    """A base, and what was done for it.

    Attributes:
        record: of the image; its path is null where a copy would have been made.
        changed: whether anything was (or would be) changed.
        copied_because: why the store has a copy of its own; None: the image is sealed where it is.
        read_bytes: what was hashed.
    """

    record: ImageRecord
    changed: bool
    copied_because: str | None
    read_bytes: int


def seal(store: CapsuleStore, connection: t.Callable[[], t.Any], request: SealRequest, lines: LiveLines) -> Sealed:
    """Seal an image as a base, where it is not one already.

    Args:
        store: of this host.
        connection: opens a connection to libvirtd, read-only, as a context manager.
        request: what is to be sealed.
        lines: tell how far it is.

    Raises:
        CapsuleError: it cannot be sealed; nothing was changed then.
    """
    path = os.path.realpath(request.path)
    known = _sealed_already(store, path)
    if known is not None and not request.copy and store.has_manifest(known["image"]):
        _check_name(known["image"], request.image, path)
        _check_domain(known, request.trust_domain)
        return Sealed(known, False, None, 0)
    layers = chain(path, request.form or probed(path))
    _check_size(layers[0])
    _check_writers(connection, path)
    backing, why = _place(store, layers, request.copy)
    before = file_facts(path)
    with opened(path, layers[0].form) as image:
        found = hashed(image, os.path.basename(path), progress=lines.counter(f"hashing {path}"))
    if file_facts(path) != before:
        raise CapsuleError(
            "image_changed", f"{path} was written to while it was read", f"see which program does: fuser -v {path}"
        )
    name = found.manifest.name
    _check_name(name, request.image, path)
    there = store.image(name)
    if there is not None and store.changed(there) is None:
        _check_domain(there, request.trust_domain)
        return _marked_as_base(store, there, found.manifest, found.read_bytes, request.dry)
    record = image_record.record_of(
        name,
        kind=image_record.DISK,
        path=path if why is None else store.image_path(name, layers[0].form),
        form=layers[0].form,
        size_bytes=found.manifest.size_bytes,
        facts=before or {},
        sealed_at=request.at,
        trust_domain=request.trust_domain,
        backing=backing,
        base=True,
    )
    if not request.dry:
        record = _store(store, layers, record, found.manifest, why is not None, lines)
    return Sealed(record, True, why, found.read_bytes)


def probed(path: str) -> str:
    """The format of an image by its first bytes.

    A guest can write any first bytes into its raw disk. So they are believed only where they name no other file.

    Raises:
        CapsuleError: it may be either.
    """
    with open(path, "rb") as file:
        data = file.read(qcow2_header.HEADER_BYTES)
    if data[:4] != qcow2_header.MAGIC:
        return "raw"
    with contextlib.suppress(ValueError):
        header = qcow2_header.parsed(data)
        if header.backing is None and not header.data_file:
            return "qcow2"
    raise CapsuleError(
        "format_unknown",
        f"{path} looks like qcow2 and names another file; a guest can make its raw disk look so",
        "set format to qcow2 if it is one, or to raw",
    )


def _sealed_already(store: CapsuleStore, path: str) -> ImageRecord | None:
    """The record of a base that is at this place, as it was when it was sealed."""
    for record in store.images().values():
        if record["base"] and record["path"] == path and store.changed(record) is None:
            return record
    return None


def _check_name(name: str, wanted: str | None, path: str) -> None:
    if wanted not in (None, name):
        raise CapsuleError(
            "base_differs",
            f"{path} is {name}, and {wanted} was wanted; on another base a disk would be silently corrupt",
            "find the image with that digest (capsule_info on the other host says its path), and put it here",
        )


def _check_domain(record: ImageRecord, trust_domain: str) -> None:
    if record["trust_domain"] != trust_domain:
        raise CapsuleError(
            "trust_domain",
            f"{record['image']} is here already, in the trust domain {record['trust_domain']}:"
            f" {trust_domain} would share blocks with it",
            f"set trust_domain to {record['trust_domain']}, or give {trust_domain} a capsule_dir of its own",
        )


def _check_size(top: Layer) -> None:
    if top.size_bytes % SECTOR_BYTES or not top.size_bytes:
        raise CapsuleError(
            "image_size",
            f"{top.path} has {top.size_bytes} bytes, and a guest sees whole sectors of {SECTOR_BYTES} bytes",
            f"make it larger: truncate -s %{SECTOR_BYTES} {top.path}" if top.size_bytes else "name another image",
        )


def is_compressed(layers: t.Sequence[Layer]) -> bool:
    """Whether an image has content that is not in its files as a guest sees it."""
    description = direct_reads.described(node_of(layers))
    extents = direct_reads.parsed(description, layers, layers[0].size_bytes) if description else None
    return extents is not None and direct_reads.ASK in extents.files


def _check_writers(connection: t.Callable[[], t.Any], path: str) -> None:
    with connection() as opened_connection:
        guests = writing_guests(opened_connection, path)
    if guests:
        raise CapsuleError(
            "base_written",
            f"{path} is a disk that {listed(guests)} can write to, and a base never changes",
            f"give the guest a layer of its own (qemu-img create -f qcow2 -b {path} -F FORMAT NEW), or seal a copy",
        )
    if is_written_by_qemu(path):
        raise CapsuleError(
            "base_written",
            f"a QEMU process has {path} open to write to it, and a base never changes",
            f"see which: fuser -v {path}; end it, or seal a copy",
        )


def _place(store: CapsuleStore, layers: t.Sequence[Layer], copy: bool) -> tuple[str | None, str | None]:
    """The base below an image that stays where it is, or None; and why it does not stay there, or None."""
    top = layers[0]
    if copy:
        return None, "that was asked for"
    if not stat.S_ISREG(os.stat(top.path).st_mode):
        return None, "it is a block device"
    if len(layers) > 1:
        below = _record_at(store, layers[1].path)
        if below is None:
            return None, f"it stands on {layers[1].path}, which is no sealed image"
        return below["image"], None
    if top.form == "qcow2" and is_compressed(layers):
        return None, "it is compressed, and guests would unpack each block that they read"
    return None, None


def _record_at(store: CapsuleStore, path: str) -> ImageRecord | None:
    for record in store.images().values():
        if record["path"] == path and store.changed(record) is None:
            return record
    return None


def _marked_as_base(
    store: CapsuleStore, record: ImageRecord, manifest: BlockManifest, read_bytes: int, dry: bool
) -> Sealed:
    """The image is here already, at this place or at another one."""
    changed = not record["base"] or not store.has_manifest(record["image"])
    if changed:
        record = {**record, "base": True}
        if not dry:
            store.add_image(record, manifest)
    return Sealed(record, changed, None, read_bytes)


def _store(
    store: CapsuleStore,
    layers: t.Sequence[Layer],
    record: ImageRecord,
    manifest: BlockManifest,
    copy: bool,
    lines: LiveLines,
) -> ImageRecord:
    store.prepare()
    if copy:
        return _copied(store, layers, record, manifest, lines)
    os.chmod(record["path"], stat.S_IMODE(os.stat(record["path"]).st_mode) & ~0o222)
    store.add_image(record, manifest)
    return record


def _copied(
    store: CapsuleStore, layers: t.Sequence[Layer], record: ImageRecord, manifest: BlockManifest, lines: LiveLines
) -> ImageRecord:
    _check_room(store, layers)
    source = layers[0].path
    with store.fresh_file(record["format"]) as fresh:
        image_copy.copy(layers, fresh, record["format"], lines.counter(f"copying {source}"))
        with opened(fresh, record["format"]) as image:
            made = hashed(image, "the copy", progress=lines.counter("hashing the copy")).manifest
        if made.name != manifest.name:
            raise CapsuleError(
                "copy_differs",
                f"the copy of {source} is {made.name}, and {source} is {manifest.name}",
                "check the disk of this host (dmesg, smartctl), and run the task again",
            )
        with store.locked():
            place = store.take_image(fresh, record["image"], record["format"])
            record = {**record, "path": place, "facts": file_facts(place) or {}}
            store.add_image(record, manifest)
    return record


def _check_room(store: CapsuleStore, layers: t.Sequence[Layer]) -> None:
    with opened(layers[0].path, layers[0].form) as image:
        needed = sum(length for dummy, length in image.data())
    free = store.free_bytes()
    if needed > free:
        raise CapsuleError(
            "store_full",
            f"a copy of {layers[0].path} may take {human_bytes(needed)}, and {store.directory} has"
            f" {human_bytes(free)} left",
            "make room there (capsule_prune removes what nobody needs), or set capsule_dir to another file system",
        )


def unseal(store: CapsuleStore, connection: t.Callable[[], t.Any], name: str, dry: bool) -> bool:
    """Remove a base: a copy of the store with its file, and any other image but not its file. False: it is not here.

    Raises:
        CapsuleError: it is in use.
    """
    record = store.image(name)
    if record is None:
        return False
    with contextlib.ExitStack() as stack:
        if not dry:
            stack.enter_context(store.locked(exclusive=True))
        why = against_removal(store, connection, record)
        if why is not None:
            raise CapsuleError(**why)
        if not dry:
            store.remove_image(name)
            if not store.owns(record):
                with contextlib.suppress(FileNotFoundError):
                    os.chmod(record["path"], stat.S_IMODE(os.stat(record["path"]).st_mode) | stat.S_IWUSR)
    return True


def against_removal(store: CapsuleStore, connection: t.Callable[[], t.Any], record: ImageRecord) -> Refusal | None:
    """Why an image is needed, or None."""
    name = record["image"]
    standing = [one["path"] for one in store.images().values() if one["backing"] == name]
    needing = [
        f"capsule {one.document['number']} of {one.document['guest']['name']}"
        for one in store.capsules()
        if name in {*images_of(one.document).values(), *bases_of(one.document)}
    ]
    unreadable = store.unreadable()
    with connection() as opened_connection:
        named = record["path"] not in unused(opened_connection, [record["path"]])
    if standing or needing:
        what = listed([*standing, *needing])
        return _needed(record, f"{what} needs it" if len([*standing, *needing]) == 1 else f"{what} need it")
    if name in store.in_use():
        return _needed(record, store.in_use()[name])
    if unreadable:
        return refusal(
            "capsule_unreadable",
            f"{unreadable[0].folder} cannot be read, so nobody knows which images it needs",
            "send that capsule again, or move it away if it is not wanted any more",
        )
    return _needed(record, "a guest of this host names it") if named else None


def _needed(record: ImageRecord, why: str) -> Refusal:
    return refusal(
        "base_needed",
        f"{record['image']} ({record['path']}) is not removed: {why}",
        "remove what needs it first (capsule_prune removes capsules), or keep it",
    )
