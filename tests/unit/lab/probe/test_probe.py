# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a prober tells of one guest between two moments."""

from __future__ import annotations

from pathlib import Path

from lab.common.settings import Settings
from lab.guest.guest import Guest
from lab.layout import addresses, scenario
from lab.probe.probe import Probe

MS = 1_000_000
WORK = {"name": "g", "host": "h1", "hot_mib": 8, "pages_per_s": 600, "cold_pages_per_s": 400}
(PLAN,) = scenario.parse({"hosts": {}, "guests": [WORK]}).guests


def probe():
    """Ten seconds of a guest that writes a page every millisecond, but is silent and idle from 4 s to 5 s."""
    home = Settings(state=Path("/state"), cache=Path("/cache"), instance=0)
    made = Probe(home, [Guest(PLAN, addresses.networks(0), 0)])
    track = made._tracks[0]
    for at_ms in range(0, 10_000, 5):
        track.totals.append((at_ms * MS, at_ms // 5))
        if not 4000 < at_ms < 5000:
            written = at_ms if at_ms <= 4000 else at_ms - 1000
            track.sent.append(at_ms * MS)
            track.answers.append((at_ms * MS, 7, written, 0, 0))
    return made


def test_a_window_with_the_silence_in_it():
    found = probe().record("g", 3000 * MS, 6000 * MS)
    assert (found["downtime_ms"], found["work_lost_s"], found["seconds"]) == (995.0, 1.0, 3.0)
    assert (found["sent"], found["answered"]) == (600, 401)


def test_what_comes_before_and_after_a_window_is_not_in_it():
    early, late = probe().record("g", 1000 * MS, 3000 * MS), probe().record("g", 6000 * MS, 9000 * MS)
    assert (early["downtime_ms"], early["work_lost_s"], early["pages_written"]) == (0.0, 0.0, 1995)
    assert (late["downtime_ms"], late["work_lost_s"], late["answered"]) == (0.0, 0.0, 600)
