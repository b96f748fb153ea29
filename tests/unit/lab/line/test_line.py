# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said to the relay, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.layout.scenario import LinePlan
from lab.line import line

ANSWER = (
    '{"rate_bit_s": 384000, "delay_us": 40000, "queue_us": 400000, "down": true, "cut": true,'
    ' "bytes": [10, 2], "packets": [1, 1], "dropped": [7, 0]}\n'
)


def test_settings_are_bits_and_microseconds():
    assert line.settings_words(LinePlan(mbit=0, delay_ms=0.25, queue_ms=100)) == ["0", "250", "100000"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"reset": False, "down_s": 0}, "cut drop 0 0 0"),
        ({"reset": False, "down_s": 5, "total_s": 5}, "cut drop 5000 0 5000"),
        ({"reset": True, "down_s": 0.5, "up_s": 2, "total_s": 60}, "cut reset 500 2000 60000"),
    ],
)
def test_a_cut_names_milliseconds(asked, words):
    assert " ".join(line.cut_words(**asked)) == words


def test_an_answer_has_both_directions():
    state = line.parsed(ANSWER)
    assert (state.rate_bit_s, state.is_cut, state.is_down) == (384000, True, True)
    assert (state.bytes, state.packets, state.dropped) == ((10, 2), (1, 1), (7, 0))


def test_a_relay_that_is_gone_is_named(tmp_path: Path):
    settings = Settings(state=tmp_path, cache=tmp_path, instance=3)
    with pytest.raises(LabError, match=r"the line between the sites does not answer: .*No such file") as caught:
        line.tell(settings, ["show"])
    assert caught.value.remedy == "Run `up`: it starts it."
