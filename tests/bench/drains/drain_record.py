# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What any strategy is asked for and what it comes to, in the same words for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DrainRequest:
    """From where to where, and for how long at most.

    Attributes:
        guest_cap_s: after which one guest that is on its way is given up.
        cap_s: after which all that are left are given up.
        intent: of the run, beside what guests say themselves.
        variables: more of the role that drains, by their names.
        probe_ms: how often guests are asked for a sign of life.
    """

    source: str
    destination: str
    guest_cap_s: float = 60.0
    cap_s: float = 180.0
    intent: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    probe_ms: float = 5.0


@dataclass(frozen=True)
class MoveRecord:
    """One guest's move, moved or not; times are of the machine's monotonic clock, which all hosts share.

    Attributes:
        outcome: moved, or why not: capped, aborted (by its own policy), refused, failed, unclear, not_started.
        bytes: sent, as the hypervisor counts; of one that did not end, as far as that was seen.
        downtime_ms: as the strategy itself reports it.
        forecast: what was expected, if anything.
    """

    guest: str
    began_ns: int
    ended_ns: int
    outcome: str
    strategy: str | None
    bytes: int | None
    downtime_ms: float | None
    rounds: int | None
    error: str | None
    forecast: Mapping[str, Any] | None


@dataclass(frozen=True)
class DrainRecord:
    """One drain: from the first move's beginning to the last one's end, and what was spent before that."""

    began_ns: int
    ended_ns: int
    moves: tuple[MoveRecord, ...]
    measured_s: float = 0.0
    playbook_s: float | None = None
