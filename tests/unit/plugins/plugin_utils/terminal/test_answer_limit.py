# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.answer_limit import (
    NoAnswerError,
    answered_within,
)


@pytest.fixture(autouse=True)
def no_alarm_is_left():
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before


def test_what_hangs_ends_and_so_does_the_program_that_it_waits_for():
    with subprocess.Popen(["sleep", "60"]) as program:
        with pytest.raises(NoAnswerError, match=r"^no answer within 0\.2 s$"), answered_within(0.2):
            program.wait()
        assert program.wait(10) == -signal.SIGTERM


def test_what_answers_is_left_alone():
    with answered_within(0.2):
        pass
    time.sleep(0.3)


class TooLateError(Exception):
    """The task has taken too long."""


@pytest.fixture
def limit_of_task():
    def expired(_number, _frame):
        raise TooLateError

    before = signal.signal(signal.SIGALRM, expired)
    yield expired
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("limit_of_task")
def test_a_nearer_end_stays_the_nearer_one():
    ended = []

    def work():
        time.sleep(5)
        ended.append("by itself")

    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(TooLateError), answered_within(30):
        work()
    assert ended == []


def test_a_later_end_of_the_task_goes_on(limit_of_task):
    signal.setitimer(signal.ITIMER_REAL, 30)
    with pytest.raises(NoAnswerError), answered_within(0.2):
        time.sleep(5)
    left, _interval = signal.getitimer(signal.ITIMER_REAL)
    assert 0 < left <= 29.8
    assert signal.getsignal(signal.SIGALRM) is limit_of_task
