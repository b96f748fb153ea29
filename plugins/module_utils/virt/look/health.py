# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what must work on a host before guests come to it.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


def health(connection: t.Any, snapshot: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Versions, and the names of what is active: storage pools, networks, and the places of shared mounts.

    Args:
        connection: to the host's own libvirtd; read-only is enough.
        snapshot: of the same host.
    """
    pools = connection.listAllStoragePools(virt.libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE)
    networks = connection.listAllNetworks(virt.libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
    return {
        "libvirt": snapshot["versions"]["libvirt"],
        "qemu": snapshot["versions"]["qemu"],
        "pools": sorted(pool.name() for pool in pools),
        "networks": sorted(network.name() for network in networks),
        "mounts": sorted(mount["path"] for mount in snapshot["mounts"] if mount["shared"]),
    }
