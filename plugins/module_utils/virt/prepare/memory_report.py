# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a guest reports of its memory.

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.ballooning import Memory

_KIB = 1024


@dataclasses.dataclass(frozen=True)
class MemoryReport:
    """A guest's memory as it reported it, and when.

    Attributes:
        memory: the figures, without what only two reports tell.
        at_s: when the guest said so (seconds since 1970, in whole ones); 0 for never.
        swapped_bytes: written to swap since the guest was started, or None.
    """

    memory: Memory
    at_s: int
    swapped_bytes: int | None

    def since(self, earlier: MemoryReport) -> Memory:
        """The figures, with what was swapped since an earlier report. One report alone does not say that."""
        if self.at_s == earlier.at_s:
            return self.memory
        swapped = max(0, (self.swapped_bytes or 0) - (earlier.swapped_bytes or 0))
        return dataclasses.replace(self.memory, swapped_bytes=swapped)


def report(domain: t.Any, hugepage_bytes: int | None, now: t.Callable[[], float] = time.time) -> MemoryReport:
    """What a guest reports of its memory.

    Raises: libvirtError.
    """
    figures = domain.memoryStats()

    def size(key: str) -> int | None:
        value = figures.get(key)
        return None if value is None else int(value) * _KIB

    at_s = int(figures.get("last_update", 0))
    memory = Memory(
        current_bytes=size("actual"),
        usable_bytes=size("usable"),
        unused_bytes=size("unused"),
        rss_bytes=size("rss"),
        age_s=max(0.0, now() - at_s) if at_s else None,
        hugepage_bytes=hugepage_bytes,
    )
    return MemoryReport(memory, at_s, size("swap_out"))
