# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From answered probes to downtime."""

from __future__ import annotations

from lab.probe.downtime import Gap, gaps, resolution_ms, work_lost_s

MS = 1_000_000
PERIOD = 5 * MS


def every_period(begin_ms, end_ms):
    return list(range(begin_ms * MS, end_ms * MS, PERIOD))


def test_no_silence_no_downtime():
    sent = every_period(0, 1000)
    assert gaps(sent, start=0, end=1000 * MS, period_ms=5) == []


def test_the_largest_silence_comes_first():
    sent = every_period(0, 100) + every_period(200, 300) + every_period(900, 1000)
    found = gaps(sent, start=0, end=1000 * MS, period_ms=5)
    assert found == [Gap(at_s=0.295, ms=600.0), Gap(at_s=0.095, ms=100.0)]


def test_silence_at_the_beginning_counts():
    assert gaps(every_period(400, 500), start=0, end=500 * MS, period_ms=5)[0] == Gap(at_s=0.0, ms=395.0)


def test_silence_at_the_end_counts_when_it_cannot_be_answers_under_way():
    sent = every_period(0, 100)
    assert gaps(sent, start=0, end=200 * MS, period_ms=5) == []
    assert gaps(sent, start=0, end=1100 * MS, period_ms=5)[0] == Gap(at_s=0.095, ms=1000.0)


def test_who_never_answers_is_down_all_the_time():
    assert gaps([], start=0, end=3000 * MS, period_ms=5) == [Gap(at_s=0.0, ms=2995.0)]


def test_only_the_ten_largest_are_kept():
    sent = [50 * MS * step for step in range(30)]
    assert len(gaps(sent, start=0, end=sent[-1], period_ms=5)) == 10


def test_resolution_is_the_period_unless_the_machine_was_late():
    assert resolution_ms(every_period(0, 1000), 5) == 5
    assert resolution_ms([20 * MS * step for step in range(100)], 5) == 20
    assert resolution_ms([], 5) == 5


def test_one_silence_does_not_spoil_the_resolution():
    assert resolution_ms(every_period(0, 1000) + every_period(3000, 4000), 5) == 5


def test_lost_work():
    assert work_lost_s(900, 1.0, 1000) == 0.1
    assert work_lost_s(1010, 1.0, 1000) == 0.0
    assert work_lost_s(0, 1.0, 0) is None
