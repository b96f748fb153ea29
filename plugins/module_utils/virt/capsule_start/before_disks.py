# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a start before the disks have come: what the guest reads from its source until then.

from __future__ import annotations

import time
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import (
    LazyDisk,
    make_lazy,
    unreadable_here,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.tickets import SLOTS, Tickets

LOOK_S = 1.0


class Export(t.NamedTuple):
    """What a source lets this host read of a capsule.

    Attributes:
        ticket: its name.
        digest: of the capsule.
        slots: number of each disk there, by target.
        images: the image of each.
    """

    ticket: str
    digest: str
    slots: t.Mapping[str, int]
    images: t.Mapping[str, str]


def export_of(document: t.Mapping[str, t.Any]) -> Export:
    """The export in what capsule_export has returned.

    Raises:
        CapsuleError: it is none.
    """
    try:
        disks = {str(disk["target"]): disk for disk in document["disks"]}
        slots = {target: int(disk["slot"]) for target, disk in disks.items()}
        if not all(0 <= slot < SLOTS for slot in slots.values()):
            raise ValueError(f"a number below {SLOTS} for each disk")
        return Export(
            str(document["ticket"]),
            str(document["digest"]),
            slots,
            {target: str(disk["image"]) for target, disk in disks.items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CapsuleError(
            "bad_export",
            f"lazy has no export: it lacks {error}",
            "give what capsule_export with ticket and guest has returned on the source as export",
        ) from error


def missing(
    store: CapsuleStore, capsule: StoredCapsule, export: Export | None, here: t.Mapping[str, t.Any], as_new: bool
) -> dict[str, int]:
    """The disks that come later: the number of each at the source, by target.

    Args:
        store: of this host.
        capsule: which is started.
        export: of the source; None: all must be here.
        here: as much of a snapshot of this host as has its versions.
        as_new: whether it is started as another guest.

    Raises:
        CapsuleError: it cannot be read from there.
    """
    document = capsule.document
    found = [disk for disk in document["disks"] if store.image(disk["image"]) is None]
    if export is None or not found:
        return {}
    name, number = document["guest"]["name"], document["number"]
    why = unreadable_here(here, f"send its disks first (capsule_send on {document['made_on']} with disks: now)")
    if why is not None:
        raise CapsuleError(**why)
    if as_new:
        raise CapsuleError(
            "lazy_as_new",
            f"the disks of capsule {number} of {name} are not all here, and a new guest does not start before",
            f"send them first: capsule_send on {document['made_on']} with disks: now",
        )
    for disk in found:
        if export.digest != capsule.digest or export.images.get(disk["target"]) != disk["image"]:
            raise CapsuleError(
                "export_differs",
                f"the export has no disk {disk['target']} of capsule {number} of {name}",
                f"let {document['made_on']} export this capsule: capsule_export with ticket, guest: {name} and"
                f" number: {number}",
            )
    return {disk["target"]: export.slots[disk["target"]] for disk in found}


def read_from_source(domain: ET.Element, own: t.Mapping[str, str], ticket: str, slots: t.Mapping[str, int]) -> None:
    """Let disks of a definition rest on their exports.

    Args:
        domain: the definition, which is changed.
        own: the files that the guest writes to, by target.
        ticket: the export's.
        slots: the number of each such disk.
    """
    for disk in domain.findall("devices/disk"):
        target = disk.find("target")
        name = str(target.get("dev")) if target is not None else ""
        if name in slots:
            make_lazy(disk, own[name], ticket, slots[name])


def reach(
    store: CapsuleStore,
    capsule: Capsule,
    ticket: str,
    slots: t.Mapping[str, int],
    wait_s: float,
    check: bool,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> None:
    """See that the source gives the disks, and wait for it so long.

    Raises:
        CapsuleError: it does not, or somebody has written to one of them.
    """
    tickets, end = Tickets(store), clock() + wait_s
    while True:
        if not check:
            tickets.ensure(ticket)
        try:
            _check(capsule, tickets.look(ticket), slots, tickets.read(ticket)["source"])
            return
        except CapsuleError as error:
            if error.refusal["code"] != "export_unreachable" or check or clock() >= end:
                raise
        sleep(LOOK_S)


def _check(capsule: Capsule, found: t.Sequence[t.Mapping[str, t.Any]], slots: t.Mapping[str, int], source: str) -> None:
    guest, number = capsule["guest"], capsule["number"]
    images = {disk["target"]: disk["image"] for disk in capsule["disks"]}
    there = {(disk["target"], disk["slot"]): disk for disk in found if disk["guest"]["uuid"] == guest["uuid"]}
    for target, slot in slots.items():
        disk = there.get((target, slot))
        if disk is None or disk.get("image") != images[target]:
            raise CapsuleError(
                "export_missing",
                f"{source} does not export disk {target} of capsule {number} of {guest['name']}, or not any more",
                f"let it do that again: capsule_export with ticket and guest: {guest['name']} on {source}",
            )
        if disk["changed"]:
            raise CapsuleError(
                "source_changed",
                f"{source}: {disk['changed']}. It is not what capsule {number} of {guest['name']} has",
                f"save {guest['name']} again where it runs; capsule_verify on {source} says which capsules are right",
            )


def keep(store: CapsuleStore, capsule: StoredCapsule, own: t.Mapping[str, str], export: Export) -> None:
    """Put on record what capsule_fill has to get."""
    document = capsule.document
    entries = [
        {**LazyDisk(target, path, export.ticket, export.slots[target])._asdict(), "image": export.images[target]}
        for target, path in sorted(own.items())
    ]
    details = {"disks": entries, "number": document["number"], "digest": capsule.digest, "rate_bytes_per_s": None}
    record = run_records.record_of("fill", document["guest"], [capsule.digest], at=utc_now(), details=details)
    store.write_run(_name(document["guest"]["uuid"]), record)


def unfinished(store: CapsuleStore, uuid: str) -> list[str]:
    """The disks of a guest that have not all come here."""
    record = store.run(_name(uuid))
    return [disk["target"] for disk in record["details"]["disks"]] if record and not record["ended"] else []


def forget(store: CapsuleStore, uuid: str) -> None:
    """The start was undone: there is nothing to fill."""
    store.remove_run(_name(uuid))


def _name(uuid: str) -> str:
    return f"fill-{uuid}"
