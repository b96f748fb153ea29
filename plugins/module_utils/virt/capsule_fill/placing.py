# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: puts a guest on an image of this host that has the content of the export which it reads.
# What it has written goes to a new layer on that image, while it runs.

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Layer
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import LazyDisk, put_on
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look, layers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: Unit of what is copied: a sub-cluster of the guest's layer, so that nothing of the export is copied with it. A bit
#: for each is in memory meanwhile: 16 MiB for this size. Above it 64 KiB are the unit.
FINE_BYTES, COARSE_BYTES, MOST_FINE_BYTES = 2048, 65536, 256 * 1024**3
LOOK_S = 0.2


class Placing:
    """One disk of a guest.

    Args:
        domain: the guest.
        disk: as it is: a layer on an export.
        below: the files of the image, the top one first.
        size_bytes: of the disk.
        keep: puts the path of the new layer on record.
        look: is called again and again while it lasts; raises when it has to end.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        domain: t.Any,
        disk: LazyDisk,
        below: t.Sequence[Layer],
        size_bytes: int,
        keep: t.Callable[[str], None],
        look: t.Callable[[], None],
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._domain = domain
        self._disk = disk
        self._below = below
        self._size_bytes = size_bytes
        self._keep = keep
        self._look = look
        self._sleep = sleep

    def run(self, number: int) -> None:
        """Put the guest on the image.

        Args:
            number: of the capsule, for the name of the new layer.

        Raises:
            CapsuleError, libvirtError: it could not be done; the guest goes on as before.
        """
        group = guest_look.qemu_group(self._domain.connect())
        for layer in self._below:
            layers.let_read(layer.path, group)
        if self._domain.isActive():
            self._while_it_runs(number)
        else:
            self._while_it_is_off()

    def _while_it_runs(self, number: int) -> None:
        self._end_job()
        stem = self._disk.path.rpartition(".kvmops-")[0] or os.path.splitext(self._disk.path)[0]
        path = layers.free_path(stem, number)
        self._keep(path)
        layers.make(path, self._below[0].path, self._below[0].format, self._size_bytes)
        lib = virt.libvirt
        flags = (
            lib.VIR_DOMAIN_BLOCK_COPY_SHALLOW
            | lib.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
            | lib.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        )
        unit = FINE_BYTES if self._size_bytes <= MOST_FINE_BYTES else COARSE_BYTES
        try:
            self._domain.blockCopy(self._disk.target, self._described(path), {"granularity": unit}, flags)
            self._pivot(path)
        except BaseException:
            # Where libvirt does not answer, the next run does this.
            with contextlib.suppress(lib.libvirtError):
                if not self._is_on(path):
                    self._end_job()
                    layers.remove(path)
            raise

    def _pivot(self, path: str) -> None:
        """Wait until both layers are the same, and let the guest go on with the new one."""
        lib = virt.libvirt
        while True:
            job = self._domain.blockJobInfo(self._disk.target, 0)
            if not job:
                if self._is_on(path):
                    return
                raise CapsuleError(
                    "copy_failed",
                    f"what {self._domain.name()} has written to {self._disk.path} could not be copied to {path}",
                    f"see /var/log/libvirt/qemu/{self._domain.name()}.log and the room there; then run it again",
                )
            if (job["cur"] == job["end"] and job["end"]) or self._is_ready():
                with contextlib.suppress(lib.libvirtError):
                    self._domain.blockJobAbort(self._disk.target, lib.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
            self._look()
            self._sleep(LOOK_S)

    def _end_job(self) -> None:
        """End what a run that died has begun."""
        with contextlib.suppress(virt.libvirt.libvirtError):
            if self._domain.blockJobInfo(self._disk.target, 0):
                self._domain.blockJobAbort(self._disk.target, 0)

    def _is_on(self, path: str) -> bool:
        root = xml_text.parsed(self._domain.XMLDesc(0))
        return any(one.get("file") == path for one in root.iterfind("devices/disk/source"))

    def _is_ready(self) -> bool:
        root = xml_text.parsed(self._domain.XMLDesc(0))
        return any(
            disk.find("mirror[@ready='yes']") is not None
            for disk in root.findall("devices/disk")
            if disk.find(f"target[@dev='{self._disk.target}']") is not None
        )

    def _described(self, path: str) -> str:
        disk = ET.Element("disk", type="file")
        put_on(disk, [(path, "qcow2"), *((layer.path, layer.format) for layer in self._below)])
        return ET.tostring(disk, encoding="unicode")

    def _while_it_is_off(self) -> None:
        """The layer stays; only what it says of the file below is another one."""
        path, first = self._disk.path, self._below[0]
        words = ["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", first.path, "-F", first.format, path]
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise CapsuleError(
                "layer_not_changed",
                f"{path} cannot be put on {first.path}: {done.stderr.strip()[-300:]}",
                f"see whether somebody has started {self._domain.name()} meanwhile; then run it again",
            )
        secure = virt.libvirt.VIR_DOMAIN_XML_INACTIVE | virt.libvirt.VIR_DOMAIN_XML_SECURE
        root = xml_text.parsed(self._domain.XMLDesc(secure))
        for disk in root.findall("devices/disk"):
            if disk.find(f"target[@dev='{self._disk.target}']") is not None:
                put_on(disk, [(path, "qcow2"), *((layer.path, layer.format) for layer in self._below)])
        self._domain.connect().defineXML(ET.tostring(root, encoding="unicode"))
