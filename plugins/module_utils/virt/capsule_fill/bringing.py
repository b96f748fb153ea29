# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one disk of a guest that was started from a capsule: its image comes into the store, is
# checked, and the guest is put on it.

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import LazyDisk, socket_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.disk_progress import (
    LINE_S,
    DiskProgress,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.export_reader import ExportReader
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.image_fetch import Fetch
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.placing import Placing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import image_layers, start_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.tickets import Tickets
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.image_users import unused

AGAIN_S = 1.0


class Tell(t.Protocol):
    """Writes a progress line."""

    def __call__(self, phase: str, message: str, **figures: t.Any) -> None: ...


@dataclasses.dataclass(frozen=True)
class Means:
    """What a fill works with.

    Attributes:
        domain: the guest as it is now.
        store, host, tickets: of this host.
        tell: writes progress lines.
        check: raises when the operator wants it to stop.
        reach: makes sure of the export, waits for its source, and resumes the guest.
        wake: resumes the guest if an error of its disk has paused it.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    domain: t.Callable[[], t.Any]
    store: CapsuleStore
    host: str
    tickets: Tickets
    tell: Tell
    check: t.Callable[[], None]
    reach: t.Callable[[], None]
    wake: t.Callable[[], None]
    clock: t.Callable[[], float]
    sleep: t.Callable[[float], None]


class Bringing:
    """One disk.

    Args:
        means: of the fill.
        disk: as it is: a layer on an export.
        progress: is kept up to date.
    """

    def __init__(self, means: Means, disk: LazyDisk, progress: DiskProgress) -> None:
        self._means = means
        self._disk = disk
        self._progress = progress
        self._uuid: str = means.domain().UUIDString()
        self._guest = means.domain()

    def run(self, bytes_per_s: float | None) -> dict[str, t.Any]:
        """Get the image, and put the guest on it; returns what was done.

        Raises:
            CapsuleError, libvirtError: it cannot go on; what is there stays.
        """
        means, disk = self._means, self._disk
        source = means.tickets.read(disk.ticket)["source"]
        capsule = means.store.find_capsule(self._uuid, self._record()["details"]["number"])
        fetch = Fetch(means.store, means.host, source, capsule, disk.target, bytes_per_s, self._told)
        read_bytes = 0
        if not fetch.is_here():
            manifest = fetch.checked_manifest(self._manifest())
            with ExportReader(
                socket_of(disk.ticket, disk.slot),
                fetch.size_bytes,
                bytes_per_s,
                means.reach,
                means.check,
                clock=means.clock,
                sleep=means.sleep,
            ) as reader:
                fetch.run(manifest, reader)
                read_bytes = reader.read_bytes
        means.tell("fill", f"{disk.target}: all of it is here and as the capsule says; the guest is put on it")
        self._place(capsule, fetch.size_bytes)
        return {"target": disk.target, "path": disk.path, "pulled_bytes": read_bytes, "checked": True}

    def _told(self, total: int, here: int) -> None:
        means, progress, now = self._means, self._progress, self._means.clock()
        progress.sample(here, total, now)
        if now - progress.told_at < LINE_S:
            return
        progress.told_at = now
        progress.waits.look(self._guest, self._disk.target)
        means.tell("fill", progress.line(), **progress.figures())
        # A daemon that is restarted meanwhile stops nothing that comes here.
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
            means.wake()

    def _manifest(self) -> bytes:
        while True:
            try:
                return self._means.tickets.fetch(self._disk.ticket, f"manifest {self._disk.slot}")
            except CapsuleError as error:
                if error.refusal["code"] != "export_unreachable":
                    raise
            self._means.sleep(AGAIN_S)
            self._means.reach()

    def _place(self, capsule: StoredCapsule, size_bytes: int) -> None:
        means, target = self._means, self._disk.target
        below = image_layers.below(means.store, capsule.document, [target])[target]

        def look() -> None:
            means.check()
            means.wake()

        placing = Placing(means.domain(), self._disk, below, size_bytes, self._keep, look, means.sleep)
        placing.run(capsule.document["number"])

    def _keep(self, path: str) -> None:
        """Put the path of a layer that is about to be made on record."""
        record = self._record()
        entries = [
            {**one, "placed": [*one.get("placed", []), path]} if one["target"] == self._disk.target else one
            for one in record["details"]["disks"]
        ]
        details = {**record["details"], "disks": entries}
        self._means.store.write_run(f"fill-{self._uuid}", {**record, "details": details})

    def _record(self) -> dict[str, t.Any]:
        record = self._means.store.run(f"fill-{self._uuid}")
        if record is None:
            raise ValueError("the fill is not on record")
        return record


def tidy(domain: t.Any, store: CapsuleStore, on: t.Mapping[str, str]) -> None:
    """Remove layers that the guest has left, and those of runs that died.

    Args:
        domain: the guest.
        store: of this host.
        on: the file that it writes to now, by target.
    """
    record = store.run(f"fill-{domain.UUIDString()}")
    for entry in record["details"]["disks"] if record and not record["ended"] else ():
        if not entry.get("image") or entry["target"] not in on:
            continue
        paths = [path for path in (entry["path"], *entry.get("placed", [])) if path != on[entry["target"]]]
        for path in unused(domain.connect(), paths):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    started = start_record.read(store, domain.UUIDString(), None)
    if started is not None and set(on) & set(started.layers):
        started.write(layers={**started.layers, **{target: on[target] for target in on if target in started.layers}})
