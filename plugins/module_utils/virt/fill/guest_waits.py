# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a guest feels of a fill: how long its reads wait.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


class ReadWaits:
    """How long the reads of a disk wait. QEMU counts a read when it is done, so a long wait shows at its end."""

    def __init__(self) -> None:
        self._before: tuple[int, int] | None = None
        #: of the last look: the mean wait of the reads since the one before, in ms; None: there were none
        self.mean_ms: float | None = None
        #: the longest of these
        self.worst_ms = 0.0

    def look(self, domain: t.Any, target: str) -> None:
        """Look at the counters."""
        with contextlib.suppress(virt.libvirt.libvirtError, KeyError):
            counted = domain.blockStatsFlags(target, 0)
            self.count(int(counted["rd_operations"]), int(counted["rd_total_times"]))

    def count(self, reads: int, total_ns: int) -> None:
        """Take the counters: reads that are done, and how long all of them have waited.

        >>> waits = ReadWaits()
        >>> waits.count(10, 5_000_000), waits.mean_ms
        (None, None)
        >>> waits.count(12, 25_000_000), waits.mean_ms
        (None, 10.0)
        """
        before, self._before = self._before, (reads, total_ns)
        self.mean_ms = None
        if before is not None and reads > before[0]:
            self.mean_ms = (total_ns - before[1]) / (reads - before[0]) / 1e6
            self.worst_ms = max(self.worst_ms, self.mean_ms)
