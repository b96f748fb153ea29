# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample, is_nearly_over
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import Touched, from_samples

MIB = 1024 * 1024
SAID = Touched(131 * MIB, "balloon", 0.10)


def test_a_look_at_enough_pieces_is_believed_before_the_guest():
    found = from_samples(0.5, 100, 256 * MIB, SAID)
    assert (found.bytes, found.how) == (128 * MIB, "look")
    assert found.error == pytest.approx(0.04)


@pytest.mark.parametrize(("zero_share", "pieces"), [(0.5, 31), (1.0, 500), (0.0, 0)])
def test_a_look_that_tells_too_little_is_not(zero_share, pieces):
    assert from_samples(zero_share, pieces, 256 * MIB, SAID) == SAID


def test_a_look_is_never_thought_perfect_and_a_short_one_is_as_unsure_as_it_is():
    assert from_samples(0.0, 10_000, 256 * MIB, SAID).error == 0.02
    assert from_samples(0.63, 32, 192 * MIB, SAID).error == pytest.approx(0.092, abs=0.001)
    assert from_samples(0.999, 64, 256 * MIB, SAID).error == 0.5


def sample(iteration=1, left=0, sent=1, rate=MIB, at_s=1.0, disk=0):
    return Sample(at_s, iteration, left, sent, rate, disk)


@pytest.mark.parametrize(
    ("one", "expected_s", "over"),
    [
        (sample(left=100 * MIB), None, False),
        (sample(left=2 * MIB), None, True),
        (sample(left=100 * MIB), 3.0, True),
        (sample(left=100 * MIB), 3.5, False),
        (sample(iteration=2, left=100 * MIB), None, True),
        (sample(left=2 * MIB, sent=0), 1.0, False),
        (sample(left=2 * MIB, disk=5), 1.0, False),
        (sample(left=2 * MIB, rate=0), None, False),
    ],
)
def test_when_a_move_is_nearly_over(one, expected_s, over):
    assert is_nearly_over(one, expected_s) is over
