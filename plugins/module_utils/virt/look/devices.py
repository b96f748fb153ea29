# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the host's own files tell of the devices and directories that a guest has of it.

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import host_devices
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage import Storage

#: Where libvirt keeps the state of emulated TPMs.
TPM_STATE = "/var/lib/libvirt/swtpm"


class HostDevices:
    """Adds to the facts of a host what only one guest has to do with.

    Args:
        storage: tells where a path is.
        sysfs: where drivers are looked up.
    """

    def __init__(self, storage: Storage, sysfs: Path = Path("/sys")) -> None:
        self._storage = storage
        self._sysfs = sysfs

    def facts_of(self, root: ET.Element, facts: Facts) -> Facts:
        """The facts about one guest.

        Args:
            root: its live XML.
            facts: of the host.
        """
        return facts._replace(
            tpm_shared=self._tpm_shared(root),
            drives=[path for path in _block_devices(root) if self._storage.is_drive(path)],
            drivers=dict(self._drivers(root)),
            local_places=dict(self._local_places(root)),
            mounted=dict(self._mounted(root)),
        )

    def _tpm_shared(self, root: ET.Element) -> bool | None:
        backend = root.find("devices/tpm/backend[@type='emulator']")
        if backend is None:
            return None
        own = backend.find("source")
        path = own.get("path") if own is not None else None
        return self._storage.place("file", path or TPM_STATE).shared

    def _mounted(self, root: ET.Element) -> t.Iterator[tuple[str, str]]:
        for element in root.findall("devices/disk"):
            disk = guest_xml.disk(element)
            at = self._storage.mounted_at(disk["type"], disk["source"]) if disk["source"] else None
            if at:
                yield disk["source"], at

    def _drivers(self, root: ET.Element) -> t.Iterator[tuple[str, str]]:
        """The kernel's driver of each device that is passed through; its name is the end of a symbolic link."""
        for element in (*root.findall("devices/hostdev"), *root.findall("devices/interface[@type='hostdev']")):
            place = host_devices.place_of(element)
            if place is None or "/" in place or place.startswith("."):
                continue
            bus = "mdev" if element.get("type") == "mdev" else "pci"
            link = self._sysfs / "bus" / bus / "devices" / place / "driver"
            if link.is_symlink() or link.exists():
                yield place, link.resolve().name

    def _local_places(self, root: ET.Element) -> t.Iterator[tuple[str, str]]:
        paths = [("file", source.get("dir")) for source in root.findall("devices/filesystem/source")]
        nvram = root.find("os/nvram[@type]")
        if nvram is not None:
            paths.append((nvram.get("type", "file"), guest_xml.source(nvram)))
        for kind, path in paths:
            if path:
                place = self._storage.place(kind, path)
                if place.shared is False and not place.undeclared:
                    yield path, place.why or "?"


def _block_devices(root: ET.Element) -> t.Iterator[str]:
    for source in root.findall("devices/disk[@type='block']/source[@dev]"):
        yield source.get("dev", "")
