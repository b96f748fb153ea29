# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How forecasts are judged."""

from __future__ import annotations

import pytest

from bench.drains.drain_record import MoveRecord
from bench.results import forecast_grid

BANDS = {"total_s": {"value": 4.0}, "bytes": {"value": 90}, "downtime_ms": {"value": 80}}
CHOICE = {"method": "pre-copy", "verdict": "converges", **BANDS}
SEEN = {"total_s": 5.0, "downtime_observed_ms": 100.0}


def moved(outcome="moved", strategy="pre-copy", downtime_ms=90.0, forecast=...):
    return MoveRecord("g", 1, 2, outcome, strategy, 100, downtime_ms, 4, None, CHOICE if forecast is ... else forecast)


def judged(verdict, move=None, tried=None, seen=None):
    return forecast_grid.row(200, "g", move or moved(), seen or SEEN, {"verdict": verdict}, tried, 300)


@pytest.mark.parametrize(
    ("verdict", "tried", "right"),
    [
        ("converges", None, True),
        ("converges", moved(), True),
        ("converges", moved("capped", downtime_ms=None), False),
        ("converges", moved(downtime_ms=900.0), False),
        ("never", moved("capped", downtime_ms=None), True),
        ("never", moved(downtime_ms=900.0), True),
        ("never", moved(), False),
        ("marginal", moved("capped", downtime_ms=None), True),
    ],
)
def test_what_was_said_of_plain_precopy(verdict, tried, right):
    found = judged(verdict, tried=tried)
    assert found["plain_right"] is right
    assert found["verdict_right"] is right


def test_never_is_not_right_for_want_of_trying():
    assert judged("never", move=moved(strategy="post-copy"))["plain_right"] is False


@pytest.mark.parametrize("silence", [None, 301.0 + forecast_grid.TOLERANCE_MS])
def test_a_move_outside_its_intent_was_not_forecast_rightly(silence):
    found = judged("marginal", seen={**SEEN, "downtime_observed_ms": silence})
    assert (found["kept"], found["chosen_right"], found["verdict_right"]) == (False, False, False)


def test_a_refusal_is_right_where_plain_precopy_does_not_do_either():
    refused = moved("refused", strategy=None, downtime_ms=None, forecast=None)
    assert judged("never", move=refused, tried=moved("capped", downtime_ms=None))["verdict_right"] is True
    assert judged("converges", move=refused, tried=moved())["verdict_right"] is False


def test_errors_are_those_of_the_chosen_way_outside_the_marginal_band():
    found = judged("converges")
    assert found["errors"] == {
        "total_s": pytest.approx(0.2),
        "bytes": pytest.approx(0.1),
        "downtime_ms": pytest.approx(0.2),
    }
    marginal = judged("converges", move=moved(forecast={**CHOICE, "verdict": "marginal"}))
    assert set(marginal["errors"].values()) == {None}


def test_the_document_sums_up():
    rows = [judged("converges"), judged("never", tried=moved())]
    found = forecast_grid.document(rows)
    assert (found["combinations"], found["verdict_right"]) == (2, 0.5)
    assert found["p90_error"]["total_s"] == 0.2
    told = "\n".join(forecast_grid.lines(found))
    assert "WRONG" in told
    assert "50 % of the verdicts were right." in told
    assert forecast_grid.document([])["verdict_right"] is None
