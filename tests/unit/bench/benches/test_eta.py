# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the planned end of a drain is judged."""

from __future__ import annotations

import pytest

from bench.benches import eta


def report(planned, actual):
    return {"expected": {"seconds": planned}, "total_s": actual}


def test_a_plan_within_a_fifth_is_right_and_others_are_not():
    rows = [eta.row(200, report(planned, 100.0), 6, 240.0) for planned in (81.0, 120.0, 121.0, 79.0)]
    assert [row["error"] for row in rows] == [-0.19, 0.2, 0.21, -0.21]
    found = eta.document(rows)
    assert (found["runs"], found["right"], found["reckoned_right"]) == (4, 2, 0)
    assert found["p90_error"] == 0.21
    assert found["reckoned_p50_error"] == 1.4
    assert "2 of 4 plans were within 20 % of the actual time." in eta.lines(found)


def test_a_plan_without_a_forecast_is_not_right():
    found = eta.document([eta.row(200, report(None, 100.0), 6, 110.0)])
    assert (found["right"], found["reckoned_right"], found["p50_error"]) == (0, 1, None)
    assert "no forecast" in eta.line(found["rows"][0])


@pytest.mark.parametrize(("planned", "words"), [(90.0, "(-10 %)"), (115.0, "(+15 %)")])
def test_a_drain_is_told_with_what_was_planned(planned, words):
    told = eta.line(eta.row(400, report(planned, 100.0), 6, 200.0))
    assert told.startswith("eta: 400 Mbit/s: 6 guests: planned")
    assert words in told
    assert told.endswith("memory over bandwidth: 200.0 s (+100 %)")
