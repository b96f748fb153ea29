# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the copies of a guest's disks around its move: which images at the destination may be
# overwritten, which are made, and what stays behind.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import left_copies as copies
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import to_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies, left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.sending import SentDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import published_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.image_users import unused
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import images
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.disk_deltas import (
    DiskDeltas,
    begun_disk,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.images import Image

Guest = t.Mapping[str, t.Any]
Intent = t.Mapping[str, t.Any]


class DiskCopies:
    """Copies of the disks of guests that leave this host.

    Args:
        state_dir: where this host keeps its records.
        host: its name.
        now: the time of now as the contracts write it.

    Attributes:
        deltas: sends only what differs, where that can be.
    """

    def __init__(self, state_dir: str, host: str, now: t.Callable[[], str]) -> None:
        self._state_dir = state_dir
        self._host = host
        self._now = now
        self.deltas = DiskDeltas(state_dir)

    def ours(self, there: t.Any, guest: Guest, intent: Intent, destination: str) -> frozenset[str]:
        """Paths at a destination that a copy may overwrite: provably an old copy of this very guest, and unused.

        They are what the guest has left there, unchanged since it was recorded, and what a copy from here has begun
        that was not ended.

        Args:
            there: connection to the destination.
            guest: the guest's part of this host's snapshot.
            intent: a complete intent.
            destination: its name.
        """
        disks = to_copy(guest, intent)
        if not disks:
            return frozenset()
        uuid = guest["uuid"]
        unfinished = begun_copies.read(self._state_dir, uuid, destination)
        begun = {disk["path"] for disk in unfinished["disks"]} if unfinished else set()
        record = published_copies.read(there, uuid)
        # Where a symbolic link has been, libvirt would remove the link and leave the image that it leads to.
        left = {disk["path"]: disk for disk in (record["disks"] if record else ()) if disk.get("is_file") is not False}
        wanted = images.planned(there, disks) if begun or left else []
        for pool in sorted({image.pool for dummy, image in wanted if image.path in left}):
            # libvirt knows no volume that a shell made since its last look. Over a read-only connection it cannot look.
            with contextlib.suppress(virt.libvirt.libvirtError):
                there.storagePoolLookupByName(pool).refresh(0)
        unchanged = {
            image.path
            for dummy, image in wanted
            if image.path in left and _is_unchanged(there, image, left[image.path])
        }
        unfinished_paths = {image.path for dummy, image in wanted if image.path in begun}
        # A copy that was not ended has no definition there. Where the guest itself is defined with it, it did arrive,
        # and the image may be all that there is of it.
        return unused(there, unchanged, but=uuid) | unused(there, unfinished_paths)

    def begin(
        self,
        there: t.Any,
        domain: t.Any,
        guest: Guest,
        intent: Intent,
        destination: str,
        sent: t.Sequence[SentDisk] = (),
    ) -> list[Image]:
        """Make the images that the disks are copied to; returns them.

        Args:
            there: writable connection to the destination.
            domain: the guest's ``virDomain`` here.
            guest, intent, destination: as in ``ours``.
            sent: disks whose differences were sent already. No image is made for them.

        Raises: libvirtError, or VirtError for what is at their paths already. Then none is left.
        """
        differing = {disk.target for disk in sent}
        disks = [disk for disk in to_copy(guest, intent) if disk["target"] not in differing]
        if not disks:
            return []
        ours = self.ours(there, guest, intent, destination)
        wanted = images.planned(there, disks)
        made = images.make(there, domain, destination, wanted, ours)
        here = domain.connect()
        copied: list[begun_copies.BegunDisk] = [
            {
                "target": disk["target"],
                "source": _path_here(here, disk),
                "path": image.path,
                "format": disk.get("format"),
            }
            for disk, image in wanted
        ]
        begun: begun_copies.Begun = {
            "schema": begun_copies.SCHEMA,
            "guest": {"name": guest["name"], "uuid": guest["uuid"]},
            "destination": destination,
            "disks": [*copied, *map(begun_disk, sent)],
        }
        try:
            begun_copies.store(self._state_dir, begun)
        except OSError as error:
            images.remove(there, made)
            raise _not_on_record(error) from error
        if any(image.path in ours for dummy, image in wanted):
            # What was left there is gone, and must not be taken for the image that is there now.
            published_copies.withdraw(there, guest["uuid"])
        return made

    def left_in_layers(self, uuid: str, destination: str, layers: t.Mapping[str, t.Sequence[str]]) -> None:
        """Put on record that disks were frozen for the move, and so stay here in several images.

        Args:
            uuid, destination: of copies that were begun.
            layers: the images of each disk, by target, the top one first.

        Raises: VirtError when that cannot be; the guest must not be sent then.
        """
        begun = begun_copies.read(self._state_dir, uuid, destination)
        if begun is None:
            return
        disks = [{**disk, "source": path} for disk in begun["disks"] for path in layers[disk["target"]]]
        try:
            begun_copies.store(self._state_dir, {**begun, "disks": t.cast("list[begun_copies.BegunDisk]", disks)})
        except OSError as error:
            raise _not_on_record(error) from error

    def failed(self, there: t.Any, domain: t.Any, destination: str, made: t.Sequence[Image]) -> list[str]:
        """Remove the images of a copy that failed, of a guest that runs here; returns what could not be, in words."""
        faults = [*images.remove(there, made), *self.deltas.failed(there, domain, destination)]
        if not faults:
            begun_copies.remove(self._state_dir, domain.UUIDString(), destination)
        return faults

    def has_begun(self, uuid: str, destination: str) -> bool:
        """Whether copies of a guest's disks to a destination were begun, and have not ended."""
        return begun_copies.read(self._state_dir, uuid, destination) is not None

    def not_recorded(self, error: Exception) -> Refusal:
        """The fault of a guest that has moved and whose images here are on no record."""
        return refusal(
            "left_copies_not_recorded",
            f"the images that stay on {self._host} could not be recorded ({error}), so they bar its way home",
            f"remove them on {self._host} by hand once it surely runs from its copies",
        )

    def moved(
        self, here: t.Any, there: t.Any, uuid: str, destination: str
    ) -> tuple[list[dict[str, t.Any]], Refusal | None]:
        """Record what a guest that has moved leaves here. Without copies that were begun, this does nothing.

        Args:
            here, there: writable connections to this host's libvirtd and to the destination's.
            uuid: the guest, which runs at the destination.
            destination: its name.

        Returns: the images that stay, and what could not be recorded, or None.
        """
        begun = begun_copies.read(self._state_dir, uuid, destination)
        if begun is None:
            return [], None
        try:
            self.deltas.moved(there, uuid, destination)
        except virt.libvirt.libvirtError as error:
            return [], _not_put_together(begun["guest"]["name"], destination, error)
        except virt.VirtError as error:
            return [], error.refusal
        at = self._now()
        disks: list[dict[str, t.Any]] = [
            {
                "target": disk["target"],
                "path": disk["source"],
                "format": disk.get("format"),
                **left_copies.facts_of(disk["source"]),
                "at": at,
                "destination": destination,
            }
            for disk in begun["disks"]
        ]
        record = copies.record_of(begun["guest"], self._host, disks, left_copies.load(self._state_dir, uuid))
        try:
            left_copies.store(self._state_dir, record)
            published_copies.publish(here, record)
        except (OSError, virt.libvirt.libvirtError) as error:
            return disks, self.not_recorded(error)
        begun_copies.remove(self._state_dir, uuid, destination)
        return disks, None


def _not_on_record(error: OSError) -> virt.VirtError:
    return virt.VirtError(
        refusal(
            "copies_not_recorded",
            f"the copies of its disks cannot be recorded here ({error.strerror or error}), so nothing was started",
            "make room on the file system of the state directory, then run it again",
        )
    )


def _not_put_together(guest: str, destination: str, error: Exception) -> Refusal:
    return refusal(
        "overlay_not_merged",
        f"{guest} runs on {destination}, on an overlay that could not be merged into its disk: {error}",
        "run it again: it goes on where it was",
    )


def _path_here(here: t.Any, disk: t.Mapping[str, t.Any]) -> str:
    """Where a disk's image is on this host; a volume's name where that cannot be told."""
    if disk["type"] == "volume":
        pool, _slash, volume = str(disk["source"]).partition("/")
        with contextlib.suppress(virt.libvirt.libvirtError):
            return str(here.storagePoolLookupByName(pool).storageVolLookupByName(volume).path())
    return str(disk["source"])


def _is_unchanged(there: t.Any, image: Image, disk: t.Mapping[str, t.Any]) -> bool:
    """Whether the image there is the one that was recorded, as the destination's libvirtd sees it."""
    try:
        volume = there.storagePoolLookupByName(image.pool).storageVolLookupByName(image.volume)
        root = xml_text.parsed(volume.XMLDesc(0))
    except virt.libvirt.libvirtError:
        return False
    physical = root.findtext("physical")
    return copies.is_as_we_left_it(
        disk, int(physical) if physical else None, _nanoseconds(root.findtext("target/timestamps/mtime"))
    )


def _nanoseconds(text: str | None) -> int | None:
    """A time as libvirt writes it.

    >>> _nanoseconds("1795485600.000000007"), _nanoseconds("1795485600"), _nanoseconds(None)
    (1795485600000000007, 1795485600000000000, None)
    """
    seconds, _point, left = (text or "").partition(".")
    if not seconds.isdecimal() or not (left.isdecimal() or not left):
        return None
    return int(seconds) * 10**9 + int(left.ljust(9, "0")[:9] or 0)
