# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.sampling_budget import (
    first_windows,
    more_windows,
)


def seconds(rounds):
    return sum(one.window_s * one.repeats for one in rounds)


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("budget_s", [2, 3, 5, 10, 60])
def test_the_first_look_leaves_a_third_of_the_budget(fine, budget_s):
    rounds = first_windows(fine=fine, budget_s=budget_s)
    assert rounds
    assert seconds(rounds) <= max(budget_s * 2 / 3, 2)


def test_a_tiny_budget_still_buys_one_look():
    assert len(first_windows(fine=False, budget_s=0.1)) == 1


def test_libvirts_own_call_is_asked_for_whole_seconds_only():
    rounds = [*first_windows(fine=False, budget_s=60), *more_windows(fine=False)]
    assert all(float(one.window_s).is_integer() for one in rounds)


def test_several_windows_show_whether_the_curve_still_rises():
    assert len({one.window_s for one in first_windows(fine=False, budget_s=15)}) >= 3
    assert min(one.window_s for one in first_windows(fine=True, budget_s=15)) == 0.1
