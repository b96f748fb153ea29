# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Places in drawings."""

from __future__ import annotations

import doctest

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import step_record
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import (
    axes,
    commands,
    guest_charts,
    timeline,
    words,
)
from ansible_collections.kvmops.cluster.tests.unit.builders import MIB, choice, domain, working_set

from .told_reports import at, told_report


@pytest.mark.parametrize("module", [axes, commands, timeline, words, step_record])
def test_the_examples(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("most", [0, -1, float("inf"), float("nan"), 1e-9, 1e12])
def test_ticks_of_any_value(most):
    assert 1 <= len(axes.ticks(most)) <= 12
    if 0 < most < 1e12:
        assert 1 <= len(axes.time_ticks(most)) <= 12


def test_a_timeline_is_within_its_drawing():
    found = timeline.timeline(told_report([f"web{number}" for number in range(40)]))
    stretches = [one for row in found.rows for one in (*row.stretches, row.planned)]
    assert all(one.x >= 0 and one.x + one.width <= 100.001 for one in stretches)
    assert [row.guest for row in found.rows][:3] == ["web0", "web1", "web10"]
    assert found.rows[0].text.startswith("preparation: 0.1 s to 0.5 s; pre-copy: 0.5 s to 4.2 s; verification: ")


def test_a_guest_without_a_record_has_the_time_of_its_move():
    report = told_report(["web1"])
    report["guests"][0]["phases"] = []
    (row,) = timeline.timeline(report).rows
    assert [stretch.phase for stretch in row.stretches] == ["move"]


def test_the_end_of_a_window_is_marked():
    report = told_report(["web1", "web2"])
    report["expected"]["window_s"] = 5.0
    assert timeline.timeline(report).window.text == "5 s"


def test_the_curve_and_the_link():
    measured = working_set(domain("web1"), hot_bytes=64 * MIB)
    chart = guest_charts.curve_chart(measured, choice(bandwidth_bytes_per_s=23900000), 500)

    assert [line.kind for line in chart.lines] == ["curve", "link", "limit"]
    assert len(chart.dots) == len(measured["points"])
    assert "more than the 11.4 MiB that the link carries" in chart.text
    places = [place.split(",") for line in chart.lines for place in line.points.split()]
    assert all(62 <= float(x) <= 392 and 12 <= float(y) <= 176 for x, y in places)


def test_a_guest_that_writes_nothing_has_a_curve():
    idle = working_set(domain("web1"))
    idle["points"] = [{"window_s": 1, "dirtied_bytes": 0, "sd_bytes": 0, "repeats": 1}]
    idle["fit"] = None
    assert guest_charts.curve_chart(idle, None, None).lines[0].points


def test_only_the_rounds_of_the_last_attempt_are_drawn():
    rounds = [
        {"at_s": at_s, "iteration": number, "remaining_bytes": 5 * MIB}
        for at_s, number in ((3.0, 2), (4.0, 3), (1.5, 2), (2.5, 3))
    ]
    chart = guest_charts.rounds_chart(rounds, None, None)
    assert (chart.title, len(chart.bars)) == ("Rounds of the last attempt", 2)
    assert guest_charts.rounds_chart(rounds[:2], None, None).title == "Rounds"


def test_no_downtime_and_no_forecast_is_no_drawing():
    assert guest_charts.downtime({"downtime_ms": None, "max_downtime_ms": 200, "forecast": None}) is None
    assert guest_charts.downtime({"downtime_ms": 0, "max_downtime_ms": 200, "forecast": None}).actual == 0


def test_seconds_of_a_clock_that_is_no_clock():
    assert words.seconds_since_start("yesterday", at(0)) is None
    assert words.seconds_since_start(at(2.5), at(0)) == 2.5
