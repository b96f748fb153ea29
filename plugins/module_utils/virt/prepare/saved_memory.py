# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: memory images of a guest that libvirt saved earlier (managed save). The next start on that
# host loads one, and the guest then writes old memory over newer disks.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


def refusals(connection: t.Any, host: str, uuid: str) -> list[Refusal]:
    """What a host has saved of a guest that runs, here or elsewhere. A host that cannot be asked for it has nothing.

    Args:
        connection: to the host's libvirtd.
        host: its name.
        uuid: the guest's.
    """
    try:
        domain = connection.lookupByUUIDString(uuid)
        name, saved = domain.name(), domain.hasManagedSaveImage(0)
    except virt.libvirt.libvirtError:
        return []
    if not saved:
        return []
    return [
        refusal(
            "managed_save",
            f"{host} has a saved memory image of {name} (managed save), which is older than the guest, and which its"
            f" next start on {host} would load",
            f"virsh managedsave-remove {quoted(name)} on {host}",
        )
    ]
