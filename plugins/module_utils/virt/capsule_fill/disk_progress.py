# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: how far a disk is, and what its guest feels of that.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.bit_rate import human_rate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import LazyDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import (
    human_bytes,
    human_milliseconds,
    human_seconds,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.guest_waits import ReadWaits

#: How often lines are written.
LINE_S = 5.0


class DiskProgress:
    """How far a disk is."""

    def __init__(self, disk: LazyDisk, now: float) -> None:
        self._disk = disk
        self._first: tuple[int, float] | None = None
        self._at, self._end = -1, 0
        self._samples: list[tuple[int, float]] = []
        self.tries = 0
        self.moved_at = now
        self.told_at = now - LINE_S
        self.seen_bytes = 0
        self.waits = ReadWaits()

    def begun(self) -> None:
        self.tries += 1
        self._at = -1
        self._samples = []

    def sample(self, at: int, end: int, now: float) -> None:
        """Take where the job is. Tries count only as long as nothing moves."""
        if at > self._at:
            self.seen_bytes += at - max(self._at, 0) if self._at >= 0 else 0
            if self._at >= 0:
                self.tries = 1
            self.moved_at = now
        self._at, self._end = at, end
        self._samples = [*self._samples[-9:], (at, now)]

    def is_incomplete(self) -> bool:
        return self._at < self._end

    def rate(self) -> float | None:
        if len(self._samples) < 2:
            return None
        (first, start), (last, now) = self._samples[0], self._samples[-1]
        return (last - first) / (now - start) if now > start else None

    def figures(self) -> dict[str, t.Any]:
        rate, left = self.rate(), max(0, self._end - self._at)
        return {
            "percent": int(100 * self._at / self._end) if self._end else None,
            "rate_bytes_per_s": rate,
            "remaining_bytes": left,
            "eta_s": int(left / rate) if rate else None,
        }

    def line(self) -> str:
        found = self.figures()
        words = [f"{self._disk.target} {found['percent'] or 0} %", f"{human_bytes(found['remaining_bytes'])} left"]
        if found["rate_bytes_per_s"] is not None:
            words.append(human_rate(found["rate_bytes_per_s"]))
        if found["eta_s"] is not None:
            words.append(f"{human_seconds(found['eta_s'])} to go")
        waits = self.waits
        if waits.mean_ms is not None:
            worst = human_milliseconds(round(waits.worst_ms))
            words.append(f"the guest's reads wait {human_milliseconds(round(waits.mean_ms))} (worst {worst})")
        return ", ".join(words)
