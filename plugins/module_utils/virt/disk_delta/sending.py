# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: sends what a running guest's disks have and their old copies at the destination have not.
#
# The disks are frozen by overlays, and what is below is compared and sent. Meanwhile the guest writes to the overlays;
# these are frozen by others and sent in their turn, until little is left. That is for libvirt's migration to copy.

from __future__ import annotations

import contextlib
import dataclasses
import os
import posixpath
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES, SEGMENT_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta import digest_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.difference import Difference, RangeList
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.digest_file import DigestFileError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import Changes, OverlayFile
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess, opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import layers, old_copy, volume_files
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.disk_digests import DigestWriter, segments
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.old_copy import NoDeltaError, OldCopy

#: Each round lays one more overlay at both ends. A guest that writes faster than this converges is left to libvirt.
MOST_ROUNDS = 5
#: libvirt's mirror sends 64 KiB where a guest has written less. So this much that is left may be sent as 16 times as
#: much. A round takes half a second or more, in which the guest writes too.
LITTLE_BYTES = 32 * 1024


@dataclasses.dataclass
class SentDisk:
    """One disk, as far as it has been sent.

    Attributes:
        old: the copy at the destination.
        below: path of the image here that was frozen first, and its format.
        size_bytes: of the disk.
        layers: paths of the overlays here, the lowest one first. The guest writes to the last one.
        overlays: names of the volumes at the destination, the lowest one first.
        digests: of what was frozen first; finished when the guest has left.
        sent_bytes, digest_bytes: what went there, and what came from there to compare with.
    """

    old: OldCopy
    below: str
    form: str
    size_bytes: int
    layers: list[str] = dataclasses.field(default_factory=list)
    overlays: list[str] = dataclasses.field(default_factory=list)
    digests: DigestWriter | None = None
    sent_bytes: int = 0
    digest_bytes: int = 0

    @property
    def target(self) -> str:
        return self.old.target

    @property
    def top(self) -> str:
        """Path of the image at the destination that the guest will write to."""
        return posixpath.join(posixpath.dirname(self.old.path), self.overlays[-1]) if self.overlays else self.old.path

    def next_layer(self) -> str:
        """Path of the next overlay here."""
        return f"{_stem(self.below)}.kvmops-home-{len(self.layers) + 1}.qcow2"

    def next_overlay(self) -> str:
        """Name of the next volume at the destination."""
        return f"{_stem(self.old.volume)}.kvmops-home-{len(self.overlays) + 1}.qcow2"


def _stem(name: str) -> str:
    stem, ending = posixpath.splitext(name)
    return stem if ending in (".qcow2", ".raw", ".img") else name


class Sending:
    """Sends the disks of one guest.

    Args:
        there: writable connection to the destination.
        host: its name.
        domain: the guest, which runs here.
        disks: those to send.
        keep: called with the disks before anything is made, here or there; keeps on record what will be there.
        tell: called with words about what is done, and the share of it that is done, 0 to 1.
        check: called again and again; raises to end it.
    """

    def __init__(
        self,
        there: t.Any,
        host: str,
        domain: t.Any,
        disks: t.Sequence[SentDisk],
        keep: t.Callable[[t.Sequence[SentDisk]], None],
        tell: t.Callable[[str, float], None],
        check: t.Callable[[], None],
    ) -> None:
        self._there = there
        self._host = host
        self._domain = domain
        self._disks = list(disks)
        self._keep = keep
        self._tell = tell
        self._check = check

    def run(self) -> None:
        """Send until little is left.

        Raises: libvirtError, CapsuleError, DigestFileError, NoDeltaError, OSError, or what C(check) raises. Then layers
            and overlays of the disks are on record, and must be taken away.
        """
        indexes = {
            disk.target: old_copy.index_of(self._there, disk.old, disk.size_bytes, self._host) for disk in self._disks
        }
        self._freeze()
        for disk in self._disks:
            with opened(disk.below, disk.form) as image:
                changes = self._compared(disk, indexes[disk.target], image)
                self._send(disk, changes, image)
        before: int | None = None
        while len(self._disks[0].layers) < MOST_ROUNDS:
            left = sum(map(_held, self._disks))
            # A round that leaves as much as the one before gains nothing.
            if left <= LITTLE_BYTES or (before is not None and left > before * 3 // 4):
                return
            before = left
            self._freeze()
            for disk in self._disks:
                # What was written between the look and the overlay is in it too.
                frozen = disk.layers[-2]
                with opened(frozen, "qcow2") as image:
                    self._send(disk, _allocated(image), image)

    def _freeze(self) -> None:
        wanted = []
        for disk in self._disks:
            below, form = (disk.layers[-1], "qcow2") if disk.layers else (disk.below, disk.form)
            path = disk.next_layer()
            wanted.append(layers.Layer(disk.target, path, below, form, disk.size_bytes))
            disk.layers.append(path)
            disk.overlays.append(disk.next_overlay())
        self._keep(self._disks)
        layers.lay(self._domain, wanted)

    def _compared(self, disk: SentDisk, index: digest_file.Index, image: ImageAccess) -> Changes:
        volume = old_copy.volume_of(self._there, disk.old)

        def rows(first: int, count: int) -> bytes:
            at = digest_file.row_at(disk.size_bytes, first)
            return volume_files.read(volume, at, count * digest_file.ROW_BYTES)

        def told(done: int, count: int) -> None:
            self._check()
            self._tell(f"compares disk {disk.target} with its old copy on {self._host}", done / count)

        found = Difference(index, rows)
        disk.digests = DigestWriter(disk.below + digest_file.SUFFIX, disk.size_bytes)
        disk.digests.open()
        for number, segment in segments(image, told):
            found.add(number, segment)
            disk.digests.add(number, segment)
        changes = found.changes()
        disk.digest_bytes += digest_file.index_bytes(disk.size_bytes) + found.digest_bytes
        return changes

    def _send(self, disk: SentDisk, changes: Changes, image: ImageAccess) -> None:
        name = disk.overlays[-1]
        below = disk.overlays[-2] if len(disk.overlays) > 1 else disk.old.volume
        form = "qcow2" if len(disk.overlays) > 1 else disk.old.form
        folder = posixpath.dirname(disk.old.path)
        overlay = OverlayFile(disk.size_bytes, posixpath.join(folder, below), form, changes)
        pool = self._there.storagePoolLookupByName(disk.old.pool)
        volume = pool.createXML(_volume_xml(name, overlay.length), 0)
        total, done = max(1, changes.data_bytes), 0

        def sent(length: int) -> None:
            nonlocal done
            self._check()
            done += length
            self._tell(f"sends what differs of disk {disk.target}", min(1.0, done / total))

        disk.sent_bytes += volume_files.write(volume, overlay, _Read(image), sent)
        # libvirt takes it for what it was made as until it looks again.
        pool.refresh(0)


class _Read:
    """Reads a disk in whole segments, because single blocks are asked for one after the other."""

    def __init__(self, image: ImageAccess) -> None:
        self._image = image
        self._number = -1
        self._content = b""

    def __call__(self, offset: int, length: int) -> bytes:
        found = b""
        while len(found) < length:
            at = offset + len(found)
            number = at // SEGMENT_BYTES
            if number != self._number:
                start = number * SEGMENT_BYTES
                size = min(SEGMENT_BYTES, self._image.size_bytes - start)
                self._content = self._image.read(start, size).ljust(SEGMENT_BYTES, b"\0")
                self._number = number
            begin = at - number * SEGMENT_BYTES
            found += self._content[begin : begin + length - len(found)]
        return found


def _allocated(image: ImageAccess) -> Changes:
    """All blocks that the top file of an image has."""
    found, end = RangeList(), 0
    for start, length in image.allocated():
        first = max(end, start // BLOCK_BYTES)
        end = max(first, -(-(start + length) // BLOCK_BYTES))
        if end > first:
            found.add(first, end - first)
    return Changes(found.ranges())


def _held(disk: SentDisk) -> int:
    """Bytes that the overlay has to which the guest writes."""
    with contextlib.suppress(OSError):
        return max(0, os.stat(disk.layers[-1]).st_blocks * 512 - layers.EMPTY_BYTES)
    return 0


def _volume_xml(name: str, length: int) -> str:
    root = ET.Element("volume")
    ET.SubElement(root, "name").text = name
    ET.SubElement(root, "capacity", unit="bytes").text = str(length)
    ET.SubElement(root, "allocation", unit="bytes").text = "0"
    ET.SubElement(ET.SubElement(root, "target"), "format", type="raw")
    return ET.tostring(root, encoding="unicode")


#: What may go wrong while disks are sent. The guest is copied as a whole then.
ERRORS = (CapsuleError, DigestFileError, NoDeltaError, OSError)


def in_words(error: Exception) -> str:
    """Why what differs could not be sent."""
    if isinstance(error, CapsuleError):
        return str(error.refusal["reason"])
    return str(error)


def remove_volumes(there: t.Any, disk: SentDisk) -> list[str]:
    """Remove the overlays of a disk at the destination; returns what could not be, in words."""
    faults = []
    lib = virt.libvirt
    for name in reversed(disk.overlays):
        try:
            there.storagePoolLookupByName(disk.old.pool).storageVolLookupByName(name).delete(0)
        except lib.libvirtError as error:
            if error.get_error_code() != lib.VIR_ERR_NO_STORAGE_VOL:
                faults.append(f"the overlay {name} could not be removed: {error}")
    return faults
