# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reads what a host has of capsules, and holds it against the digests that name it.

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.changed_ranges import Hint
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.differences import (
    differing,
    needed_where,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import capsules, durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import signature
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.hashing import hashed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import LiveLines

Row = dict[str, t.Any]


class Verifier:
    """Verifies images and capsules of a store; an image that several need is read once.

    Args:
        store: of this host.
        lines: tell how far it is.
        dry: leave the records as they are.
    """

    def __init__(self, store: CapsuleStore, lines: LiveLines, dry: bool) -> None:
        self._store = store
        self._lines = lines
        self._dry = dry
        self._rows: dict[str, Row] = {}
        self._found: dict[str, BlockManifest] = {}
        self.refreshed: list[str] = []

    def image(self, name: str, what: str) -> Row:
        """Read an image as a whole: C(image), C(path), C(status), C(read_bytes), C(places), C(why).

        Of a layer, only what it has itself is read: what is below is an image of its own, and is read first.

        Args:
            name: of the image.
            what: it is, for messages.
        """
        if name not in self._rows:
            row: Row = {"image": name, "path": None, "status": "good", "read_bytes": 0, "places": [], "why": None}
            try:
                self._read(name, what, row)
            except CapsuleError as error:
                if error.refusal["code"] == "interrupted":
                    raise
                row.update(status="damaged", why=dict(error.refusal))
            self._rows[name] = row
        return self._rows[name]

    def _read(self, name: str, what: str, row: Row) -> None:
        record = self._store.image(name)
        if record is None:
            row.update(status="missing", why=dict(_missing(name, what)))
            return
        row["path"] = record["path"]
        wanted = self._store.manifest(name)
        below = self._below(record)
        before = file_facts(record["path"])
        with opened(record["path"], record["format"]) as image:
            hint = Hint(below.name, tuple(image.allocated())) if below is not None else None
            found = hashed(
                image, what, earlier=below, hint=hint, progress=self._lines.counter(f"reading {record['path']}")
            )
        row["read_bytes"] = found.read_bytes
        self._found[name] = found.manifest
        if found.manifest.name != name:
            places = differing(wanted, found.manifest)
            row.update(status="damaged", places=[list(one) for one in places])
            row["why"] = dict(_damaged(record, what, places, found.manifest, self._store.directory))
        elif before is not None and before != record["facts"] and file_facts(record["path"]) == before:
            self._refresh(record, before, wanted)

    def _below(self, record: ImageRecord) -> BlockManifest | None:
        """The manifest of what an image stands on, as it was read just now."""
        if record["backing"] is None:
            return None
        self.image(record["backing"], f"what {record['path']} stands on")
        return self._found.get(record["backing"])

    def _refresh(self, record: ImageRecord, facts: t.Mapping[str, int], manifest: BlockManifest) -> None:
        """The content is right, and the file is another one: it was copied here, or touched."""
        self.refreshed.append(record["image"])
        if not self._dry:
            self._store.add_image({**record, "facts": dict(facts)}, manifest)

    def capsule(self, capsule: StoredCapsule, keys: t.Sequence[str]) -> Row:
        """Verify a capsule with all its parts.

        Args:
            capsule: what is verified.
            keys: public keys that may sign.
        """
        document = capsule.document
        who = f"capsule {document['number']} of {document['guest']['name']}"
        faults = [why for key in capsules.PARTS for why in [_part_fault(capsule, key, who)] if why]
        signed = signature.verified(capsule.data, capsule.signature, keys)
        try:
            known = self._store.known(document["guest"]["uuid"])
        except CapsuleError as error:
            faults.append(error.refusal)
            known = Known()
        refused = signature_fault(capsule, signed.state, signed.detail, bool(keys), known.signed)
        other = _other_than_known(capsule, known, who)
        faults += [one for one in (refused, other) if one]
        backing = {name: record["backing"] for name, record in self._store.images().items()}
        parts = needed_where(document, backing)
        images = [{"part": part, **self.image(name, f"{part} of {who}")} for part, name in parts.items()]
        faults += [t.cast(Refusal, one["why"]) for one in images if one["why"]]
        return {
            "guest": document["guest"],
            "number": document["number"],
            "digest": capsule.digest,
            "status": "damaged" if faults else "good",
            "signature": signed.state,
            "images": images,
            "faults": [dict(one) for one in faults],
        }


def signature_fault(
    capsule: StoredCapsule, state: str, detail: str, keys_given: bool, was_signed: bool
) -> Refusal | None:
    """Why the signature of a capsule at rest is not right, or None."""
    who = f"capsule {capsule.document['number']} of {capsule.document['guest']['name']}"
    if state == "bad":
        return refusal(
            "signature_bad",
            f"the signature of {who} is not right ({detail})",
            "do not start it; find out who changed it, and send it again from its source",
        )
    if state == "none" and keys_given:
        also = ", and its guest's last capsule was signed" if was_signed else ""
        return refusal(
            "signature_missing",
            f"{who} is not signed, and keys that may sign are named{also}",
            "sign it where it is made: set sign_with of capsule_save to the file of a key",
        )
    return None


def _other_than_known(capsule: StoredCapsule, known: Known, who: str) -> Refusal | None:
    if capsule.document["number"] != known.number or known.digest in (None, capsule.digest):
        return None
    return refusal(
        "capsule_damaged",
        f"{who} is not the one that was made or came here: its document has the digest {capsule.digest}, and it was"
        f" {known.digest}",
        f"check the disk of this host (dmesg, smartctl); {_send_again(who)}",
    )


def _part_fault(capsule: StoredCapsule, key: str, who: str) -> Refusal | None:
    path = capsule.part(key)
    if path is None:
        return None
    wanted = capsule.document[key]
    content = durable_files.read_bytes(path, wanted["size_bytes"] + 1)
    if content is None:
        return refusal("part_missing", f"the {key} of {who} is missing: {path}", _send_again(who))
    found = capsules.sha256_of([content])
    if found == wanted["digest"]:
        return None
    return refusal(
        "part_damaged",
        f"the {key} of {who} is damaged: {path} has the digest {found}, and the capsule says {wanted['digest']}",
        _send_again(who),
    )


def _missing(name: str, what: str) -> Refusal:
    return refusal("image_missing", f"{what} is not here: {name}", _send_again(what))


def _damaged(
    record: ImageRecord, what: str, places: t.Sequence[tuple[int, int]], found: BlockManifest, directory: str
) -> Refusal:
    where = " and ".join(f"{start} to {start + length - 1}" for start, length in places[:3])
    more = f" and {len(places) - 3} more places" if len(places) > 3 else ""
    size = "" if found.size_bytes == record["size_bytes"] else f"; it has {found.size_bytes} bytes now"
    again = "send it again from a host that has it (capsule_send)"
    if record["path"].startswith(f"{directory}/"):
        remedy = f"mv {record['path']} /root/, then {again}"
    else:
        remedy = f"it is a file of the guest's own disk: put a good copy there, or {again} and start it from there"
    return refusal(
        "image_damaged",
        f"{what} is damaged: {os.path.basename(record['path'])} differs in bytes {where}{more}{size}"
        f" ({record['path']})",
        f"check the disk of this host (dmesg, smartctl); {remedy}",
    )


def _send_again(who: str) -> str:
    return f"send {who} again from a host that has it (capsule_send); capsule_info says there what is missing here"
