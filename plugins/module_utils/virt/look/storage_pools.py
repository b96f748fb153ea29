# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a host's storage pools and the names of their volumes, as its libvirtd tells them.

from __future__ import annotations

import contextlib
import posixpath
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each


def storage_pools(
    connection: t.Any, *, refresh: t.Callable[[t.Mapping[str, t.Any]], bool] = lambda pool: False
) -> list[dict[str, t.Any]] | None:
    """The pools of a host, by name; None where libvirt has no storage driver. A pool that does not answer has null for
    its volumes and sizes.

    libvirt knows the volumes as they were when the pool was started or refreshed last, or when libvirt itself has made
    or removed one.

    Args:
        connection: to the host's libvirtd; read-only is enough to ask.
        refresh: says for a pool whether libvirt is to look at it again first. Over a read-only connection it cannot.
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
    each(active, lambda pool: pool.look(refresh))
    return sorted((pool.described for pool in pools), key=lambda pool: str(pool["name"]))


class _Pool:
    """One pool while its description is made."""

    def __init__(self, pool: t.Any) -> None:
        self._pool = pool
        root = ET.fromstring(pool.XMLDesc(0))
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

    def look(self, refresh: t.Callable[[t.Mapping[str, t.Any]], bool]) -> None:
        """Ask for what may take its time."""
        if refresh(self.described):
            # Refused over a read-only connection, and while libvirt makes a volume there.
            with contextlib.suppress(virt.libvirt.libvirtError):
                self._pool.refresh(0)
        dummy, capacity, dummy, available = self._pool.info()
        volumes = sorted(volume.name() for volume in self._pool.listAllVolumes(0))
        self.described.update(capacity_bytes=capacity, available_bytes=available, volumes=volumes)
