# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import accuracy
from ansible_collections.kvmops.cluster.tests.unit.builders import band, choice

ACTUAL = {"total_s": 4.0, "bytes": 80000000, "downtime_ms": 100}


def test_an_error_is_the_forecast_over_what_came_true():
    assert accuracy.errors(choice(), ACTUAL) == {"total_s": 0.025, "bytes": 0.1, "downtime_ms": -0.15}


@pytest.mark.parametrize(
    ("forecast", "actual"),
    [
        (choice(total_s=None), ACTUAL),
        (choice(total_s=band(None)), ACTUAL),
        (choice(), {**ACTUAL, "total_s": None}),
        (choice(), {**ACTUAL, "total_s": 0}),
        (choice(), {"bytes": 1, "downtime_ms": 1}),
    ],
)
def test_what_is_not_known_is_no_error(forecast, actual):
    assert accuracy.errors(forecast, actual)["total_s"] is None


def test_nothing_forecast_is_nothing_wrong():
    assert accuracy.errors(None, ACTUAL) is None


def test_a_summary_leaves_signs_and_unknowns_out():
    found = [
        {"total_s": 0.1, "bytes": None, "downtime_ms": None},
        {"total_s": -0.3, "bytes": 0.02, "downtime_ms": None},
        {"total_s": 0.2, "bytes": None, "downtime_ms": None},
        None,
    ]
    assert accuracy.summary(found) == {
        "total_s": {"compared": 3, "median": 0.2, "worst": 0.3},
        "bytes": {"compared": 1, "median": 0.02, "worst": 0.02},
        "downtime_ms": None,
    }
