# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes on the wire over time, so that those of one move of several can be told."""

from __future__ import annotations

import bisect
import threading
import time
from types import TracebackType

from harness import traffic
from lab import Lab

PERIOD_S = 0.02


class WireCounter:
    """Reads the counter of a host's cable to the migration network, again and again."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._lab = lab
        self._host = host
        self._at_ns: list[int] = []
        self._bytes: list[int] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> WireCounter:
        self._read()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._read()

    def between(self, began_ns: int, ended_ns: int) -> int:
        """Return the bytes between two times of the monotonic clock, to within 20 ms."""
        return self._count(ended_ns) - self._count(began_ns)

    def _count(self, at_ns: int) -> int:
        position = bisect.bisect_left(self._at_ns, at_ns)
        return self._bytes[min(position, len(self._bytes) - 1)]

    def _work(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._read()

    def _read(self) -> None:
        self._bytes.append(traffic.into(self._lab, [self._host]))
        self._at_ns.append(time.monotonic_ns())
