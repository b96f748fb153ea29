# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    NotAskedError,
    UnansweredError,
    each,
    within,
)


def test_a_call_that_hangs_is_left_behind():
    never = threading.Event()

    def call(item):
        if item in (1, 3):
            never.wait(300)
        if item == 4:
            raise ValueError(item)
        return item * 10

    started = time.monotonic()
    answers = each(range(6), call, timeout_s=0.1)
    assert time.monotonic() - started < 300
    assert [type(answer).__name__ for answer in answers] == [
        "int",
        "UnansweredError",
        "int",
        "UnansweredError",
        "ValueError",
        "int",
    ]
    assert [type(answer) for answer in each([1, 3, 1, 2], call, timeout_s=0.1, max_hanging=2)] == [
        UnansweredError,
        UnansweredError,
        NotAskedError,
        NotAskedError,
    ]
    never.set()


def test_one_call_with_an_end():
    assert within(1, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        within(1, lambda: 1 / 0)
    with pytest.raises(UnansweredError):
        within(0.05, lambda: time.sleep(1))
