# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import signal
import types

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import live_action


class Host:
    """The far end: an asynchronous job, its progress file, and a connection that may be lost."""

    def __init__(self):
        self.content = b""
        self.commands = []
        self.executed = []
        self.resets = 0
        self.lost = False
        self.started = {"ansible_job_id": "j1", "results_file": "/root/.ansible_async/j1", "started": 1}
        self.status = {"finished": 0}
        self.on_command = None
        self.boot = "0a1b2c3d-0000-4000-8000-000000000001"
        self.alive = True

    def say(self, **line):
        self.content += json.dumps(line).encode() + b"\n"

    def execute(self, **call):
        self.executed.append(call)
        if call.get("wrap_async"):
            return dict(self.started)
        if self.lost:
            raise AnsibleConnectionFailure("ssh: no route to host")
        return dict(self.status)

    def command(self, text):
        words = shlex.split(text)
        self.commands.append(text)
        if self.on_command:
            self.on_command(self)
        if self.lost:
            raise AnsibleConnectionFailure("ssh: no route to host")
        if words[0] == "cat":
            return {"stdout": f"{self.boot}\n" + ("alive\n" if self.alive else "")}
        offset = int(words[2]) - 1 if words[0] == "tail" else len(self.content)
        return {"stdout": self.content[offset:].decode()}


class Action(live_action.LiveAction):
    INTERRUPT_NOTE = "The move is being aborted."

    def __init__(self, host, *, check_mode=False, delegate_to=None, **arguments):
        self._task = types.SimpleNamespace(
            async_val=0, check_mode=check_mode, delegate_to=delegate_to, args=arguments, diff=False
        )
        self._connection = types.SimpleNamespace(reset=lambda: setattr(host, "resets", host.resets + 1))
        self._host = host

    def _execute_module(self, **call):
        return self._host.execute(async_val=self._task.async_val, **call)

    def _low_level_execute_command(self, command):
        return self._host.command(command)

    def get_shell_option(self, option, default=None):
        return default


class Shown:
    verbosity = 0

    def __init__(self):
        self.lines = []
        self.warnings = []

    def display(self, text, color=None):
        self.lines.append((text, color))

    def warning(self, text):
        self.warnings.append(text)


@pytest.fixture
def shown(monkeypatch):
    made = Shown()
    monkeypatch.setattr(live_action, "display", made)
    monkeypatch.setattr(live_action, "_tell_operator", made.warnings.append)
    return made


@pytest.fixture
def shown_only_warnings(monkeypatch):
    made = Shown()
    monkeypatch.setattr(live_action, "display", made)
    return made.warnings


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(at=1000.0, on_sleep=None)

    def sleep(seconds):
        now.at += seconds
        if now.on_sleep:
            now.on_sleep()

    monkeypatch.setattr(live_action, "time", types.SimpleNamespace(sleep=sleep, monotonic=lambda: now.at))
    return now


@pytest.fixture
def signals(monkeypatch):
    """No handler of this process is really changed."""
    handlers = {}
    monkeypatch.setattr(live_action.signal, "signal", handlers.__setitem__)
    alarms = []
    monkeypatch.setattr(live_action.signal, "alarm", alarms.append)
    return types.SimpleNamespace(handlers=handlers, alarms=alarms)


def job(host, *, task_vars=None, **arguments):
    return live_action._Job(Action(host), {"name": "h1", **arguments}, task_vars or {})


def test_a_job_is_followed_to_its_end_and_cleaned_up(shown, clock):
    host = Host()
    host.say(phase="job", pid=4711)
    host.say(phase="pre-copy", guest="web1", destination="h2", message="42 %")
    host.say(phase="pre-copy", guest="web1", destination="h2", message="for those who asked", level=1)

    def go_on():
        if clock.at > 1003:
            host.say(phase="done", guest="web1", destination="h2", message="moved")
            host.say(phase="end")
            host.status = {"finished": 1, "changed": True, "results": [1], "ansible_job_id": "j1", "started": 1}
            clock.on_sleep = None

    clock.on_sleep = go_on
    following = job(host)
    assert following.follow() == {"changed": True, "results": [1]}
    assert shown.lines == [
        ("h1: web1 -> h2 | pre-copy   | 42 %", None),
        ("h1: web1 -> h2 | done       | moved", "green"),
    ]
    link = following._link
    assert host.executed[0]["module_args"]["progress_path"] == link
    assert link.startswith("/var/lib/kvmops/progress-")
    assert host.commands[-1] == f"rm -f {link} /root/.ansible_async/j1"
    # The end of the file says when to ask for the result; nobody asks all the time.
    assert len(host.executed) == 2


def test_more_is_shown_to_those_who_ask(shown, clock, monkeypatch):
    monkeypatch.setattr(shown, "verbosity", 1)
    host = Host()
    host.say(phase="pre-copy", guest="web1", destination="h2", message="m", level=1)
    host.say(phase="end")
    host.status = {"finished": 1}
    job(host).follow()
    assert len(shown.lines) == 1


def test_the_job_may_run_long_and_the_task_is_as_before(shown, clock):
    host = Host()
    host.status = {"finished": 1}
    following = job(host)
    following.follow()
    assert host.executed[0]["async_val"] == live_action.JOB_LIMIT_S
    assert following._action._task.async_val == 0


def test_a_job_that_could_not_be_started_says_why(shown, clock):
    host = Host()
    host.started = {"failed": True, "msg": "no python"}
    assert job(host).follow() == {"failed": True, "msg": "no python"}
    assert host.commands == []


def test_a_job_that_fails_before_its_first_word_is_noticed(shown, clock):
    host = Host()
    host.status = {"finished": 1, "failed": True, "msg": "Traceback"}
    assert job(host).follow() == {"failed": True, "msg": "Traceback"}
    assert clock.at - 1000 <= live_action.SILENT_JOB_LOOK_S + live_action.POLL_S


def test_a_job_that_was_killed_is_noticed(shown, clock):
    host = Host()
    host.say(phase="job", pid=4711)
    host.status = {"finished": 1, "failed": True, "cmd": "python3 plan_apply", "data": "", "msg": "Traceback"}
    assert job(host).follow() == {
        "failed": True,
        "changed": True,
        "died": True,
        "msg": "h1: the run there was killed before it had a result (journalctl -k on that host says whether the kernel"
        " did so for want of memory). Run the same playbook again: it goes on from what is done.",
    }
    assert clock.at - 1000 <= live_action.JOB_LOOK_S + 2 * live_action.POLL_S


def test_a_job_that_failed_with_a_result_was_not_killed(shown, clock):
    host = Host()
    # With a full disk, the line that ends the progress may be missing.
    host.say(phase="job", pid=4711)
    host.status = {"finished": 1, "failed": True, "msg": "1 of 2 guests did not move", "results": [1]}
    assert job(host).follow() == {"failed": True, "msg": "1 of 2 guests did not move", "results": [1]}


@pytest.mark.parametrize(
    "change", [{"boot": "0a1b2c3d-0000-4000-8000-000000000002"}, {"alive": False}], ids=["restarted", "killed"]
)
def test_a_job_that_nobody_is_left_of_is_given_up(shown, clock, change):
    """The host was restarted, and another process has its number; or its wrapper was killed as well."""
    host = Host()
    host.say(phase="job", pid=4711)

    def weather():
        if clock.at > 1060:
            for name, value in change.items():
                setattr(host, name, value)

    clock.on_sleep = weather
    with pytest.raises(AnsibleError) as caught:
        job(host).follow()
    assert caught.value.message == (
        "h1: the run there has died without a result: the host was restarted, or its processes were killed. Run the"
        " same playbook again: it goes on from what is done."
    )
    assert clock.at - 1060 <= 2 * live_action.JOB_LOOK_S + 2 * live_action.POLL_S


def test_a_job_that_has_just_ended_may_leave_its_result(shown, clock):
    host = Host()
    host.say(phase="job", pid=4711)
    host.alive = False

    def weather():
        if clock.at > 1020:
            host.status = {"finished": 1, "changed": True}

    clock.on_sleep = weather
    assert job(host).follow() == {"changed": True}


def test_a_host_that_comes_back_is_followed_again(shown, clock):
    host = Host()
    host.say(phase="job", pid=4711)

    def weather():
        host.lost = 1010 < clock.at < 1060
        if clock.at > 1070:
            host.say(phase="end")
            host.status = {"finished": 1}
            clock.on_sleep = None

    clock.on_sleep = weather
    assert job(host).follow() == {}
    assert host.resets > 40
    assert shown.warnings == ["h1 does not answer (ssh: no route to host); its moves go on. Trying again for 60 s."]


def test_a_host_is_not_given_up_by_a_command_that_began_while_the_network_was_cut(shown, clock):
    """The network is cut for 30 s. Commands wait for 25 s each, so that the second one ends after the limit."""
    host = Host()
    host.say(phase="job", pid=4711)
    asked = []

    def hangs(one):
        asked.append(clock.at)
        one.lost = 1003 < clock.at < 1033
        if one.lost:
            clock.at += 25
        elif clock.at > 1040:
            host.say(phase="end")
            host.status = {"finished": 1}

    host.on_command = hangs
    assert job(host, task_vars={"kvmops_cluster_silent_s": 45}).follow() == {}
    assert any(after - before > 24 for before, after in itertools.pairwise(asked))


def test_a_host_that_stays_away_is_given_up_in_words_that_calm(shown, clock):
    host = Host()
    host.lost = True
    with pytest.raises(
        AnsibleError, match=r"h1 has not answered for 6\d s .*its moves go on: run the same playbook .*power h1 on"
    ):
        job(host).follow()
    assert len(shown.warnings) == 1


@pytest.mark.parametrize(("stated", "seconds"), [(5, 5), ("900", 900), (1.5, 2)])
def test_the_inventory_says_how_long_a_host_may_be_silent(shown, clock, stated, seconds):
    host = Host()
    host.lost = True
    with pytest.raises(AnsibleError, match=rf"h1 has not answered for {seconds} s "):
        job(host, task_vars={"kvmops_cluster_silent_s": stated}).follow()


@pytest.mark.parametrize("stated", [0, -1, True, "soon", None, float("inf"), float("nan")])
def test_a_silence_that_cannot_be_is_refused_before_anything_starts(shown, stated):
    with pytest.raises(AnsibleError, match=r"^kvmops_cluster_silent_s is .*: give a number of seconds, at least 1\.$"):
        job(Host(), task_vars={"kvmops_cluster_silent_s": stated})


@pytest.mark.parametrize(
    ("state_dir", "start"), [(None, "/var/lib/kvmops/progress-"), ("/srv/it's here", "/srv/it's here/progress-")]
)
def test_a_path_is_quoted_for_the_shell(shown, clock, state_dir, start):
    host = Host()
    host.status = {"finished": 1}
    following = job(host, state_dir=state_dir)
    following.follow()
    assert following._link.startswith(start)
    tail = next(command for command in host.commands if command.startswith("tail"))
    assert shlex.split(tail)[3] == following._link


# --- an interrupt -----------------------------------------------------------------------------------------------------


def test_an_interrupt_tells_the_job_and_the_operator(shown, signals):
    host = Host()
    host.say(phase="job", pid=4711)
    job(host).part("The move is being aborted.")
    assert re.fullmatch(r"rm -f \S+/progress-[0-9a-f]{32}; kill -TERM 4711", host.commands[-1])
    assert shown.warnings == ["h1: interrupted. The move is being aborted."]
    assert signals.alarms == [int(live_action.PARTING_S), 0]


@pytest.mark.parametrize("pid", [None, "1; reboot", "4711", {}])
def test_an_interrupt_that_reaches_no_job_says_so(shown, signals, pid):
    host = Host()
    if pid is not None:
        host.say(phase="job", pid=pid)
    job(host).part("The move is being aborted.")
    assert not [command for command in host.commands if command.startswith("kill")]
    assert shown.warnings == ["h1: interrupted, but the host could not be told: the run there goes on."]


def test_an_interrupt_while_the_host_is_away_says_so(shown, signals):
    host = Host()
    following = job(host)
    following._pid = 4711
    host.lost = True
    following.part("The move is being aborted.")
    assert shown.warnings == ["h1: interrupted, but the host could not be told: the run there goes on."]
    assert signals.alarms[-1] == 0


def test_an_interrupt_does_not_wait_for_a_host_that_hangs(shown, signals):
    host = Host()

    def hang(_host):
        signals.handlers[signal.SIGALRM](signal.SIGALRM, None)

    host.on_command = hang
    job(host).part("The move is being aborted.")
    assert shown.warnings == ["h1: interrupted, but the host could not be told: the run there goes on."]


def test_an_interrupt_ends_the_worker_after_the_job_was_told(shown, clock, signals, monkeypatch):
    host = Host()
    host.say(phase="job", pid=4711)
    monkeypatch.setattr(live_action.ActionBase, "run", lambda _self, _tmp, _vars: {})
    ended = []
    monkeypatch.setattr(live_action.os, "_exit", ended.append)
    clock.on_sleep = lambda: signals.handlers[signal.SIGINT](signal.SIGINT, None)
    Action(host).run(task_vars={"inventory_hostname": "h1"})
    assert ended == [1]
    assert re.fullmatch(r"rm -f \S+/progress-[0-9a-f]{32}; kill -TERM 4711", host.commands[-1])
    assert shown.warnings == ["h1: interrupted. The move is being aborted."]


def test_a_second_interrupt_is_not_heard_while_the_first_is_dealt_with(signals):
    with pytest.raises(live_action.Interrupted):
        live_action.interrupt(signal.SIGINT, None)
    assert signals.handlers == {signal.SIGINT: signal.SIG_IGN, signal.SIGTERM: signal.SIG_IGN}


def test_the_operator_is_told_on_the_terminal_itself(shown_only_warnings, tmp_path, monkeypatch):
    """After an interrupt ansible-playbook no longer passes on what its workers say."""
    terminal = tmp_path / "terminal"
    os.mkfifo(terminal)
    reader = os.open(terminal, os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setattr(live_action.os, "getppid", lambda: 4711)
    real_open, real_stat = open, os.stat
    monkeypatch.setattr(live_action.os, "stat", lambda path: real_stat(terminal if "4711" in str(path) else path))
    monkeypatch.setattr(
        live_action, "open", lambda _path, *rest, **named: real_open(terminal, *rest, **named), raising=False
    )
    live_action._tell_operator("h1: interrupted.")
    assert os.read(reader, 100) == b"[WARNING]: h1: interrupted.\n"
    os.close(reader)
    assert shown_only_warnings == []


@pytest.mark.parametrize("kind", ["a plain file", "nothing"])
def test_a_log_file_gets_the_warning_the_usual_way(shown_only_warnings, tmp_path, monkeypatch, kind):
    log = tmp_path / "log"
    if kind == "a plain file":
        log.write_text("before\n")
    real_stat = os.stat
    monkeypatch.setattr(live_action.os, "stat", lambda _path: real_stat(log))
    live_action._tell_operator("h1: interrupted.")
    assert shown_only_warnings == ["h1: interrupted."]
    assert kind == "nothing" or log.read_text() == "before\n"


# --- the action -------------------------------------------------------------------------------------------------------


def test_check_mode_needs_no_job(shown, monkeypatch):
    monkeypatch.setattr(live_action.ActionBase, "run", lambda _self, _tmp, _vars: {"skipped": False})
    host = Host()
    host.status = {"changed": True}
    action = Action(host, check_mode=True, guest="web1")
    assert action.run(task_vars={"inventory_hostname": "h1"}) == {"skipped": False, "changed": True}
    (call,) = host.executed
    assert call["module_args"] == {"name": "h1", "guest": "web1"}
    assert "wrap_async" not in call
    assert host.commands == []


@pytest.mark.parametrize(
    ("delegate_to", "arguments", "name"),
    [(None, {}, "h1"), ("h7", {}, "h7"), (None, {"name": "mine"}, "mine"), ("h7", {"name": "mine"}, "mine")],
)
def test_the_module_is_told_which_host_it_is_on(delegate_to, arguments, name):
    action = Action(Host(), delegate_to=delegate_to, **arguments)
    assert action.module_arguments({"inventory_hostname": "h1"})["name"] == name
