# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a move whose disks come after the guest: what is done before libvirt is asked to migrate
# it, and what is taken back where it stays.

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import MOST_LAYERS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import (
    make_lazy,
    unreadable_here,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import to_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import freezing, overlays
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.exports import Exports
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.freezing import Frozen

#: A message of a libvirt stream has less than 256 KiB of data.
PIECE_BYTES = 128 * 1024
Tickets = t.Mapping[str, t.Mapping[str, t.Any]]


class Place(t.NamedTuple):
    """Where a disk goes at the far end: names of libvirt's there."""

    pool: str
    volume: str
    path: str


@dataclasses.dataclass(frozen=True)
class Begun:
    """What was done for a move.

    Attributes:
        frozen: the disks, and what the guest writes to now.
        parameters: for libvirt's call.
    """

    frozen: tuple[Frozen, ...]
    parameters: dict[str, t.Any]


def is_lazy(guest: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any]) -> bool:
    """Whether disks of a guest come after it."""
    return intent.get("disks") == "lazy" and bool(to_copy(guest, intent))


class LazyMove:
    """Moves with lazy disks away from this host.

    Args:
        store: the host's.
        tickets: of the far ends, by the names of hosts.
    """

    def __init__(self, store: CapsuleStore, tickets: Tickets) -> None:
        self._store = store
        self._tickets = tickets
        self._exports = Exports(store)

    def refusals(
        self, guest: t.Mapping[str, t.Any], destination: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any]
    ) -> list[Refusal]:
        """Why disks of a guest cannot come after it; empty where none does.

        Args:
            guest: its part of this host's snapshot.
            destination: the far end's snapshot.
            intent: a complete intent.
        """
        if not is_lazy(guest, intent):
            return []
        host = destination["host"]
        found = [self._disk_refusal(guest, disk) for disk in to_copy(guest, intent)]
        found.append(unreadable_here(destination, "set disks to copy"))
        if host not in self._tickets:
            found.append(
                refusal(
                    "no_ticket",
                    f"there is no ticket of {host}, with which it could read the disks of {guest['name']} from here",
                    f"get one on {host} (capsule_export with the offer of this host), and give it in tickets",
                )
            )
        return [refused for refused in found if refused]

    @staticmethod
    def _disk_refusal(guest: t.Mapping[str, t.Any], disk: t.Mapping[str, t.Any]) -> Refusal | None:
        if disk["type"] not in (None, "file"):
            return freezing.not_a_file(guest["name"], disk["target"]).refusal
        if len(disk.get("layers") or ()) >= MOST_LAYERS:
            return refusal(
                "too_many_layers",
                f"disk {disk['target']} of {guest['name']} has {len(disk['layers'])} layers below it, and "
                f"{MOST_LAYERS} is the most",
                f"put them together (virsh blockpull {guest['name']} {disk['target']} --wait), or set disks to copy",
            )
        return None

    def begin(
        self, there: t.Any, domain: t.Any, guest: t.Mapping[str, str], places: t.Mapping[str, Place], host: str
    ) -> Begun:
        """Freeze the disks, let the far end read them, and make their images there ready.

        Args:
            there: writable connection to the far end.
            domain: the running guest.
            guest: name and UUID.
            places: new volumes there, by target.
            host: the far end's name.

        Raises:
            CapsuleError, libvirtError: it cannot be done. Then the guest has its own disks again.
        """
        ticket = self._tickets[host]
        slots = self._exports.slots(guest["uuid"], list(places), ticket)
        frozen = freezing.freeze(domain, list(places))
        try:
            self._exports.begin(guest, [one.disk for one in frozen], ticket)
            for one in frozen:
                content = overlays.content_on_export(ticket["ticket"], slots[one.disk.target], one.disk.size_bytes)
                _fill_volume(there, places[one.disk.target], content)
            parameters = {
                "destination_xml": _xml(domain, 0, places, ticket["ticket"], slots),
            }
            if domain.isPersistent():
                inactive = int(virt.libvirt.VIR_DOMAIN_XML_INACTIVE)
                parameters["persistent_xml"] = _xml(domain, inactive, places, ticket["ticket"], slots)
        except Exception:
            with contextlib.suppress(CapsuleError):
                self._exports.end(guest["uuid"])
            freezing.thaw(domain, frozen)
            raise
        return Begun(tuple(frozen), parameters)

    def take_back(self, domain: t.Any, uuid: str, begun: Begun) -> list[str]:
        """After a move that failed: end the export, and let the guest have its own disks again.

        Returns: what could not be done, in words.
        """
        faults = []
        try:
            self._exports.end(uuid)
        except CapsuleError as error:
            faults.append(f"the export of its disks could not be ended: {error}")
        try:
            faults += freezing.thaw(domain, begun.frozen)
        except virt.libvirt.libvirtError as error:
            faults.append(f"{domain.name()} goes on with the images made for the move: {error}")
        return faults


def _fill_volume(there: t.Any, place: Place, content: bytes) -> None:
    """Write the head of an image into a new volume at the far end."""
    volume = there.storagePoolLookupByName(place.pool).storageVolLookupByName(place.volume)
    stream = there.newStream(0)
    volume.upload(stream, 0, len(content), 0)
    try:
        for start in range(0, len(content), PIECE_BYTES):
            _send(stream, content[start : start + PIECE_BYTES])
        stream.finish()
    except Exception:
        with contextlib.suppress(virt.libvirt.libvirtError):
            stream.abort()
        raise


def _send(stream: t.Any, piece: bytes) -> None:
    while piece:
        sent = stream.send(piece)
        piece = piece[sent:]


def _xml(domain: t.Any, flags: int, places: t.Mapping[str, Place], ticket: str, slots: t.Mapping[str, int]) -> str:
    """The definition of the guest at the far end."""
    lib = virt.libvirt
    root = xml_text.parsed(domain.XMLDesc(flags | lib.VIR_DOMAIN_XML_MIGRATABLE | lib.VIR_DOMAIN_XML_SECURE))
    for disk in root.findall("devices/disk"):
        target = disk.find("target")
        name = str(target.get("dev")) if target is not None else ""
        if name in places:
            make_lazy(disk, places[name].path, ticket, slots[name])
    return ET.tostring(root, encoding="unicode")
