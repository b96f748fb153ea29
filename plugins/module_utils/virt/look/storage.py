# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: where a guest's disks are, and whether other hosts see the same disks.

from __future__ import annotations

import contextlib
import os
import re
import shlex
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import (
    COPIED_TYPES,
    Lost,
    Place,
    located,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import Mount, mount_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.shared_devices import is_listed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.mounted_devices import MountedDevices

#: Names of block devices that are on a network.
_NETWORK_DEVICES = re.compile(r"^(rbd|nbd|drbd)\d")
#: The transport of a SCSI device, by its path in sysfs.
_TRANSPORTS = ((re.compile(r"/session\d+/"), "iSCSI"), (re.compile(r"/rport-"), "Fibre Channel"))

#: Names of drives for media.
_DRIVES = re.compile(r"^(sr|fd)\d+$")
#: Disks that are devices or programs of this host: whether the destination has them is not known here.
_DEVICES = ("nvme", "vhostuser", "vhostvdpa")


class Storage:
    """Says for each disk whether it is shared, and why. Asks no storage that may hang.

    Args:
        connection: to resolve volumes of storage pools.
        mounts: the host's, with shared_filesystems of qemu.conf.
        sysfs: where block devices are looked up.
        shared_devices: patterns of paths of block devices that all hosts see, as the operator says.
        mounted: where devices are mounted (C(core.snapshot.host_files.mounted_devices)).
    """

    def __init__(
        self,
        connection: t.Any,
        mounts: t.Sequence[Mount],
        sysfs: Path = Path("/sys"),
        shared_devices: t.Sequence[str] = (),
        mounted: t.Mapping[str, str] | None = None,
    ) -> None:
        self._connection = connection
        self._mounts = mounts
        self._sysfs = sysfs
        self._shared_devices = shared_devices
        self._volumes: dict[str, str | Lost] = {}
        self._mounted = MountedDevices(sysfs, mounted or {})

    def describe(self, disk: dict[str, t.Any]) -> None:
        """Fill in where a disk is (C(core.snapshot.copied_disks.located))."""
        if not disk["source"]:
            return
        layers = disk.get("layers") or []
        top = self.place(disk["type"], disk["source"])
        disk.update(located(disk, top, [self.place(layer["type"], layer["source"]) for layer in layers]))

    def place(self, kind: str, source: str) -> Place:
        """Where one image is, or a directory.

        Args:
            kind: libvirt's type of the disk or layer.
            source: as C(core.snapshot.guest_xml.source) writes it.
        """
        if kind in _DEVICES:
            return Place(None, f"{kind} device")
        if kind == "volume":
            path = self._volume(source)
            if isinstance(path, Lost):
                return Place(False if path.what else None, lost=path if path.what else None)
            source = path
        if not source.startswith("/"):
            return _server(source)
        resolved = source if source.startswith("/dev/") else self.resolve(source)
        if resolved.startswith("/dev/"):
            return self._device(resolved, source)
        mount = mount_of(resolved, self._mounts)
        if mount is None:
            return Place()
        if mount["shared"] or mount.get("undeclared"):
            undeclared = None if mount["shared"] else mount["path"]
            return Place(mount["shared"], f"{mount['type']} ({mount['source']})", undeclared)
        return Place(False, mount["type"])

    def is_drive(self, path: str) -> bool:
        """Whether a path is a drive of the host for media, whatever it is called."""
        return path.startswith("/dev/") and _DRIVES.match(Path(os.path.realpath(path)).name) is not None

    def mounted_at(self, kind: str, source: str) -> str | None:
        """Where this host has mounted a block device, a part of it, or an image file by a loop device; or None."""
        if kind == "volume":
            path = self._volume(source)
            if isinstance(path, Lost):
                return None
            source = path
        if kind not in COPIED_TYPES or not source.startswith("/"):
            return None
        resolved = self.resolve(source)
        return self._mounted.of_device(resolved) if resolved.startswith("/dev/") else self._mounted.of_file(resolved)

    def resolve(self, path: str) -> str:
        """Follow symbolic links, but none on network storage: its server may not answer."""
        done, left = "/", [part for part in path.split("/") if part]
        for _step in range(200):
            if not left:
                break
            part = left.pop(0)
            done = os.path.normpath(os.path.join(done, part))
            mount = mount_of(done, self._mounts)
            if mount is not None and (mount["shared"] or mount.get("undeclared")):
                return os.path.normpath("/".join([done, *left]))
            if os.path.islink(done):
                target = os.readlink(done)
                left = [step for step in (*target.split("/"), *left) if step]
                done = "/" if target.startswith("/") else str(Path(done).parent)
        return done

    def _device(self, path: str, written: str) -> Place:
        """Where a block device is, of which the guest's definition has another name, perhaps."""
        name = Path(os.path.realpath(path)).name
        leaves = self._leaves(name)
        if not leaves:
            return Place()
        if any(is_listed(known, self._shared_devices) for known in (written, path)):
            return Place(True, f"block device {name}, which all hosts see by the inventory")
        places = [self._leaf(leaf) for leaf in leaves]
        return next((place for place in places if not place.shared), places[0])

    def _leaves(self, name: str) -> list[str]:
        """The devices at the bottom of a stack of LVM, multipath or RAID."""
        entry = self._sysfs / "class/block" / name
        if not entry.exists():
            return []
        with contextlib.suppress(OSError):
            below = sorted(slave.name for slave in (entry / "slaves").iterdir())
            if below:
                return [leaf for slave in below for leaf in self._leaves(slave)]
        return [name]

    def _leaf(self, name: str) -> Place:
        if _NETWORK_DEVICES.match(name):
            return Place(True, f"block device {name}")
        where = os.path.realpath(self._sysfs / "class/block" / name) + "/"
        for pattern, transport in _TRANSPORTS:
            if pattern.search(where):
                return Place(True, f"{transport} ({name})")
        if name.startswith("nvme"):
            transports = self._nvme_transports(name)
            if transports and "pcie" not in transports:
                return Place(True, f"NVMe over {'/'.join(sorted(transports))} ({name})")
        return Place(False, f"local block device {name}")

    def _nvme_transports(self, name: str) -> set[str]:
        """How the controllers of an NVMe device are attached; with multipath they are all below its subsystem."""
        device = self._sysfs / "class/block" / name / "device"
        with contextlib.suppress(OSError):
            files = [device / "transport", *device.glob("nvme*/transport")]
            return {file.read_text(encoding="ascii").strip() for file in files if file.is_file()}
        return set()

    def _volume(self, source: str) -> str | Lost:
        """The path of a volume, or why it is not known."""
        if source not in self._volumes:
            lib, (pool, _slash, volume) = virt.libvirt, source.partition("/")
            found: str | Lost
            try:
                found = str(self._connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path())
            except lib.libvirtError as error:
                found = _lost(pool, volume, error.get_error_code())
            self._volumes[source] = found
        return self._volumes[source]


def _lost(pool: str, volume: str, code: int) -> Lost:
    lib, name = virt.libvirt, shlex.quote(pool)
    if code == lib.VIR_ERR_NO_STORAGE_POOL:
        return Lost(
            f"is in storage pool {pool}, which this host does not have any more",
            "define that pool again and start it (virsh pool-define, virsh pool-start)",
        )
    if code == lib.VIR_ERR_NO_STORAGE_VOL:
        return Lost(f"is no volume that storage pool {pool} of this host knows", f"virsh pool-refresh {name}")
    if code == lib.VIR_ERR_OPERATION_INVALID:
        return Lost(f"is in storage pool {pool} of this host, which is not active", f"virsh pool-start {name}")
    return Lost("", "")


def _server(source: str) -> Place:
    """A network disk. Its server may be this host, where the destination would find another one."""
    protocol, dummy, at = source.split(":", 1)[0].partition("+")
    if at == "localhost":
        return Place(False, f"{protocol} on localhost")
    return Place(False, f"{protocol}+{at} on this host") if at == "unix" else Place(True, source)
