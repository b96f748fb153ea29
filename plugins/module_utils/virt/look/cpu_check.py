# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: asks a destination whether a guest's CPU can run there.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


def refusals(connection: t.Any, guest: t.Mapping[str, t.Any], host: str) -> list[Refusal]:
    """Why the guest's CPU, as it is now, cannot run on a host; empty when it can, or when that cannot be asked.

    Args:
        connection: to the destination's libvirtd; read-only is enough.
        guest: the guest's part of the snapshot.
        host: the destination's name.
    """
    xml = guest["cpu"]["xml"]
    # A CPU passed through from the host has no description to compare; core/snapshot/compatibility.py compares hosts.
    if not xml or guest["cpu"]["mode"] in ("host-passthrough", "maximum"):
        return []
    libvirt = virt.libvirt
    try:
        # Without an emulator: the path of the destination's own may differ.
        outcome = connection.compareHypervisorCPU(
            None,
            guest["arch"],
            guest["machine"],
            guest["type"],
            xml,
            libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE,
        )
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_CPU_INCOMPATIBLE:
            # libvirt cannot compare for this architecture or emulator. It checks again when the guest arrives.
            return []
        return [_incompatible(guest, host, str(error))]
    if outcome == libvirt.VIR_CPU_COMPARE_INCOMPATIBLE:
        return [_incompatible(guest, host, "some of its features are missing")]
    return []


def _incompatible(guest: t.Mapping[str, t.Any], host: str, why: str) -> Refusal:
    return refusal(
        "cpu",
        f"the CPU of {guest['name']} cannot run on {host}: {why}",
        f"choose a host with the missing features, or restart {guest['name']} with a CPU model that all hosts can be"
        " (virsh hypervisor-cpu-baseline)",
    )
