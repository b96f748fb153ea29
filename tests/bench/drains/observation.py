# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A drain seen from outside: what crossed the wire, how long guests were silent, how much of their work they lost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from lab import Lab

from .drain_record import DrainRecord, MoveRecord

#: So long before its move a guest is watched too, to tell what it loses anyway; and after it, for what it loses later.
BEFORE_NS, AFTER_NS = 2_000_000_000, 1_000_000_000


class Observation:
    """A prober on all guests and an eye on the cable into the destination, from before a drain until after it."""

    def __init__(self, lab: Lab, destination: str, guests: Sequence[str], probe_ms: float = 5.0) -> None:
        link = lab.networks.migration.link(lab.settings.prefix, destination)
        self._counter = Path("/sys/class/net") / link / "statistics" / "tx_bytes"
        self._probe = lab.probe(guests, probe_ms)

    def __enter__(self) -> Observation:
        self._probe.__enter__()
        time.sleep(BEFORE_NS / 1e9)
        self._before = self._sent()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._probe.stop()

    def _sent(self) -> int:
        return int(self._counter.read_text(encoding="ascii"))

    def ended(self, drained: DrainRecord) -> dict[str, Any]:
        """Stop watching; return the drain as it was seen, with a row for each guest by its name."""
        sent = self._sent() - self._before
        time.sleep(AFTER_NS / 1e9)
        self._probe.stop()
        return {
            "makespan_s": round((drained.ended_ns - drained.began_ns) / 1e9, 3),
            "bytes": sent,
            "guests": {move.guest: self._row(move) for move in drained.moves},
        }

    def _row(self, move: MoveRecord) -> dict[str, Any]:
        row: dict[str, Any] = {
            "guest": move.guest,
            "outcome": move.outcome,
            "strategy": move.strategy,
            "total_s": None,
            "bytes": move.bytes,
            "rounds": move.rounds,
            "downtime_observed_ms": None,
            "downtime_reported_ms": move.downtime_ms,
            "work_lost_s": None,
            "work_lost_pct": None,
            "quiet_work_lost_pct": None,
            "error": move.error,
        }
        if not move.ended_ns:
            return row
        seen = self._probe.record(move.guest, move.began_ns, move.ended_ns + AFTER_NS)
        quiet = self._probe.record(move.guest, move.began_ns - BEFORE_NS, move.began_ns)
        return row | {
            "total_s": round((move.ended_ns - move.began_ns) / 1e9, 3),
            "downtime_observed_ms": seen["downtime_ms"],
            "work_lost_s": seen["work_lost_s"],
            "work_lost_pct": percent_lost(seen),
            "quiet_work_lost_pct": percent_lost(quiet),
            "bad_pages": seen["bad_pages"],
        }


def percent_lost(record: Mapping[str, Any]) -> float | None:
    """Work lost over the time that it was watched for; None for a guest without work.

    >>> percent_lost({"work_lost_s": 0.5, "seconds": 10.0})
    5.0
    """
    lost, seconds = record["work_lost_s"], record["seconds"]
    return None if lost is None or not seconds else round(100 * lost / seconds, 2)
