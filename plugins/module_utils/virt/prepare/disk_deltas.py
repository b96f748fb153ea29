# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: disks of which only what differs from their old copy at the destination is sent: which ones
# these are, and what is done before and after the guest's move.

from __future__ import annotations

import contextlib
import os
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES, segment_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import to_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.expected_deltas import MODES, expected_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import layers, old_copy, sending
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.disk_digests import DigestWriter
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.old_copy import NoDeltaError, OldCopy
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.sending import SentDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import published_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import images

Guest = t.Mapping[str, t.Any]
Intent = t.Mapping[str, t.Any]
NO_COPY = "there is no older copy of it"


class Deltas(t.NamedTuple):
    """What is known, before a move, of the disks that go along.

    Attributes:
        old: old copies over which only what differs need be sent, by the disk's target.
        full_because: why other disks are copied as a whole, in words, by the disk's target.
        changed: targets of disks whose old copies are not as they were left, or are used.
    """

    old: t.Mapping[str, OldCopy] = {}
    full_because: t.Mapping[str, str] = {}
    changed: t.Collection[str] = ()

    def in_guest(self, guest: Guest) -> dict[str, t.Any]:
        """The guest, with what is expected to be sent of each disk (C(delta_bytes))."""
        disks = []
        for disk in guest["disks"]:
            old = self.old.get(disk["target"])
            disks.append(disk if old is None else {**disk, "delta_bytes": expected_bytes(disk)})
        return {**guest, "disks": disks}


NO_DELTAS = Deltas()


def proposed(
    there: t.Any,
    guest: Guest,
    intent: Intent,
    host: str,
    ours: t.Collection[str],
    old_hosts: str | None = None,
) -> Deltas:
    """Find the old copies at a destination.

    Args:
        there: connection to the destination; it may be read-only.
        guest: the guest's part of this host's snapshot.
        intent: a complete intent.
        host: the destination.
        ours: paths there that are old copies of this guest, unchanged, or were begun from here.
        old_hosts: why a host is too old for it (C(core.snapshot.expected_deltas.too_old)); None where none is.
    """
    disks = to_copy(guest, intent)
    if not disks or intent.get("disks", "copy") not in MODES:
        return Deltas()
    record = published_copies.read(there, guest["uuid"])
    left = {disk["path"]: disk for disk in (record["disks"] if record else ()) if disk.get("is_file") is not False}
    found: dict[str, OldCopy] = {}
    why: dict[str, str] = {}
    planned = images.planned(there, disks)
    changed = [str(disk["target"]) for disk, image in planned if image.path in left and image.path not in ours]
    for disk, image in planned:
        target = str(disk["target"])
        try:
            if image.path not in left:
                raise NoDeltaError(NO_COPY)
            if image.path not in ours:
                raise NoDeltaError(f"{image.path} on {host} is not as it was left")
            if old_hosts:
                raise NoDeltaError(old_hosts)
            old_copy.refuse_kind(disk)
            old = OldCopy(target, image.pool, image.volume, image.path, "", left[image.path])
            found[target] = old_copy.find(there, old, host)
        except NoDeltaError as error:
            why[target] = str(error)
    for disk in disks:
        # With a delta libvirt copies the top layer of each disk only.
        if found and disk["target"] not in found and (disk.get("layers") or disk.get("backing")):
            return Deltas(
                {}, {**why, **dict.fromkeys(found, f"disk {disk['target']} goes whole, and has layers")}, changed
            )
    return Deltas(found, why, changed)


class DiskDeltas:
    """Sends disks of guests that leave this host, and puts them together when the guests have gone.

    Args:
        state_dir: where this host keeps its records.
    """

    def __init__(self, state_dir: str) -> None:
        self._state_dir = state_dir
        self._digests: dict[str, list[SentDisk]] = {}
        self._sendings: dict[str, sending.Sending] = {}

    def send(
        self,
        there: t.Any,
        domain: t.Any,
        guest: Guest,
        host: str,
        old: t.Mapping[str, OldCopy],
        tell: t.Callable[[str, float], None],
        check: t.Callable[[], None],
    ) -> list[SentDisk]:
        """Send what differs of a guest's disks; returns the disks. Nothing is left where that cannot be.

        C(send_rest) must follow right before the migration.

        Args:
            there: writable connection to the destination.
            domain: the guest, which runs here.
            guest: the guest's part of this host's snapshot.
            host: the destination's name.
            old: of C(proposed).
            tell: called with what is done, and the share of it that is done.
            check: called again and again; raises to end it.

        Raises: NoDeltaError where the disks must be copied as a whole, and what C(check) raises.
        """
        disks = [_disk_to_send(domain, disk, old[disk["target"]]) for disk in guest["disks"] if disk["target"] in old]
        named = {"name": str(guest["name"]), "uuid": str(guest["uuid"])}

        def keep(now: t.Sequence[SentDisk]) -> None:
            begun_copies.store(self._state_dir, _begun(named, host, now))

        try:
            under_way = sending.Sending(there, host, domain, disks, keep, tell, check)
            under_way.run()
        except (*sending.ERRORS, virt.libvirt.libvirtError, virt.VirtError) as error:
            self._undo(there, domain, host, disks)
            raise NoDeltaError(sending.in_words(error)) from error
        except BaseException:
            self._undo(there, domain, host, disks)
            raise
        self._digests[guest["uuid"]] = disks
        self._sendings[guest["uuid"]] = under_way
        return disks

    def send_rest(self, uuid: str) -> None:
        """Send what a guest has written since C(send), right before libvirt copies what it writes from now on.

        Raises: VirtError where that cannot be; the guest must not be migrated then.
        """
        try:
            self._sendings.pop(uuid).last_round()
        except (*sending.ERRORS, virt.libvirt.libvirtError) as error:
            raise virt.VirtError(
                refusal(
                    "delta_not_sent",
                    f"what the guest wrote last could not be sent: {sending.in_words(error)}",
                    "run it again; with disks: copy its disks go as a whole",
                )
            ) from error

    def _undo(self, there: t.Any, domain: t.Any, host: str, disks: t.Sequence[SentDisk]) -> list[str]:
        """Take away what was made of disks of a guest that runs here; returns what could not be, in words."""
        faults = self.restore(domain, disks)
        for disk in disks:
            faults += sending.remove_volumes(there, disk)
        if not faults:
            begun_copies.remove(self._state_dir, domain.UUIDString(), host)
        return faults

    def restore(self, domain: t.Any, disks: t.Sequence[SentDisk]) -> list[str]:
        """Let a guest that runs here use its images again, without overlays; returns what could not be, in words."""
        faults = []
        for disk in disks:
            _forget_digests(disk)
            try:
                layers.merge(domain, disk.target, disk.below)
            except (virt.libvirt.libvirtError, virt.VirtError) as error:
                faults.append(f"disk {disk.target} still has an overlay over {disk.below}: {error}")
                continue
            for path in disk.layers:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
        return faults

    def restore_after_crash(self, domain: t.Any) -> list[str]:
        """Do so for a guest whose disks a run that died has frozen; returns what could not be, in words.

        What that run has left at the destination is removed by the next copy to there.
        """
        disks = [disk for begun in begun_copies.read_all(self._state_dir, domain.UUIDString()) for disk in _sent(begun)]
        return self.restore(domain, [disk for disk in disks if any(map(os.path.lexists, disk.layers))])

    def left_by_others(self, there: t.Any, uuid: str, host: str) -> list[str]:
        """Remove overlays at a destination that a run which died has left, of a guest that runs here.

        Returns: what could not be removed, in words.
        """
        begun = begun_copies.read(self._state_dir, uuid, host)
        faults = []
        for disk in _sent(begun) if begun else []:
            faults += sending.remove_volumes(there, disk)
        return faults

    def failed(self, there: t.Any, domain: t.Any, destination: str) -> list[str]:
        """Take away what was made for a move that failed, of a guest that runs here; what could not be, in words."""
        uuid = domain.UUIDString()
        begun = begun_copies.read(self._state_dir, uuid, destination)
        self._sendings.pop(uuid, None)
        for sent in self._digests.pop(uuid, []):
            _forget_digests(sent)
        disks = _sent(begun) if begun else []
        return [
            *self.restore(domain, disks),
            *(fault for disk in disks for fault in sending.remove_volumes(there, disk)),
        ]

    def moved(self, there: t.Any, uuid: str, destination: str) -> None:
        """Put the disks of a guest that has moved together, at the destination first, then what stays here.

        Raises: libvirtError or VirtError for what could not be done. The guest runs all the same, and doing this again
            goes on where it was.
        """
        begun = begun_copies.read(self._state_dir, uuid, destination)
        disks = _sent(begun) if begun else []
        if not disks:
            return
        domain = there.lookupByUUIDString(uuid)
        # From here on the copies there are not what was left.
        published_copies.withdraw(there, uuid)
        for disk in disks:
            layers.merge(domain, disk.target, disk.old.path)
        faults = [fault for disk in disks for fault in sending.remove_volumes(there, disk)]
        for disk in disks:
            with contextlib.suppress(virt.libvirt.libvirtError):
                old_copy.volume_of(there, disk.old).delete(0)
        kept = {disk.target: disk for disk in self._digests.pop(uuid, [])}
        for disk in disks:
            self._put_together(disk, kept.get(disk.target))
        if faults:
            raise virt.VirtError(
                refusal("overlay_not_removed", "; ".join(faults), "remove it by hand (virsh vol-delete)")
            )

    def _put_together(self, disk: SentDisk, sent: SentDisk | None) -> None:
        """Merge what stays here of a disk, and finish its digests where they were begun."""
        writer = sent.digests if sent else None
        try:
            written = _written(disk) if writer else []
            layers.merge_left(disk.layers, disk.below)
            if writer:
                _finish(disk, writer, written)
        except (CapsuleError, OSError) as error:
            raise virt.VirtError(
                refusal("left_not_merged", f"{disk.below} stays here unfinished: {error}", "run it again")
            ) from error
        finally:
            if writer:
                writer.close()


def definitions_there(domain: t.Any, disks: t.Sequence[SentDisk], *, persistent: bool) -> dict[str, str]:
    """The definitions with which a guest is taken in where its disks were sent: libvirt's parameters of a migration.

    Args:
        domain: the guest, which runs here.
        disks: those that were sent.
        persistent: whether its definition goes along.
    """
    lib, tops = virt.libvirt, {disk.target: disk.top for disk in disks}
    wanted = {"destination_xml": lib.VIR_DOMAIN_XML_MIGRATABLE | lib.VIR_DOMAIN_XML_SECURE}
    if persistent:
        # Until the overlay is merged, its image alone is not what the guest has written.
        wanted["persistent_xml"] = lib.VIR_DOMAIN_XML_INACTIVE | lib.VIR_DOMAIN_XML_SECURE
    return {name: _with_images(domain.XMLDesc(flags), tops) for name, flags in wanted.items()}


def _with_images(xml: str, tops: t.Mapping[str, str]) -> str:
    root = xml_text.parsed(xml)
    for disk in root.findall("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        path = None if target is None else tops.get(str(target.get("dev")))
        if path is not None and source is not None:
            source.set("file", path)
            # libvirt reads from the images there what is below them.
            for layer in disk.findall("backingStore"):
                disk.remove(layer)
    return ET.tostring(root, encoding="unicode")


def held_bytes(disks: t.Iterable[SentDisk]) -> int:
    """What the overlays have to which a guest writes now."""
    return sum(disk.held_bytes for disk in disks)


def _written(disk: SentDisk) -> list[int]:
    """The segments that the overlays of a disk have."""
    found: set[int] = set()
    for path in disk.layers:
        if os.path.lexists(path):
            with opened(path, "qcow2") as image:
                for start, length in image.allocated():
                    found.update(range(start // SEGMENT_BYTES, (start + length - 1) // SEGMENT_BYTES + 1))
    return sorted(found)


def _finish(disk: SentDisk, writer: DigestWriter, written: t.Iterable[int]) -> None:
    with opened(disk.below, disk.form) as image:
        for number in written:
            start = number * SEGMENT_BYTES
            writer.replace(number, segment_of(image.read(start, min(SEGMENT_BYTES, image.size_bytes - start))))
        writer.finish(os.stat(disk.below))


def _forget_digests(disk: SentDisk) -> None:
    if disk.digests:
        disk.digests.close()
        disk.digests = None


def _disk_to_send(domain: t.Any, disk: t.Mapping[str, t.Any], old: OldCopy) -> SentDisk:
    size = int(domain.blockInfo(disk["target"], 0)[0])
    return SentDisk(old, str(disk["source"]), str(disk["format"]), size)


def _begun(guest: dict[str, str], destination: str, disks: t.Sequence[SentDisk]) -> begun_copies.Begun:
    return {
        "schema": begun_copies.SCHEMA,
        "guest": guest,
        "destination": destination,
        "disks": [begun_disk(disk) for disk in disks],
    }


def begun_disk(disk: SentDisk) -> begun_copies.BegunDisk:
    """A disk as it stands in the record of what was begun."""
    return {
        "target": disk.target,
        "source": disk.below,
        "path": disk.top,
        "format": disk.form,
        "delta": {
            "pool": disk.old.pool,
            "volume": disk.old.volume,
            "base": disk.old.path,
            "base_format": disk.old.form,
            "format": disk.form,
            "size_bytes": disk.size_bytes,
            "layers": list(disk.layers),
            "overlays": list(disk.overlays),
        },
    }


def _sent(begun: begun_copies.Begun) -> list[SentDisk]:
    """The disks of a record of which only what differs was sent."""
    found = []
    for disk in begun["disks"]:
        delta = disk.get("delta")
        if delta is None:
            continue
        old = OldCopy(disk["target"], delta["pool"], delta["volume"], delta["base"], delta["base_format"], {})
        sent = SentDisk(old, disk["source"], delta["format"], delta["size_bytes"])
        sent.layers, sent.overlays = list(delta["layers"]), list(delta["overlays"])
        found.append(sent)
    return found
