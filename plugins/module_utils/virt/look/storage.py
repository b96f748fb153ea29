# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: where a guest's disks are, and whether other hosts see the same disks.

from __future__ import annotations

import contextlib
import os
import re
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import Mount, mount_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: Names of block devices that are on a network.
_NETWORK_DEVICES = re.compile(r"^(rbd|nbd|drbd)\d")
#: The transport of a SCSI device, by its path in sysfs.
_TRANSPORTS = ((re.compile(r"/session\d+/"), "iSCSI"), (re.compile(r"/rport-"), "Fibre Channel"))

Where = tuple[t.Optional[bool], t.Optional[str]]


class Storage:
    """Says for each disk whether it is shared, and why. Asks no storage that may hang.

    Args:
        connection: to resolve volumes of storage pools.
        mounts: the host's, with shared_filesystems of qemu.conf.
        sysfs: where block devices are looked up.
    """

    def __init__(self, connection: t.Any, mounts: t.Sequence[Mount], sysfs: Path = Path("/sys")) -> None:
        self._connection = connection
        self._mounts = mounts
        self._sysfs = sysfs
        self._volumes: dict[str, str | None] = {}

    def describe(self, disk: dict[str, t.Any]) -> None:
        """Fill in C(shared) and C(shared_why) of a disk. It is shared only if each of its layers is."""
        if not disk["source"]:
            return
        kind, source = disk["type"], disk["source"]
        if kind == "volume":
            source = self._volume(source)
        verdicts: list[Where] = [self._where(kind, source) if source else (None, None)]
        verdicts.extend(self._where("", layer) for layer in disk["backing"])
        for verdict in (False, None):
            bad = next((v for v in verdicts if v[0] is verdict), None)
            if bad is not None:
                disk["shared"], disk["shared_why"] = bad
                return
        disk["shared"], disk["shared_why"] = verdicts[0]

    def _where(self, kind: str, source: str) -> Where:
        if kind in ("nvme", "vhostuser", "vhostvdpa"):
            return False, f"{kind} device"
        if not source.startswith("/"):
            protocol = source.split(":", 1)[0]
            return (False, f"{protocol} on this host") if protocol.endswith("+unix") else (True, source)
        if source.startswith("/dev/"):
            return self._device(source)
        mount = mount_of(self.resolve(source), self._mounts)
        if mount is None:
            return None, None
        return (True, f"{mount['type']} ({mount['source']})") if mount["shared"] else (False, mount["type"])

    def resolve(self, path: str) -> str:
        """Follow symbolic links, but none on network storage: its server may not answer."""
        done, left = "/", [part for part in path.split("/") if part]
        for _step in range(200):
            if not left:
                break
            part = left.pop(0)
            done = os.path.normpath(os.path.join(done, part))
            mount = mount_of(done, self._mounts)
            if mount is not None and mount["shared"]:
                return os.path.normpath("/".join([done, *left]))
            if os.path.islink(done):
                target = os.readlink(done)
                left = [step for step in (*target.split("/"), *left) if step]
                done = "/" if target.startswith("/") else str(Path(done).parent)
        return done

    def _device(self, path: str) -> Where:
        name = Path(os.path.realpath(path)).name
        leaves = self._leaves(name)
        if not leaves:
            return None, None
        verdicts: list[Where] = [self._leaf(leaf) for leaf in leaves]
        return next((v for v in verdicts if not v[0]), verdicts[0])

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

    def _leaf(self, name: str) -> Where:
        if _NETWORK_DEVICES.match(name):
            return True, f"block device {name}"
        where = os.path.realpath(self._sysfs / "class/block" / name) + "/"
        for pattern, transport in _TRANSPORTS:
            if pattern.search(where):
                return True, f"{transport} ({name})"
        return False, f"local block device {name}"

    def _volume(self, source: str) -> str | None:
        if source not in self._volumes:
            pool, _slash, volume = source.partition("/")
            try:
                found = self._connection.storagePoolLookupByName(pool).storageVolLookupByName(volume).path()
            except virt.libvirt.libvirtError:
                found = None
            self._volumes[source] = found
        return self._volumes[source]
