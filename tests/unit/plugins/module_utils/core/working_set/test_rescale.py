# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.rescale import rescaled
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import curve_of
from ansible_collections.kvmops.cluster.tests.unit.working_sets import MIB, fitted, measured

B = 23.94e6
CALM = measured(fitted(16, 8))


def verdict(working_set):
    return forecast(working_set, Link(B), cap_ms=500, chosen=["pre-copy"])["outcomes"]["pre-copy"]["verdict"]


@pytest.mark.parametrize("fit", [CALM["fit"], None])
def test_a_guest_that_left_more_than_it_was_measured_to_dirty_is_hotter(fit):
    hot = rescaled({**CALM, "fit": fit}, 64 * MIB, B)
    assert curve_of(hot).value(64 * MIB / B) == pytest.approx(64 * MIB, rel=0.01)
    assert (verdict(CALM), verdict(hot)) == ("converges", "never")
    assert curve_of(CALM).value(2.0) == pytest.approx(16.25 * MIB, rel=0.01)


def test_no_more_is_dirtied_than_was_touched():
    assert curve_of(rescaled(CALM, 400 * MIB, B)).value(60) == CALM["touched_bytes"]


@pytest.mark.parametrize(
    ("working_set", "left", "rate"),
    [
        (measured(fitted(64, 78)), 64 * MIB, B),
        (CALM, 0, B),
        (CALM, 64 * MIB, 0),
        ({**CALM, "points": [], "fit": None}, 64 * MIB, B),
    ],
)
def test_what_explains_the_rounds_is_left_as_it_is(working_set, left, rate):
    assert rescaled(working_set, left, rate) is working_set
