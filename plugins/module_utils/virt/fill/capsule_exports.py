# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: lets a far end read the disks of a capsule. Nobody writes to its images, so there is
# nothing to freeze.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.exports import Exports, FrozenDisk

Export = dict[str, t.Any]


def of_capsule(
    store: CapsuleStore, ticket: t.Mapping[str, t.Any], guest: str, number: int | None, check: bool
) -> tuple[bool, Export]:
    """Let a far end read the disks of a capsule; returns whether that is new, and what it is told.

    Args:
        store: of this host.
        ticket: the far end's.
        guest: name or UUID.
        number: of the capsule; None: the newest one here.
        check: nothing is done.

    Raises:
        CapsuleError: an image is missing or has changed, or the ticket makes no sense.
    """
    _check(ticket)
    capsule = store.find_capsule(guest, number)
    document = capsule.document
    disks = [_disk(store, capsule, disk) for disk in document["disks"]]
    exports, uuid = Exports(store), document["guest"]["uuid"]
    before = store.run(f"export-{uuid}")
    there = {disk.target: disk.image for disk in disks}
    if before is not None and not before["ended"] and before["details"]["ticket"] == ticket["ticket"]:
        slots = {one["target"]: one["slot"] for one in before["details"]["disks"] if one["target"] in there}
        if {one["target"]: one["image"] for one in before["details"]["disks"]} == there:
            return False, _told(capsule, ticket, disks, slots)
    if check:
        return True, _told(capsule, ticket, disks, exports.slots(uuid, list(there), ticket))
    return True, _told(capsule, ticket, disks, exports.begin(document["guest"], disks, ticket))


def _check(ticket: t.Mapping[str, t.Any]) -> None:
    missing = [key for key in ("ticket", "far_end", "user", "slots", "public_key") if not ticket.get(key)]
    if missing:
        raise CapsuleError(
            "bad_ticket",
            f"the ticket makes no sense: it lacks {missing[0]}",
            "give what capsule_export with offer has returned at the far end as ticket",
        )


def _disk(store: CapsuleStore, capsule: StoredCapsule, disk: t.Mapping[str, t.Any]) -> FrozenDisk:
    what = f"disk {disk['target']} of capsule {capsule.document['number']} of {capsule.document['guest']['name']}"
    record = store.image(disk["image"])
    if record is None:
        raise CapsuleError(
            "image_missing",
            f"the {what} is not in {store.directory}, so no far end can read it from here",
            "see which host has all of it (capsule_info), and export it there",
        )
    why = store.changed(record)
    if why is not None:
        raise CapsuleError(
            "image_changed",
            f"the {what} is not known to be as it was saved: {why}",
            "see whether it is right (capsule_verify); save the guest again where it runs if it is not",
        )
    return FrozenDisk(disk["target"], record["path"], record["format"], disk["size_bytes"], disk["image"])


def _told(
    capsule: StoredCapsule, ticket: t.Mapping[str, t.Any], disks: t.Sequence[FrozenDisk], slots: t.Mapping[str, int]
) -> Export:
    document = capsule.document
    return {
        "ticket": ticket["ticket"],
        "guest": document["guest"],
        "number": document["number"],
        "digest": capsule.digest,
        "disks": [
            {"target": disk.target, "slot": slots[disk.target], "image": disk.image, "size_bytes": disk.size_bytes}
            for disk in disks
        ],
    }
