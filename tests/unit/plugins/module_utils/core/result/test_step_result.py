# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import GOOD, OUTCOMES, step_result

STEP = {"id": "s001", "guest": {"name": "web1", "uuid": "u-1"}, "source": "h1", "destination": "h2", "intent": {}}


def test_what_is_not_known_is_null_and_never_missing():
    result = step_result(STEP, "not_started")
    assert json.loads(json.dumps(result)) == result
    assert result == {
        "step": "s001",
        "guest": {"name": "web1", "uuid": "u-1"},
        "source": "h1",
        "destination": "h2",
        "outcome": "not_started",
        "refusals": [],
        **dict.fromkeys(
            [
                "error",
                "strategy",
                "reason",
                "started_at",
                "finished_at",
                "total_s",
                "bytes",
                "downtime_ms",
                "iterations",
                "forecast",
            ]
        ),
        "corrected": [],
        "notes": [],
        "faults": [],
    }


def test_what_is_known_is_kept_and_zero_is_not_unknown():
    result = step_result(STEP, "moved", total_s=4.3149, bytes_sent=0, downtime_ms=0, iterations=4)
    assert (result["total_s"], result["bytes"], result["downtime_ms"], result["iterations"]) == (4.31, 0, 0, 4)


def test_a_result_shares_nothing_with_its_step():
    refusals = [{"code": "a", "reason": "b", "remedy": "c"}]
    result = step_result(STEP, "refused", refusals=refusals)
    assert result["guest"] is not STEP["guest"]
    assert result["refusals"] == refusals
    assert result["refusals"] is not refusals


def test_an_outcome_that_the_contract_does_not_know_is_a_mistake():
    with pytest.raises(ValueError, match="unknown outcome 'done'"):
        step_result(STEP, "done")


def test_good_outcomes_leave_nothing_to_do():
    assert set(OUTCOMES) - set(GOOD) == {"refused", "failed", "off", "lost", "unclear", "not_started"}
