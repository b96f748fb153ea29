# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shlex
import types

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import watched_run
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.shared_wait import SharedWait
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.watched_run import WatchedRun

RUN = {
    "plan": "drain-h1-1",
    "owner": "alice@admin1",
    "since": "2026-11-24T02:00:00Z",
    "ended": 1,
    "guests": 3,
    "eta_s": 41.0,
    "progress": "/var/lib/kvmops/runs/drain-h1-1/progress.jsonl",
    "progress_bytes": 0,
}


class Host:
    """The far end: what run_info says there, and a file that grows."""

    def __init__(self):
        self.run = dict(RUN)
        self.results = None
        self.content = b""
        self.lost = False
        self.asked = []
        self.commands = []
        self.resets = 0

    def say(self, **line):
        self.content += json.dumps(line).encode() + b"\n"

    def end(self, results):
        self.say(phase="end")
        self.run, self.results = None, results

    def info(self, plan):
        self.asked.append(plan)
        if self.lost:
            raise AnsibleConnectionFailure("ssh: no route to host")
        told = {"at_work": self.run and dict(self.run), "lease": None, "changed": False}
        return {**told, "outcomes": self.results} if plan else told

    def shell(self, command):
        self.commands.append(command)
        if self.lost:
            raise AnsibleConnectionFailure("ssh: no route to host")
        words = shlex.split(command)
        assert words[0] == "tail"
        return self.content[int(words[2]) - 1 :].decode()

    def reset(self):
        self.resets += 1


class Lines:
    def __init__(self):
        self.shown = []

    def show(self, line):
        self.shown.append(line["message"])

    def tick(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(at=1000.0, then=lambda: None)

    def sleep(seconds):
        now.at += seconds
        now.then()

    monkeypatch.setattr(watched_run, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: now.at))
    return now


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def watching(host, clock, tmp_path):
    told, lines = [], Lines()
    made = WatchedRun("h1", host, told.append, lambda _run: lines, 60.0, SharedWait(str(tmp_path), "t", "h1"))
    return types.SimpleNamespace(run=made, told=told, lines=lines)


def test_a_run_is_followed_from_where_it_is_to_its_end(host, watching, clock):
    host.say(phase="job", pid=7)
    host.say(phase="done", guest="web1", message="of the time before")
    host.run["progress_bytes"] = len(host.content)
    host.say(phase="pre-copy", guest="web2", message="42 %")

    def go_on():
        if clock.at >= 1003:
            host.say(phase="done", guest="web2", message="moved")
            host.end([{"outcome": "moved"}])
            clock.then = lambda: None

    clock.then = go_on
    found = watching.run.watch(None, 0)
    assert (found["watched"]["plan"], found["outcomes"], found["changed"]) == (
        "drain-h1-1",
        [{"outcome": "moved"}],
        False,
    )
    assert watching.told == [
        "h1: drain-h1-1 of alice@admin1 since 2026-11-24T02:00:00Z: 1 of 3 guests, about 41 s left"
    ]
    assert watching.lines.shown == ["42 %", "moved"]


def test_it_only_reads(host, watching, clock):
    clock.then = lambda: host.end([])
    watching.run.watch(None, 0)
    assert {shlex.split(command)[0] for command in host.commands} == {"tail"}


def test_nothing_at_work_is_told_at_once(host, watching, clock):
    host.run = None
    assert watching.run.watch(None, 0) == {"changed": False, "watched": None, "outcomes": None, "lease": None}
    assert (clock.at, host.commands, watching.told) == (1000.0, [], [])


def test_a_run_may_be_waited_for(host, watching, clock):
    host.run = None

    def begin():
        if clock.at >= 1100:
            host.run, clock.then = dict(RUN), lambda: host.end([])

    clock.then = begin
    assert watching.run.watch(None, 600)["outcomes"] == []


def test_the_wait_has_an_end(host, watching, clock):
    host.run = None
    assert watching.run.watch(None, 25)["watched"] is None
    assert clock.at == 1025.0


def test_nobody_waits_on_when_the_run_was_on_another_host(host, watching, clock, tmp_path):
    host.run = None
    other = SharedWait(str(tmp_path), "t", "h2")

    def go_on():
        if clock.at >= 1020:
            other.begin()
        if clock.at >= 1100:
            other.end()

    clock.then = go_on
    assert watching.run.watch(None, 600)["watched"] is None
    assert 1100 <= clock.at <= 1110


def test_what_other_tasks_have_watched_ends_no_wait(host, watching, clock, tmp_path):
    host.run = None
    other = SharedWait(str(tmp_path), "before", "h2")
    other.begin()
    other.end()
    watching.run.watch(None, 25)
    assert clock.at == 1025.0


@pytest.mark.parametrize(("wanted", "is_found"), [("drain-h1", True), ("drain-h1-1", True), ("evacuate", False)])
def test_a_run_is_found_by_its_name_or_how_that_begins(host, watching, clock, wanted, is_found):
    clock.then = lambda: host.end([])
    assert (watching.run.watch(wanted, 0)["watched"] is not None) == is_found


def test_a_run_that_was_killed_has_no_results(host, watching, clock):
    def kill():
        host.run = None

    clock.then = kill
    assert watching.run.watch(None, 0)["outcomes"] is None


def test_a_run_that_was_begun_again_is_followed_on(host, watching, clock):
    host.say(phase="pre-copy", guest="web1", message="before")

    def again():
        if clock.at > 1003:
            host.content = b""
            host.say(phase="pre-copy", guest="web1", message="after")
            host.run = {**RUN, "since": "2026-11-24T02:30:00Z"}
            clock.then = lambda: clock.at > 1030 and host.run and host.end([{"outcome": "moved"}])

    clock.then = again
    assert watching.run.watch(None, 0)["outcomes"] == [{"outcome": "moved"}]
    assert watching.lines.shown == ["before", "after"]


def test_another_run_is_not_taken_for_this_one(host, watching, clock):
    def other():
        host.results, host.run = [{"outcome": "moved"}], {**RUN, "plan": "drain-h1-2"}

    clock.then = other
    assert watching.run.watch(None, 0)["outcomes"] == [{"outcome": "moved"}]


def test_what_cannot_be_asked_says_why(watching, host, monkeypatch):
    monkeypatch.setattr(host, "info", lambda plan: {"failed": True, "msg": "run as root"})
    assert watching.run.watch(None, 600) == {"failed": True, "msg": "run as root"}


def test_a_host_that_comes_back_is_watched_on(host, watching, clock):
    def weather():
        host.lost = 1010 < clock.at < 1050
        if clock.at > 1060:
            host.end([])
            clock.then = lambda: None

    clock.then = weather
    assert watching.run.watch(None, 0)["outcomes"] == []
    assert watching.told[1:] == ["h1 does not answer (ssh: no route to host); its moves go on. Trying again for 60 s."]
    assert host.resets > 30


def test_a_host_that_stays_away_is_given_up(host, watching, clock):
    def weather():
        host.lost = True

    clock.then = weather
    with pytest.raises(
        AnsibleError,
        match=r"^h1 has not answered for 6\d s \(ssh: no route to host\)\. If it still runs, its moves go on: watch it"
        r" again when it answers",
    ):
        watching.run.watch(None, 0)
