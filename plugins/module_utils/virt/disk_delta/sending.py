# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: sends what a running guest's disks have and their old copies at the destination have not.
#
# The disks are frozen by overlays, and what is below is compared and sent. Meanwhile the guest writes to the overlays;
# these are frozen by others and sent in their turn, until a round leaves no less than the one before. The last round
# comes right before libvirt's call: its mirror sends 64 KiB for each block that was written between the two.

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import posixpath
import typing as t
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta import digest_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.difference import Difference
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.digest_file import DigestFileError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_blocks import (
    OverlayBlocks,
    OverlayBlocksError,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import (
    Changes,
    OverlayFile,
    Range,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess, opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import layers, old_copy, volume_files
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.disk_digests import DigestWriter, segments
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.old_copy import NoDeltaError, OldCopy

#: Each round lays one more overlay at both ends. A guest that writes faster than this converges is left to libvirt.
MOST_ROUNDS = 5
#: So little is left for the last round.
LITTLE_BYTES = 64 * 1024
#: So many reads are on the way at once: each waits several times for an answer from the destination. libvirtd takes
#: five calls at a time from one client (max_client_requests).
READERS = 4


@dataclasses.dataclass
class SentDisk:
    """One disk, as far as it has been sent.

    Attributes:
        old: the copy at the destination.
        below: path of the image here that was frozen first, and its format.
        size_bytes: of the disk.
        layers: paths of the overlays here, the lowest one first. The guest writes to the last one that is there: the
            files of the last round are named before they are made.
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

    def name_next(self) -> None:
        """Name the next overlay here and the next volume at the destination."""
        ending = f"kvmops-home-{len(self.layers) + 1}.qcow2"
        self.layers.append(f"{_stem(self.below)}.{ending}")
        self.overlays.append(f"{_stem(self.old.volume)}.{ending}")

    @property
    def held_bytes(self) -> int:
        """What the overlay has to which the guest writes."""
        for path in reversed(self.layers):
            with contextlib.suppress(OSError):
                return max(0, os.stat(path).st_blocks * 512 - layers.EMPTY_BYTES)
        return 0


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
        """Send until little is left, and name the files of the last round.

        Raises: libvirtError, any of C(ERRORS), or what C(check) raises. Then layers and overlays of the disks are on
            record, and must be taken away.
        """
        indexes = {
            disk.target: old_copy.index_of(self._there, disk.old, disk.size_bytes, self._host) for disk in self._disks
        }
        self._name_next()
        self._freeze()
        for disk in self._disks:
            with opened(disk.below, disk.form) as image:
                self._send(disk, self._compared(disk, indexes[disk.target], image), _Read(image))
        before: int | None = None
        while len(self._disks[0].layers) < MOST_ROUNDS:
            left = sum(disk.held_bytes for disk in self._disks)
            # A round that leaves as much as the one before gains nothing.
            if left <= LITTLE_BYTES or (before is not None and left > before * 3 // 4):
                break
            before = left
            self._name_next()
            self._send_rest()
        self._name_next()

    def last_round(self) -> None:
        """Send what the guest has written since C(run). It takes a moment, so nobody is told, and nobody ends it.

        Raises: as C(run).
        """
        self._tell, self._check = _say_nothing, _go_on
        self._send_rest()

    def _send_rest(self) -> None:
        """Make the files that were named last, and send what the guest has written since the round before."""
        self._freeze()
        for disk in self._disks:
            with open(disk.layers[-2], "rb", buffering=0) as file:
                held = OverlayBlocks(functools.partial(_part, file.fileno()), disk.size_bytes)
                self._send(disk, held.changes, held.content)

    def _name_next(self) -> None:
        for disk in self._disks:
            disk.name_next()
        self._keep(self._disks)

    def _freeze(self) -> None:
        wanted = []
        for disk in self._disks:
            below, form = (disk.layers[-2], "qcow2") if len(disk.layers) > 1 else (disk.below, disk.form)
            wanted.append(layers.Layer(disk.target, disk.layers[-1], below, form, disk.size_bytes))
        layers.lay(self._domain, wanted)

    def _compared(self, disk: SentDisk, index: digest_file.Index, image: ImageAccess) -> Changes:
        volume = old_copy.volume_of(self._there, disk.old)

        def read(wanted: Range) -> bytes:
            at = digest_file.row_at(disk.size_bytes, wanted[0])
            return volume_files.read(volume, at, wanted[1] * digest_file.ROW_BYTES)

        def rows(ranges: t.Sequence[Range]) -> list[bytes]:
            with ThreadPoolExecutor(READERS) as readers:
                return list(readers.map(read, ranges))

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

    def _send(self, disk: SentDisk, changes: Changes, content: t.Callable[[int, int], bytes]) -> None:
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

        disk.sent_bytes += volume_files.write(volume, overlay, content, sent)


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


def _say_nothing(_words: str, _share: float) -> None:
    """Tell nobody."""


def _go_on() -> None:
    """Let nobody end it."""


def _part(descriptor: int, offset: int, length: int) -> bytes:
    return os.pread(descriptor, length, offset)


def _volume_xml(name: str, length: int) -> str:
    root = ET.Element("volume")
    ET.SubElement(root, "name").text = name
    ET.SubElement(root, "capacity", unit="bytes").text = str(length)
    ET.SubElement(root, "allocation", unit="bytes").text = "0"
    ET.SubElement(ET.SubElement(root, "target"), "format", type="raw")
    return ET.tostring(root, encoding="unicode")


#: What may go wrong while disks are sent. The guest is copied as a whole then.
ERRORS = (CapsuleError, DigestFileError, NoDeltaError, OverlayBlocksError, OSError)


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
