# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a host's storage pools and the names of their volumes, as its libvirtd tells them.

from __future__ import annotations

import contextlib
import errno
import posixpath
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each

#: Volumes of pools of these types are the files of one directory.
DIRECTORY_TYPES = ("dir", "fs", "netfs")


def storage_pools(
    connection: t.Any,
    *,
    refresh: t.Callable[[t.Mapping[str, t.Any]], bool] = lambda pool: False,
    files: t.Callable[[str], list[str] | None] = lambda path: None,
) -> list[dict[str, t.Any]] | None:
    """The pools of a host, by name; None where libvirt has no storage driver. A pool that does not answer has null for
    its volumes and sizes.

    libvirt knows the volumes as they were when the pool was started or refreshed last, or when libvirt itself has made
    or removed one.

    Args:
        connection: to the host's libvirtd; read-only is enough to ask.
        refresh: says for a pool whether libvirt is to look at it again first. Over a read-only connection it cannot.
            Then a volume that is gone is left out all the same; one that libvirt has not seen yet is not found.
        files: names of what really is in a directory, for a host that asks itself; None: ask libvirt.
    """
    libvirt = virt.libvirt
    try:
        found = connection.listAllStoragePools(0)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT or "virtstoraged" in str(error):
            return None
        raise
    # A pool on a server that does not answer must not hold up the others.
    pools = [pool for pool in each(found, _Pool) if isinstance(pool, _Pool)]
    active = [pool for pool in pools if pool.described["active"]]
    each(active, lambda pool: pool.look(refresh, files))
    return sorted((pool.described for pool in pools), key=lambda pool: str(pool["name"]))


def _is_gone(volume: t.Any) -> bool:
    """Whether a volume surely exists no more; libvirt looks at it for this call. What it cannot read may be there."""
    libvirt = virt.libvirt
    try:
        volume.info()
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        # The text of a system error is in the language of the daemon; its number is not.
        return code == libvirt.VIR_ERR_NO_STORAGE_VOL or (
            code == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() == errno.ENOENT
        )
    return False


class _Pool:
    """One pool while its description is made."""

    def __init__(self, pool: t.Any) -> None:
        self._pool = pool
        try:
            root = xml_text.parsed(pool.XMLDesc(0))
        except xml_text.XmlTextError:
            root = ET.Element("pool")
        path = root.findtext("target/path")
        self.described: dict[str, t.Any] = {
            "name": pool.name(),
            "type": root.get("type"),
            "path": posixpath.normpath(path) if path else None,
            "active": bool(pool.isActive()),
            "capacity_bytes": None,
            "available_bytes": None,
            "volumes": None,
        }

    def look(
        self, refresh: t.Callable[[t.Mapping[str, t.Any]], bool], files: t.Callable[[str], list[str] | None]
    ) -> None:
        """Ask for what may take its time."""
        if refresh(self.described):
            # Refused over a read-only connection, and while libvirt makes a volume there.
            with contextlib.suppress(virt.libvirt.libvirtError):
                self._pool.refresh(0)
        dummy, capacity, dummy, available = self._pool.info()
        volumes = files(self.described["path"]) if self.described["type"] in DIRECTORY_TYPES else None
        if volumes is None:
            look_again = refresh(self.described)
            found = self._pool.listAllVolumes(0)
            volumes = [volume.name() for volume in found if not (look_again and _is_gone(volume))]
        self.described.update(capacity_bytes=capacity, available_bytes=available, volumes=sorted(volumes))
