# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: lines for the controller to show while a run goes on (docs/contracts.md, "Progress").

from __future__ import annotations

import contextlib
import json
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now

SCHEMA = "kvmops.progress/1"
#: Seconds between two lines of a guest: enough for a person, and not too much for a log file.
EVERY_S = 3.0


class Progress:
    """Writes progress lines. Nothing depends on them, so they are not synced.

    Args:
        path: the file, emptied: it tells of this run only. None writes nowhere.
        every_s: least seconds between two lines of one guest in one phase.
        clock: monotonic seconds.
    """

    def __init__(
        self, path: str | None, every_s: float = EVERY_S, clock: t.Callable[[], float] = time.monotonic
    ) -> None:
        self._file: t.TextIO | None = None
        # A full or a missing disk must not stop the run, here or later.
        with contextlib.suppress(OSError):
            self._file = open(path, "w", encoding="utf-8") if path else None  # noqa: SIM115  (open as long as the run)
        self._every_s = every_s
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, tuple[str, float]] = {}

    def write(
        self, phase: str, message: str, *, step: dict[str, t.Any] | None = None, level: int = 0, **figures: t.Any
    ) -> None:
        """Write one line.

        Args:
            phase: from the contract.
            message: the line as a person reads it, without host and guest.
            step: the plan's step, if it is about one guest.
            level: 0 for everyone, 1 for those who asked for more.
            figures: percent, rate_bytes_per_s, remaining_bytes, iteration, eta_s.
        """
        line = {
            "schema": SCHEMA,
            "at": utc_now(),
            "step": step["id"] if step else None,
            "guest": step["guest"]["name"] if step else None,
            "destination": step["destination"] if step else None,
            "phase": phase,
            "percent": figures.get("percent"),
            "rate_bytes_per_s": figures.get("rate_bytes_per_s"),
            "remaining_bytes": figures.get("remaining_bytes"),
            "iteration": figures.get("iteration"),
            "eta_s": figures.get("eta_s"),
            "level": level,
            "message": message,
        }
        self._raw(line)

    def _raw(self, line: dict[str, t.Any]) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._file and not self._file.closed:
                self._file.write(json.dumps(line, separators=(",", ":")) + "\n")
                self._file.flush()

    def copy(self, line: dict[str, t.Any]) -> None:
        """Write a line of another run as it is."""
        self._raw(line)

    def due(self, step: dict[str, t.Any], phase: str) -> bool:
        """Whether it is time for a guest's next line in this phase. The first line is always due."""
        now = self._clock()
        with self._lock:
            last_phase, last_at = self._last.get(step["id"], ("", 0.0))
            if last_phase == phase and now - last_at < self._every_s:
                return False
            self._last[step["id"]] = (phase, now)
            return True

    def begin(self, pid: int, steps: t.Sequence[str] | None = None) -> None:
        """Say whom to signal.

        Args:
            pid: of the process that takes signals.
            steps: of the plan, those that this host carries out. None: the run has no plan.
        """
        own = {} if steps is None else {"steps": list(steps)}
        self._raw({"schema": SCHEMA, "at": utc_now(), "phase": "job", "pid": pid, **own})

    def end(self) -> None:
        """Say that no line will follow, and close the file; later lines go nowhere."""
        self._raw({"schema": SCHEMA, "at": utc_now(), "phase": "end"})
        with self._lock, contextlib.suppress(OSError):
            if self._file:
                self._file.close()
