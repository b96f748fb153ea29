# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text
from ansible_collections.kvmops.cluster.tests.unit.builders import MIB, band, choice, step_result


@pytest.mark.parametrize(
    ("found", "shown", "text"),
    [
        (None, human_seconds, "-"),
        (band(None), human_seconds, "-"),
        (band(None, 89.5), human_seconds, "1 min 30 s or more"),
        ({"value": 12.8, "low": 9.9, "high": None}, human_seconds, "9.9 s or more"),
        (band(12.8, 12.1, 13.9), human_seconds, "13 s"),
        (band(12.8, 9.9, 18.1), human_seconds, "9.9-18 s"),
        (band(58, 40, 75), human_seconds, "40 s-1 min 15 s"),
        (band(187, 150, 250), human_seconds, "2 min 30 s-4 min 10 s"),
        (band(900 * MIB, 700 * MIB, 1100 * MIB), human_bytes, "700 MiB-1.1 GiB"),
        (band(30 * MIB, 20 * MIB, 40 * MIB), human_bytes, "20-40 MiB"),
        (band(400, 300, 1900), forecast_text.milliseconds, "300 ms-1.9 s"),
        (band(0.04, 0.01, 0.049), human_seconds, "0.0 s"),
    ],
)
def test_a_band(found, shown, text):
    assert forecast_text.band(found, shown) == text


def test_what_comes_next_is_told_of_moves_that_are_not_sure():
    assert forecast_text.why(choice()) == choice()["reason"]
    assert forecast_text.why(choice(verdict="marginal")).endswith("; should that fail: raise-downtime")
    assert forecast_text.why(choice(verdict="marginal", fallbacks=[])) == choice()["reason"]


@pytest.mark.parametrize(
    ("taken_at", "age"),
    [
        ("2026-11-24T01:46:00Z", None),
        ("2026-11-24T01:30:00Z", "30 min"),
        ("2026-11-23T05:00:00Z", "21 h"),
        ("2026-11-20T02:00:00Z", "4 d"),
        ("2026-11-24T09:00:00Z", None),
        ("yesterday", None),
    ],
)
def test_the_age_of_a_measurement(taken_at, age):
    step = {"guest": {"name": "web1"}, "source": "h1", "destination": "h2", "forecast": choice(measured_at=taken_at)}
    nothing = {"seconds": None, "bytes": None}
    notes = forecast_text.notes({"created_at": "2026-11-24T02:00:00Z", "steps": [step], "expected": nothing})
    assert notes[:1] == ([f"Measured some time ago: web1 ({age} ago). Guests change."] if age else [])


STEP = {"id": "s001", "guest": {"name": "web1", "uuid": "x"}, "source": "h1", "destination": "h2"}
HOME = {"bytes": 3 << 20, "seconds": 1.2, "whole_bytes": 48 << 20}
FULL = {"code": "memory", "reason": "h2 is full", "remedy": "free 1 GiB on h2"}


@pytest.mark.parametrize(
    ("result", "phase", "message"),
    [
        (step_result(STEP, "would_move", forecast=choice(), reason="pre-copy: it is idle"), "would move",
         "about 4.1 s, 83.9 MiB, down 85 ms; pre-copy: it is idle"),
        (step_result(STEP, "would_move", forecast=choice(disks={"bytes": 3 << 20, "seconds": 1.2}), reason="idle"),
         "would move", "about 4.1 s, 83.9 MiB, down 85 ms; its disks are copied first: 3 MiB in about 1.2 s; idle"),
        (step_result(STEP, "would_move", forecast=choice(disks=HOME), reason="idle"), "would move",
         ("about 4.1 s, 83.9 MiB, down 85 ms; of its disks only what differs from the copies there is sent: "
          "3 MiB in about 1.2 s, instead of 48 MiB; idle")),
        (step_result(STEP, "would_move", forecast=choice(total_s=None), reason="pre-copy: who knows"), "would move",
         "pre-copy: who knows"),
        (step_result(STEP, "would_move", reason=None), "would move", "pre-copy"),
        (step_result(STEP, "refused", refusals=[FULL]), "refused", "h2 is full: free 1 GiB on h2"),
        (step_result(STEP, "already_there"), "done", "already there"),
    ],
)  # fmt: skip
def test_what_a_check_of_a_step_says(result, phase, message):
    expected = {"guest": "web1", "destination": "h2", "phase": phase, "message": message}
    assert forecast_text.check_line(result) == expected


def test_what_the_plan_has_told_already_is_not_told_again():
    same = step_result(STEP, "would_move", forecast=choice(), reason="pre-copy: it is idle")
    assert forecast_text.check_line(same, "pre-copy")["message"] == (
        "pre-copy, as planned; about 4.1 s, 83.9 MiB, down 85 ms"
    )
    assert forecast_text.check_line(same, "xbzrle")["message"].endswith("; pre-copy: it is idle")
