# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: lines for the terminal while images are read, and the end of it on an interrupt.

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.run import runner
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import EVERY_S, Progress

# Must be kept in sync with plugins/doc_fragments/progress.py.
PROGRESS_ARGUMENT: dict[str, dict[str, t.Any]] = {"progress_path": {"type": "path"}}


class LiveLines:
    """Writes lines that the controller shows.

    Args:
        progress: where to.
        stopping: whether the operator wants an end.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        progress: Progress,
        stopping: t.Callable[[], bool] = lambda: False,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._stopping = stopping
        self._clock = clock

    def say(self, message: str, level: int = 0) -> None:
        """Write a line."""
        self.check()
        self._progress.write("disks", message, level=level)

    def check(self) -> None:
        """End what is done where the operator wants that.

        Raises:
            CapsuleError: so it is.
        """
        if self._stopping():
            raise CapsuleError("interrupted", "the operator has interrupted this task", "run it again; it begins anew")

    def counter(self, what: str) -> t.Callable[[int, int], None]:
        """What is to be told how far something is, in bytes; it writes a line every three seconds.

        Args:
            what: is done, such as C(hashing vda of db1).
        """
        begun = last = self._clock()

        def count(done: int, total: int) -> None:
            nonlocal last
            self.check()
            now = self._clock()
            if now - last < EVERY_S or not total:
                return
            last = now
            rate = done / (now - begun)
            left_s = (total - done) / rate if rate else None
            self._progress.write(
                "disks",
                f"{what}: {100 * done // total} %, {human_bytes(done)} of {human_bytes(total)},"
                f" {human_bytes(rate)}/s, {human_seconds(left_s)} left",
                percent=100 * done // total,
                rate_bytes_per_s=round(rate),
                remaining_bytes=total - done,
                eta_s=None if left_s is None else round(left_s),
            )

        return count


@contextlib.contextmanager
def live_lines(path: str | None) -> t.Iterator[LiveLines]:
    """Lines for as long as this lasts. An interrupt ends what is done at the next line.

    Args:
        path: of the file with the lines; None: nobody watches.
    """
    if path:
        # Where that cannot be, nobody sees the lines, and the work goes on all the same.
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    progress, stop = Progress(path), runner.Stop()
    progress.begin(os.getpid())
    # A lost session says nothing about what its operator wants; an interrupt and a termination do.
    before = {number: signal.signal(number, stop.on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield LiveLines(progress, stop.stopping.is_set)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        progress.end()
