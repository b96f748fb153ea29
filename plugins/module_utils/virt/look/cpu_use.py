# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: how many CPUs each guest uses, measured by its host over a short time.

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each


def cpus_used(connection: t.Any, seconds: float) -> dict[str, float]:
    """CPUs that each guest used, QEMU's own threads included, by UUID. This takes so many seconds.

    Guests that came or went meanwhile, or of which libvirtd says nothing, are left out.
    """
    before, begun = _counters(connection), time.monotonic()
    time.sleep(seconds)
    after, ended = _counters(connection), time.monotonic()
    return {
        uuid: round(max(0, after[uuid] - used) / 1e9 / (ended - begun), 3)
        for uuid, used in before.items()
        if uuid in after
    }


def _counters(connection: t.Any) -> dict[str, int]:
    """Nanoseconds of CPU by guest. Bulk statistics would need a control group, which a container may not have."""
    domains = connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    answers = each(domains, lambda domain: domain.info()[4])
    return {domain.UUIDString(): used for domain, used in zip(domains, answers) if isinstance(used, int)}
