# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: takes memory that a guest does not need before it is saved, so that it need not be written.

from __future__ import annotations

import dataclasses
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set import ballooning
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import RSS_OVERHEAD_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.balloon import ENDED, Balloon
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.memory_report import report
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.memory_return import by_hand, give_back_left

_KIB = 1024
#: What a capsule is sent over when it matters. A slower link makes it pay the more.
_LINK_BYTES_PER_S = 2.5e6


def free(domain: t.Any, state_dir: str) -> tuple[int, list[str]]:
    """Take what the guest does not need, and give it back.

    Args:
        domain: the guest.
        state_dir: where this host keeps its records.

    Returns: bytes of memory that are zero now; and what the operator should know of it.
    """
    connection, uuid = domain.connect(), domain.UUIDString()
    interrupted = threading.Event()

    def find() -> t.Any:
        return connection.lookupByUUIDString(uuid)

    try:
        left = give_back_left(state_dir, uuid, find, interrupted, time.monotonic, time.sleep)
        if left is not None and left[1] not in ENDED:
            return 0, [f"no memory is freed: it has not got back what an earlier run has taken ({by_hand(left[0])})"]
        memory = dataclasses.replace(report(domain, None).memory, swapped_bytes=0)
        decided = ballooning.decide(memory, {}, _LINK_BYTES_PER_S)
        if decided.target_bytes is None:
            return 0, [f"no memory is freed: {decided.reason}"]
        freed = Balloon(find, state_dir, interrupted).free(decided)
    except (virt.libvirt.libvirtError, OSError) as error:
        return 0, [f"no memory is freed: {error}"]
    notes = [f"less memory was freed than hoped for: {freed.stopped}"] if freed.stopped else []
    if not freed.returned:
        notes.append(
            "it has not got all its memory back in time; see"
            f" virsh dommemstat {quoted(domain.name())}, and give it back with virsh setmem --live"
        )
    return freed.bytes, notes


def memory_bytes(domain: t.Any) -> int:
    """How much memory of a guest will be written: what the host holds for it, without QEMU's own."""
    figures = domain.memoryStats()
    most = int(domain.info()[1]) * _KIB
    resident = int(figures.get("rss", 0)) * _KIB
    return min(most, max(0, resident - RSS_OVERHEAD_BYTES)) if resident else most
