# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch guests from outside while something is done to them.

with lab.probe(["g1", "g2"]) as probe:
    probe.mark()
    …
    print(probe.records()["g1"]["downtime_ms"])
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.guest.agent_protocol import RECORD
from lab.guest.guest import Guest
from lab.image.boot_image import prober_path

from .downtime import gaps, resolution_ms, work_lost_s

ANSWER, SENT = 1, 2
ALIVE_WITHIN_NS = 1_000_000_000


@dataclass
class Track:
    """All that was seen of one guest, in the order of sending."""

    sent: list[int] = field(default_factory=list)
    answers: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    totals: list[tuple[int, int]] = field(default_factory=list)


class Probe:
    """A running prober and what it has recorded so far."""

    def __init__(self, settings: Settings, guests: Sequence[Guest], period_ms: float = 5.0) -> None:
        self._settings = settings
        self._guests = list(guests)
        self._period_ms = period_ms
        self._tracks = [Track() for dummy in guests]
        self._section_start = 0
        self._stopped_at: int | None = None
        self._rest = b""
        self._process: subprocess.Popen[str] | None = None
        if not guests:
            raise LabError("no guest to probe", "Name at least one guest of the scenario.")

    def __enter__(self) -> Probe:
        self._folder = tempfile.TemporaryDirectory(prefix="kvmops-lab-probe-")
        output = Path(self._folder.name) / "records"
        # An unbuffered pipe to it ties its life to ours: it ends when we do, however that comes about.
        self._process = subprocess.Popen(
            [str(prober_path(self._settings)), str(int(self._period_ms * 1000)), str(output)]
            + [guest.address for guest in self._guests],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 5
        while not output.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._process.kill()
                raise LabError(f"the prober did not start: {self._process.communicate()[1].strip()}", "Run `lab up`.")
            time.sleep(0.01)
        self._file = output.open("rb")
        # One round of neighbour discovery is not part of any measurement.
        time.sleep(0.1)
        self.mark()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the probing; the records stay readable."""
        if self._process is None or self._stopped_at is not None:
            return
        self._stopped_at = time.monotonic_ns()
        self._process.terminate()
        self._process.communicate()
        self._read()
        self._file.close()
        self._folder.cleanup()

    def mark(self) -> None:
        """Begin a new section: what came before no longer counts."""
        self._section_start = time.monotonic_ns()

    def _read(self) -> None:
        data = self._rest + self._file.read()
        whole = len(data) // RECORD.size * RECORD.size
        self._rest = data[whole:]
        for guest, kind, sent, received, boot, written, bad, errors in RECORD.iter_unpack(data[:whole]):
            track = self._tracks[guest]
            if kind == SENT:
                track.totals.append((sent, received))
                continue
            position = len(track.sent)
            # Answers come in order but for the odd one around a migration.
            while position and track.sent[position - 1] > sent:
                position -= 1
            track.sent.insert(position, sent)
            track.answers.insert(position, (received, boot, written, bad, errors))

    def records(self) -> dict[str, dict[str, Any]]:
        """Return what was measured in this section, for each guest."""
        end = self._stopped_at
        if end is None:
            # The prober hands its records over 20 times a second.
            time.sleep(0.12)
            # Taken before reading: what that takes after a long section is no silence of the guests.
            end = time.monotonic_ns()
            self._read()
        pairs = zip(self._guests, self._tracks, strict=True)
        return {guest.name: self._record(guest, track, self._section_start, end) for guest, track in pairs}

    def record(self, name: str, start_ns: int, end_ns: int) -> dict[str, Any]:
        """Return what was measured of one guest between two moments (time.monotonic_ns), once the probing has ended."""
        at = next(place for place, guest in enumerate(self._guests) if guest.name == name)
        return self._record(self._guests[at], self._tracks[at], start_ns, end_ns)

    def _record(self, guest: Guest, track: Track, start: int, end: int) -> dict[str, Any]:
        first, last = bisect_left(track.sent, start), bisect_left(track.sent, end)
        sent = track.sent[first:last]
        answers = track.answers[first:last]
        silences = gaps(sent, start=start, end=end, period_ms=self._period_ms)
        before = [total for moment, total in track.totals if moment <= start]
        until = [total for moment, total in track.totals if moment <= end]
        written = answers[-1][2] - answers[0][2] if answers else 0
        seconds = (sent[-1] - sent[0]) / 1e9 if sent else 0.0
        return {
            "sent": (until[-1] if until else 0) - (before[-1] if before else 0),
            "answered": len(sent),
            "seconds": round((end - start) / 1e9, 3),
            "downtime_ms": silences[0].ms if silences else 0.0,
            "gaps": [asdict(gap) for gap in silences],
            "alive": bool(sent) and end - sent[-1] < ALIVE_WITHIN_NS,
            "resolution_ms": resolution_ms(sent, self._period_ms),
            "period_ms": self._period_ms,
            "pages_written": written,
            "work_lost_s": work_lost_s(written, seconds, guest.plan.work_per_s),
            "bad_pages": answers[-1][3] if answers else None,
            "disk_errors": answers[-1][4] if answers else None,
            "boot_ids": sorted({f"{answer[1]:016x}" for answer in answers}),
        }
