# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a host has of capsules and images, and what other hosts lack of them.

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import receive_state
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import bytes_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import PREVIOUS, SEND, Delta, Source
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES, segments_in
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.differences import missing, parts_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.at_rest import is_encrypted
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.receiving import Receiving
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore

Info = dict[str, t.Any]


def look(store: CapsuleStore, guest: str | None, others: t.Mapping[str, t.Any]) -> Info:
    """What the store has.

    Args:
        store: of this host.
        guest: name or UUID; None: of all guests.
        others: what this told on other hosts, by host.
    """
    records = store.images()
    sound = {name: record["backing"] for name, record in records.items() if store.changed(record) is None}
    found = [one for one in store.capsules() if guest in (None, *one.document["guest"].values())]
    wanted = {name for one in found for name in _all_of(one, records)} if guest else set(records)
    damaged = [*store.damaged_records(), *store.unreadable()]
    return {
        "capsules": [_capsule(store, one, records, sound, others) for one in found],
        "images": [_image(store, records[name]) for name in sorted(records) if name in wanted],
        "receiving": [_receiving(one) for one in store.receivings()],
        "to_send": _to_send(store, others),
        "damaged": [{"path": one.folder, "why": dict(one.why)} for one in damaged],
        "encrypted_at_rest": is_encrypted(store.directory),
        "free_bytes": store.free_bytes() if os.path.isdir(store.directory) else None,
    }


def _all_of(capsule: StoredCapsule, records: t.Mapping[str, ImageRecord]) -> set[str]:
    """The images of a capsule, with those that they stand on."""
    found: set[str] = set()
    names = list(parts_of(capsule.document).values())
    while names:
        name = names.pop()
        if name in records and name not in found:
            found.add(name)
            names += [records[name]["backing"]] if records[name]["backing"] else []
    return found


def _capsule(
    store: CapsuleStore,
    capsule: StoredCapsule,
    records: t.Mapping[str, ImageRecord],
    sound: t.Mapping[str, str | None],
    others: t.Mapping[str, t.Any],
) -> Info:
    document = capsule.document
    keys = ("guest", "number", "parent", "made_at", "made_on", "trust_domain", "consistency", "memory", "disks")
    lacking = [
        {**one, "why": store.changed(records[one["image"]]) if one["image"] in records else "it is not here"}
        for one in missing(document, sound)
    ]
    return {
        **{key: document[key] for key in keys},
        "digest": capsule.digest,
        "signed": capsule.signature is not None,
        "folder": capsule.folder,
        "lineage": _lineage(store, capsule),
        "missing": lacking,
        "missing_at": {host: missing(document, _told(told)) for host, told in sorted(others.items())},
    }


def _told(told: t.Any) -> dict[str, str | None]:
    """What another host has told of its images: on what each one stands that is as it was sealed."""
    images = (told or {}).get("images") or []
    return {str(one.get("image")): one.get("backing") for one in images if not one.get("why")}


def _lineage(store: CapsuleStore, capsule: StoredCapsule) -> list[dict[str, t.Any]]:
    """The capsules from which this one was made, the last one first, and whether each is here."""
    lineage, parent = [], capsule.document["parent"]
    while parent is not None:
        try:
            there = store.capsule(capsule.document["guest"]["uuid"], parent["number"])
        except CapsuleError:
            there = None
        is_here = there is not None and there.digest == parent["digest"]
        lineage.append({**parent, "here": is_here})
        parent = there.document["parent"] if there is not None and is_here else None
    return lineage


def _image(store: CapsuleStore, record: ImageRecord) -> Info:
    keys = ("image", "kind", "path", "format", "size_bytes", "backing", "base", "trust_domain", "sealed_at")
    try:
        allocated = os.stat(record["path"]).st_blocks * 512
    except OSError:
        allocated = None
    return {
        **{key: record[key] for key in keys},
        "allocated_bytes": allocated,
        "in_store": store.owns(record),
        "why": store.changed(record),
    }


def _receiving(one: Receiving) -> Info:
    """An image that has begun to come. What the far end knows is what it has; its sender knows what is left."""
    try:
        state = one.state()
    except CapsuleError as error:
        return {"image": one.name, "size_bytes": None, "verified_bytes": 0, "state": None, "why": dict(error.refusal)}
    if state is None:
        return {"image": one.name, "size_bytes": None, "verified_bytes": 0, "state": None, "why": None}
    verified = sum(bytes_of(state.size_bytes, number) for number in state.verified)
    return {
        "image": one.name,
        "size_bytes": state.size_bytes,
        "verified_bytes": verified,
        "state": state.document(),
        "why": None,
    }


def _to_send(store: CapsuleStore, others: t.Mapping[str, t.Any]) -> list[Info]:
    """What is left of each image that has begun to come to another host, and that is here."""
    rows = []
    for host, told in sorted(others.items()):
        for one in (told or {}).get("receiving") or []:
            try:
                if not one.get("state") or store.image(str(one.get("image"))) is None:
                    continue
                state = receive_state.from_document(one["state"], f"{one['image']} on {host}")
                rows.append({"host": host, "image": state.image, **_left(store, state)})
            except (CapsuleError, ValueError) as error:
                rows.append({"host": host, "image": str(one.get("image")), "left_bytes": None, "why": str(error)})
    return rows


def _left(store: CapsuleStore, state: receive_state.ReceiveState) -> Info:
    image = store.manifest(state.image)
    sources = [Source(PREVIOUS, store.manifest(state.ground))] if state.ground else []
    delta = Delta(image, sources, begun=(state.ground,))
    total = left = 0
    for segment in delta.segments():
        begun = state.begun.get(segment.number, set())
        for run in segment.runs:
            if run.kind != SEND:
                continue
            total += run.blocks * BLOCK_BYTES
            if segment.number not in state.verified:
                left += sum(BLOCK_BYTES for one in range(run.first, run.first + run.blocks) if one not in begun)
    return {"left_bytes": left, "total_bytes": total, "segments": segments_in(image.size_bytes), "why": None}
