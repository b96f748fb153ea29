# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: merges layers of running guests that no capsule needs alone, so that a guest that is saved
# every night does not run out of layers. libvirt commits them into the lowest of them; the guest goes on meanwhile.
#
# What the upper layer shows does not change at any moment of this: the lower file gets what the upper one has. So its
# record is right before, meanwhile and, with another path, afterwards. The records of the lower ones are not.

from __future__ import annotations

import collections
import contextlib
import os
import re
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.differences import parts_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files, guest_layers
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer, chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import LiveLines
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: Layers that the collection has made; no other file is ever removed.
_OURS = re.compile(r"\.kvmops-\d+[a-z]*\.qcow2$")
_POLL_S = 0.2


class File(t.NamedTuple):
    """One file below the one that a guest writes to.

    Attributes:
        path: where it is.
        form: C(raw) or C(qcow2).
        record: of the image that it shows; of two files that show the same, the record names one.
    """

    path: str
    form: str
    record: ImageRecord


class Merge(t.NamedTuple):
    """Layers of one disk that become one.

    Attributes:
        guest, uuid, target: the disk.
        upper: the file whose image stays.
        lowers: those below it that nobody needs alone, the lowest one last.
    """

    guest: str
    uuid: str
    target: str
    upper: File
    lowers: tuple[File, ...]

    def row(self) -> dict[str, t.Any]:
        """What it is, for a list."""
        gone = [self.upper.path, *(one.path for one in self.lowers[:-1])]
        return {
            "guest": self.guest,
            "target": self.target,
            "image": self.upper.record["image"],
            "into": self.lowers[-1].path,
            "files": [path for path in gone if _OURS.search(path)],
        }


def planned(store: CapsuleStore, connection: t.Any) -> list[Merge]:
    """What can be merged on this host now.

    Args:
        store: of this host.
        connection: to its libvirtd; read-only is enough.
    """
    chains = _chains(connection)
    may_go = _Needs(store, [layers for dummy, dummy, layers in chains]).may_go
    found = []
    for domain, target, layers in chains:
        uuid = domain.UUIDString()
        upper: File | None = None
        lowers: list[File] = []
        for file in [*(_file(store, uuid, layer) for layer in layers[1:]), None]:
            if file is not None and upper is not None and may_go(file, upper):
                lowers.append(file)
                continue
            if upper is not None and lowers:
                found.append(Merge(domain.name(), uuid, target, upper, tuple(lowers)))
            upper, lowers = file, []
    return found


def _file(store: CapsuleStore, uuid: str, layer: Layer) -> File | None:
    """A file of a chain, if it is known what it shows, and nobody else owns it."""
    if layer.path.startswith(os.path.join(store.directory, "")):
        return None
    record = guest_layers.image_at(store, uuid, layer.path)
    return None if record is None else File(layer.path, layer.form, record)


class _Needs:
    """What keeps a file from being merged into.

    Args:
        store: of this host.
        chains: files of all disks of running guests.
    """

    def __init__(self, store: CapsuleStore, chains: t.Sequence[t.Sequence[Layer]]) -> None:
        self._needed = {name for one in store.capsules() for name in parts_of(one.document).values()}
        self._needed |= set(store.in_use())
        self._uses = collections.Counter(layer.path for layers in chains for layer in layers)
        self._standing = collections.Counter(record["backing"] for record in store.images().values())

    def may_go(self, file: File, upper: File) -> bool:
        """Whether a file may show what the one above it shows from now on."""
        record = file.record
        if record["base"] or self._uses[file.path] != 1:
            return False
        if record["image"] == upper.record["image"]:
            return True
        alone = record["path"] == file.path and self._standing[record["image"]] == 1
        return alone and record["image"] not in self._needed


def _chains(connection: t.Any) -> list[tuple[t.Any, str, list[Layer]]]:
    """Domain, target and files (the top one first) of each disk of a running guest."""
    found = []
    for domain in connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        try:
            disks = guest_look.disks_of(guest_look.parse(domain.XMLDesc(0)))
        except virt.libvirt.libvirtError:
            continue
        for disk in disks:
            # What cannot be read is not merged.
            with contextlib.suppress(CapsuleError):
                if disk.kind == "file" and disk.form == "qcow2":
                    found.append((domain, disk.target, chain(disk.path, disk.form)))
    return found


def merge(store: CapsuleStore, connection: t.Any, one: Merge, lines: LiveLines) -> list[str]:
    """Merge; returns what went wrong, in words.

    Args:
        store: of this host.
        connection: to its libvirtd, a writable one.
        one: of C(planned), a moment ago.
        lines: tell how far it is.
    """
    try:
        # Nobody saves, starts or prunes meanwhile.
        with store.guest_lock(one.uuid), store.locked():
            if one not in planned(store, connection):
                return []
            domain = connection.lookupByUUIDString(one.uuid)
            _commit(domain, one, lines)
            _record(store, one)
    except (CapsuleError, virt.libvirt.libvirtError) as error:
        return [f"the layers of disk {one.target} of {one.guest} were not merged: {error}"]
    return []


def _commit(domain: t.Any, one: Merge, lines: LiveLines) -> None:
    base, top = one.lowers[-1].path, one.upper.path
    if domain.blockJobInfo(one.target, 0):
        raise CapsuleError(
            "block_job", f"another block job works on disk {one.target} of {one.guest}", "run the task again later"
        )
    count = lines.counter(f"merging layers of disk {one.target} of {one.guest}")
    domain.blockCommit(one.target, base, top, 0, 0)
    while True:
        info = domain.blockJobInfo(one.target, 0)
        if not info:
            break
        try:
            count(int(info.get("cur", 0)), int(info.get("end", 0)))
        except CapsuleError:
            domain.blockJobAbort(one.target, 0)
            raise
        time.sleep(_POLL_S)
    disk = next(disk for disk in guest_look.disks_of(guest_look.parse(domain.XMLDesc(0))) if disk.target == one.target)
    # A job that has failed is gone as well.
    left = {layer.path for layer in chain(disk.path, disk.form)}
    if top in left or base not in left:
        raise CapsuleError(
            "merge_failed",
            f"libvirt has ended the merge without doing it; the guest runs on {len(left)} files as before",
            "see why: journalctl -u libvirtd -u virtqemud",
        )


def _record(store: CapsuleStore, one: Merge) -> None:
    """Write where the image is now, and remove the files that nothing stands on any more."""
    record, lowest = one.upper.record, one.lowers[-1]
    manifest = store.manifest(record["image"])
    for file in one.lowers:
        if file.record["image"] != record["image"]:
            store.forget_image(file.record["image"])
    place = {"path": lowest.path, "format": lowest.form, "backing": lowest.record["backing"]}
    store.add_image({**record, **place, "facts": file_facts(lowest.path) or {}}, manifest)
    guest_layers.remember(store, one.uuid, lowest.path, record["image"])
    for path in one.row()["files"]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            durable_files.sync_directory(os.path.dirname(path))
