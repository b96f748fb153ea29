# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import Reading
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import dirty_rate


class Guest:
    """As much of a virDomain as measuring asks for."""

    def __init__(self, name, job=None):
        self._name = name
        self._job = job or {"type": 0}

    def name(self):
        return self._name

    def UUIDString(self):  # noqa: N802
        return f"uuid-{self._name}"

    def jobStats(self, flags=0):  # noqa: N802
        return self._job


class Sampler:
    """Answers what the test says; an exception is raised, and None means not yet."""

    samples_per_gib = 4096

    def __init__(self, answers, starts=()):
        self.answers = {name: list(values) for name, values in answers.items()}
        self.starts = list(starts)
        self.started = []

    def start(self, domain, window_s):
        self.started.append((domain.name(), window_s))
        if self.starts:
            error = self.starts.pop(0)
            if error:
                raise error

    def result(self, domain):
        answers = self.answers[domain.name()]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def impatient(monkeypatch, cluster):
    monkeypatch.setattr(dirty_rate, "GRACE_S", 0.1)


def test_all_guests_are_started_before_any_is_awaited(impatient):
    sampler = Sampler({"a": [None, 7], "b": [3]})
    assert dirty_rate.measure([Guest("a"), Guest("b")], sampler, 0.01) == [
        Reading(0.01, 7, 4096),
        Reading(0.01, 3, 4096),
    ]
    assert sampler.started == [("a", 0.01), ("b", 0.01)]


def test_a_guest_that_migrates_is_not_measured(impatient):
    sampler = Sampler({"b": [3]})
    moving, still = dirty_rate.measure([Guest("a", {"type": 2, "operation": 5}), Guest("b")], sampler, 0.01)
    assert moving == {
        "code": "migrating",
        "reason": "a is being migrated, so it is not measured now",
        "remedy": "measure it again once the migration is over",
    }
    assert still == Reading(0.01, 3, 4096)
    assert [name for name, _window in sampler.started] == ["b"]


def test_the_measurement_of_somebody_else_is_awaited(impatient):
    busy = dirty_rate.MonitorError("the dirty rate is already being measured.")
    sampler = Sampler({"a": [5]}, starts=[busy, busy, None])
    assert dirty_rate.measure([Guest("a")], sampler, 0.01) == [Reading(0.01, 5, 4096)]
    assert len(sampler.started) == 3


def test_the_measurement_of_somebody_else_is_not_awaited_for_ever(impatient, monkeypatch):
    monkeypatch.setattr(dirty_rate, "_timeout_s", lambda window_s: 0.05)
    sampler = Sampler({"a": [5]}, starts=[dirty_rate.MonitorError("the dirty rate is already being measured.")] * 99)
    (refused,) = dirty_rate.measure([Guest("a")], sampler, 0.01)
    assert refused["code"] == "being_measured"
    assert refused["reason"] == "a is being measured by somebody else"


def test_a_guest_that_stops_answering_holds_up_none_of_the_others(impatient):
    sampler = Sampler({"a": [None], "b": [3]})
    begun = time.monotonic()
    silent, answered = dirty_rate.measure([Guest("a"), Guest("b")], sampler, 0.01)
    assert time.monotonic() - begun < 50
    assert silent["code"] == "not_answering"
    assert silent["reason"] == "a did not answer the measurement in time"
    assert answered == Reading(0.01, 3, 4096)


def test_what_went_wrong_is_said_with_the_guest(impatient):
    (refused,) = dirty_rate.measure(
        [Guest("a b")], Sampler({"a b": [dirty_rate.MonitorError("no such command")]}), 0.01
    )
    assert refused["code"] == "not_measured"
    assert refused["reason"] == "a b could not be measured: no such command"
