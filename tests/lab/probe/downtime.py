# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From answered probes to downtime. Pure: times in, numbers out.

Downtime is the largest gap between the *send* times of two answered probes that follow each other, less the period at
which probes are sent: an answer that is merely late is no downtime, a probe that is never answered is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

NS_PER_MS = 1_000_000
LARGEST = 10
# At the end of a section, answers may still be under way; a shorter silence there says nothing.
OPEN_END_MS = 250.0


@dataclass(frozen=True)
class Gap:
    """A silence: when it began, after the start of the section, and how long it was beyond the period."""

    at_s: float
    ms: float


def gaps(sent: Sequence[int], *, start: int, end: int, period_ms: float) -> list[Gap]:
    """Return the largest silences of a section, the largest first.

    `sent` holds the send times of the answered probes in nanoseconds, ascending. The silence before the first answer
    and the one after the last count too: a guest that never answers is down for the whole section.

    >>> gaps([0, 5_000_000, 105_000_000, 110_000_000], start=0, end=110_000_000, period_ms=5)[0]
    Gap(at_s=0.005, ms=95.0)
    """
    found: list[Gap] = []
    previous = start
    for moment in sent:
        found.append(_gap(previous, moment, start, period_ms))
        previous = moment
    last = _gap(previous, end, start, period_ms)
    if last.ms >= OPEN_END_MS:
        found.append(last)
    found.sort(key=lambda gap: -gap.ms)
    return [gap for gap in found[:LARGEST] if gap.ms > 0]


def _gap(begin: int, end: int, start: int, period_ms: float) -> Gap:
    return Gap(at_s=round((begin - start) / 1e9, 3), ms=round((end - begin) / NS_PER_MS - period_ms, 3))


def resolution_ms(sent: Sequence[int], period_ms: float) -> float:
    """Return what this measurement cannot tell from nothing: the period, or what 99 in 100 gaps stay below.

    The largest gaps are left out on purpose; they are what is being measured.
    """
    steps = sorted(later - earlier for earlier, later in pairwise(sent))
    if not steps:
        return period_ms
    return round(max(period_ms, steps[int(len(steps) * 0.99)] / NS_PER_MS), 3)


def work_lost_s(written: int, seconds: float, pages_per_s: int) -> float | None:
    """Return how many seconds' worth of its work a guest did not do; None for one that has none to do."""
    if not pages_per_s:
        return None
    return round(max(0.0, seconds - written / pages_per_s), 3)
