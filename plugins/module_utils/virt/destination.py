# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: asks the destination itself, just before a guest is sent there.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import both_sides
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import connection as virt


def refusals(source, target, step, *, state_dir, reserve_bytes) -> list[Refusal]:
    return []


def incoming(connection: t.Any) -> int:
    """How many guests are coming in at a host right now."""
    libvirt = virt.libvirt
    coming = 0
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED):
        try:
            state, reason = domain.state()
        except libvirt.libvirtError:
            continue
        if state == libvirt.VIR_DOMAIN_PAUSED and reason in (
            libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
            libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
        ):
            coming += both_sides.is_migrating(domain)
    return coming


def postcopy_possible(step) -> bool:
    return False


def disks_to_copy(domain, state_dir):
    return ()
