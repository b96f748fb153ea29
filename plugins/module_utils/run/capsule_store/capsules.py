# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the capsules of a host, each in a directory of its own, and what the host knows of guests.

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import typing as t
import uuid as uuids

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import canonical_json, capsule_document
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import (
    MOST_STATE_BYTES,
    Capsule,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.fields import FieldError, Fields
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files, layout
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.layout import Layout

DOCUMENT, SIGNATURE = "capsule.json", "capsule.json.sig"
#: Files of the small parts, by their key in the document.
PARTS = {"definition": "definition.xml", "nvram": "nvram", "tpm": "tpm.tar"}
KNOWN = "kvmops.capsule_known/1"
#: A signature of C(ssh-keygen -Y sign) has about 300 bytes with ed25519, and 2 KiB with a long RSA key.
MOST_SIGNATURE_BYTES = 64 * 1024


class StoredCapsule(t.NamedTuple):
    """A capsule that is here.

    Attributes:
        document: what it consists of.
        digest: of the document.
        data: the document as it was signed.
        signature: None: it is not signed.
        folder: where its small parts are.
    """

    document: Capsule
    digest: str
    data: bytes
    signature: bytes | None
    folder: str

    def part(self, key: str) -> str | None:
        """The path of a small part (C(definition), C(nvram), C(tpm)); None: the capsule has none."""
        return os.path.join(self.folder, PARTS[key]) if self.document[key] is not None else None


class Unreadable(t.NamedTuple):
    """A directory that should hold a capsule, and why it cannot be read."""

    folder: str
    why: Refusal


def read(folder: str) -> StoredCapsule | None:
    """The capsule in a directory; None: there is no such directory.

    Raises:
        CapsuleError: it is damaged.
    """
    if not os.path.isdir(folder):
        return None
    path = os.path.join(folder, DOCUMENT)
    data = durable_files.read_bytes(path, canonical_json.MOST_BYTES)
    if data is None:
        raise durable_files.damaged(folder, f"{DOCUMENT} is missing in it")
    document = capsule_document.parsed(data, path)
    place = os.path.join(document["guest"]["uuid"], str(document["number"]))
    if not folder.endswith(f"/{place}"):
        raise durable_files.damaged(path, f"it is capsule {document['number']} of {document['guest']['uuid']}")
    signature = durable_files.read_bytes(os.path.join(folder, SIGNATURE), MOST_SIGNATURE_BYTES)
    return StoredCapsule(document, sha256_of([data]), data, signature, folder)


def listed(store: Layout, uuid: str | None = None) -> tuple[list[StoredCapsule], list[Unreadable]]:
    """All capsules of a guest, or of all guests, by the guest's name and the number; and those that cannot be read."""
    found, unreadable = [], []
    guests = [uuid] if uuid else filter(layout.is_uuid, durable_files.names_in(store.inside("guests")))
    for guest in guests:
        for number in filter(layout.is_number, durable_files.names_in(store.guest(guest))):
            folder = store.capsule(guest, int(number))
            try:
                capsule = read(folder)
            except CapsuleError as error:
                unreadable.append(Unreadable(folder, error.refusal))
                continue
            if capsule is not None:
                found.append(capsule)
    return sorted(found, key=_place_in_list), unreadable


def _place_in_list(one: StoredCapsule) -> tuple[str, str, int]:
    return one.document["guest"]["name"], one.document["guest"]["uuid"], one.document["number"]


def find(store: Layout, guest: str, number: int | None) -> StoredCapsule:
    """The capsule that an operator means; see L(CapsuleStore.find_capsule)."""
    found, unreadable = listed(store, guest if layout.is_uuid(guest) else None)
    found = [one for one in found if guest in (one.document["guest"]["name"], one.document["guest"]["uuid"])]
    uuids_found = sorted({one.document["guest"]["uuid"] for one in found})
    if len(uuids_found) > 1:
        raise CapsuleError(
            "guest_ambiguous",
            f"{store.directory} has capsules of {len(uuids_found)} guests that are called {guest}:"
            f" {' and '.join(uuids_found[:3])}",
            "name the guest by its UUID",
        )
    if number is not None:
        found = [one for one in found if one.document["number"] == number]
    if not found:
        # Which guest a damaged one is of, its name does not say.
        for one in unreadable:
            if len(unreadable) == 1 or one.folder.endswith(f"/{number}"):
                raise CapsuleError(**one.why)
        which = "no capsule" if number is None else f"no capsule {number}"
        raise CapsuleError(
            "capsule_missing",
            f"there is {which} of {guest} in {store.directory}",
            "see which there are (capsule_info); make one with capsule_save, or send it here with capsule_send",
        )
    return found[-1]


def add(store: Layout, data: bytes, signature: bytes | None, parts: t.Mapping[str, str]) -> StoredCapsule:
    """Take a capsule in, as a whole or not at all. What is damaged of one that is here is replaced.

    Args:
        store: where to.
        data: the document.
        signature: of these bytes.
        parts: files of the small parts, by their key in the document. They are copied.

    Raises:
        CapsuleError: a part is missing or damaged, or another capsule with this number is here.
    """
    document = capsule_document.parsed(data, "the capsule that came")
    guest, number = document["guest"], document["number"]
    folder = store.capsule(guest["uuid"], number)
    durable_files.make_directory(store.guest(guest["uuid"]))
    there = _readable(folder)
    if there is not None and (there.data == data or not _is_the_last(store, document, data)):
        if there.data != data:
            raise CapsuleError(
                "capsule_forked",
                f"another capsule {number} of {guest['name']} is here: {there.digest}, and {sha256_of([data])} came",
                f"find out on which hosts {guest['name']} was saved; keep one, and save the guest again where it runs;"
                f" if the one here was damaged, mv {folder} /root/ and send again",
            )
        return _mended(there, signature, parts)
    temporary = os.path.join(store.guest(guest["uuid"]), f".{number}.{uuids.uuid4().hex}")
    try:
        durable_files.make_directory(temporary)
        for key, name in PARTS.items():
            if document[key] is not None:
                _copy(parts.get(key), os.path.join(temporary, name), document[key], f"{key} of {guest['name']}")
        if signature is not None:
            durable_files.write_bytes(os.path.join(temporary, SIGNATURE), [signature])
        durable_files.write_bytes(os.path.join(temporary, DOCUMENT), [data])
        try:
            if os.path.lexists(folder):
                # It cannot be read, or is not what came here.
                os.rename(folder, os.path.join(store.guest(guest["uuid"]), f".{number}.{uuids.uuid4().hex}"))
            os.rename(temporary, folder)
            durable_files.sync_directory(store.guest(guest["uuid"]))
        except OSError as error:
            raise durable_files.cannot("be made", folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return StoredCapsule(document, sha256_of([data]), data, signature, folder)


def _readable(folder: str) -> StoredCapsule | None:
    try:
        return read(folder)
    except CapsuleError:
        return None


def _is_the_last(store: Layout, document: Capsule, data: bytes) -> bool:
    """Whether this very capsule is the last one that came here, so that another one in its place is damaged."""
    try:
        last = known(store, document["guest"]["uuid"])
    except CapsuleError:
        return False
    return (last.number, last.digest) == (document["number"], sha256_of([data]))


def damaged_parts(capsule: StoredCapsule) -> list[str]:
    """The small parts of a capsule, by their key, that are missing or not as its document says."""
    found = []
    for key in PARTS:
        path, wanted = capsule.part(key), capsule.document.get(key)
        if path is not None and wanted is not None and not _is_right(path, t.cast(t.Any, wanted)):
            found.append(key)
    return found


def _is_right(path: str, wanted: t.Mapping[str, t.Any]) -> bool:
    try:
        content = durable_files.read_bytes(path, wanted["size_bytes"])
    except CapsuleError:
        return False
    return content is not None and sha256_of([content]) == wanted["digest"]


def _mended(there: StoredCapsule, signature: bytes | None, parts: t.Mapping[str, str]) -> StoredCapsule:
    """A capsule that came again, with what was damaged of it."""
    for key in damaged_parts(there):
        state = t.cast("t.Mapping[str, t.Any]", there.document.get(key))
        path = os.path.join(there.folder, PARTS[key])
        _copy(parts.get(key), path, state, f"{key} of {there.document['guest']['name']}")
    if signature is None or signature == there.signature:
        return there
    durable_files.write_bytes(os.path.join(there.folder, SIGNATURE), [signature])
    return there._replace(signature=signature)


def _copy(source: str | None, path: str, state: t.Mapping[str, t.Any], what: str) -> None:
    content = durable_files.read_bytes(source, MOST_STATE_BYTES) if source else None
    if content is None:
        raise CapsuleError("part_missing", f"the {what} did not come with its capsule", "send it again from its source")
    if len(content) != state["size_bytes"] or sha256_of([content]) != state["digest"]:
        raise CapsuleError(
            "part_damaged",
            f"the {what} has the digest {sha256_of([content])}, and its capsule says {state['digest']}",
            "send it again from its source; capsule_verify says there whether that one is right",
        )
    durable_files.write_bytes(path, [content])


def remove(capsule: StoredCapsule) -> None:
    """Remove a capsule: its name first, so that nobody finds a part of one."""
    parent, number = os.path.split(capsule.folder)
    hidden = os.path.join(parent, f".{number}.{uuids.uuid4().hex}")
    try:
        os.rename(capsule.folder, hidden)
        durable_files.sync_directory(parent)
    except OSError as error:
        raise durable_files.cannot("be removed", capsule.folder, error) from error
    durable_files.erase_folder(hidden)


def sweep(store: Layout) -> None:
    """Remove what runs that died have left of capsules. Nobody else may be at work."""
    for guest in filter(layout.is_uuid, durable_files.names_in(store.inside("guests"))):
        with contextlib.suppress(OSError):
            for name in os.listdir(store.guest(guest)):
                if name.startswith(".") and durable_files.is_old(os.path.join(store.guest(guest), name)):
                    durable_files.erase_folder(os.path.join(store.guest(guest), name))


def known(store: Layout, uuid: str) -> Known:
    """What the host knows of a guest; nothing of one that it never had.

    Raises:
        CapsuleError: the file is damaged. Then no capsule of this guest can be taken: it might be an older one.
    """
    path = store.known(uuid)
    try:
        document = durable_files.read_json(path)
        if document is None:
            return Known()
        fields = Fields(document, "")
        fields.one_of("schema", (KNOWN,))
        found = Known(
            fields.number("number", 0, canonical_json.MOST_NUMBER),
            fields.text_or_none("digest", r"sha256:[0-9a-f]{64}"),
            fields.flag("signed"),
        )
        fields.end()
    except (CapsuleError, FieldError) as error:
        raise CapsuleError(
            "store_damaged",
            f"{path} is damaged ({error}): nobody knows which capsule of this guest was the last one here",
            f"see that the last capsule is the right one (capsule_info), then remove {path}",
        ) from error
    return found


def remember(store: Layout, uuid: str, now: Known) -> None:
    """Write what the host knows of a guest from now on. The number never becomes lower."""
    if now.number < known(store, uuid).number:
        return
    durable_files.make_directory(store.guest(uuid))
    durable_files.write_json(
        store.known(uuid), {"schema": KNOWN, "number": now.number, "digest": now.digest, "signed": now.signed}
    )


def sha256_of(pieces: t.Iterable[bytes]) -> str:
    """The digest of an ordinary file, as documents write it."""
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
    return f"sha256:{whole.hexdigest()}"
