# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import sys
import time
import types

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import guest_agent, hooks
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import Clock

ENVIRONMENT = {"KVMOPS_GUEST": "web 1; reboot", "KVMOPS_OUTCOME": "moved"}


def on_host(*command, timeout_s=30.0):
    return hooks.on_host(Hook(command, timeout_s=timeout_s), ENVIRONMENT)


def test_a_command_gets_its_arguments_as_they_are_and_a_small_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "of the run")
    ran = on_host("/bin/sh", "-c", 'printf "%s|" "$@" "$KVMOPS_GUEST" "$SECRET"', "sh", "$HOME", "a b", "*")
    assert (ran.ok, ran.why, ran.output) == (True, None, "$HOME|a b|*|web 1; reboot||")


def test_a_command_that_fails_says_with_what():
    ran = on_host("/bin/sh", "-c", "echo first; echo no such database >&2; exit 3")
    assert (ran.ok, ran.why) == (False, "it ended with status 3")
    assert ran.output.splitlines() == ["first", "no such database"]
    assert on_host("/bin/sh", "-c", "kill -9 $$").why == "it was ended by signal 9"


def test_a_command_that_is_not_there_fails():
    ran = on_host("/no/such/command")
    assert (ran.ok, ran.output) == (False, "")
    assert "No such file or directory" in ran.why


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    mark = tmp_path / "alive"
    began = time.monotonic()
    ran = on_host("/bin/sh", "-c", f"echo begun; (sleep 1.5; touch {mark}) & sleep 60", timeout_s=1.0)
    assert time.monotonic() - began < 50
    assert (ran.ok, ran.why, ran.output) == (False, "it was ended after 1 s", "begun")
    time.sleep(1.0)
    assert not mark.exists()


def test_of_much_output_the_end_is_kept():
    ran = on_host("/bin/sh", "-c", "yes x | head -100000; echo the end")
    assert len(ran.output) <= hooks.KEPT_CHARACTERS
    assert ran.output.endswith("the end")


def test_what_is_shown_of_the_output_moves_no_cursor():
    ran = on_host("/bin/sh", "-c", r"printf '\033[2J\033]0;x\007red\302\233\342\200\256\r\nend'; exit 1")
    assert ran.output == "\ufffd[2J\ufffd]0;x\ufffdred\ufffd\ufffd\nend"


# --- in the guest -------------------------------------------------------------------------------------------------


class Agent:
    """A guest agent, in place of the module libvirt_qemu."""

    def __init__(self, *states, error=None):
        self.states = list(states)
        self.error = error
        self.asked = []

    def command(self, domain, text, timeout, flags):
        assert (domain, timeout, flags) == ("domain", guest_agent.AGENT_S, 0)
        asked = json.loads(text)
        self.asked.append(asked)
        if self.error:
            raise libvirt.libvirtError(self.error, 86)
        if asked["execute"] == "guest-exec":
            return json.dumps({"return": {"pid": 4711}})
        return json.dumps({"return": self.states.pop(0) if len(self.states) > 1 else self.states[0]})


@pytest.fixture
def run_in_guest(monkeypatch):
    def run(agent, timeout_s=30.0):
        clock = Clock()
        monkeypatch.setitem(sys.modules, "libvirt_qemu", types.SimpleNamespace(qemuAgentCommand=agent.command))
        hook = Hook(("/bin/sync", "-f", "a b"), where="guest", timeout_s=timeout_s)
        return hooks.in_guest(hook, "domain", ENVIRONMENT, clock, clock.sleep)

    return run


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_the_agent_runs_it_and_is_asked_until_it_has_ended(run_in_guest):
    agent = Agent({"exited": False}, {"exited": True, "exitcode": 0, "out-data": encoded("synced\n")})
    ran = run_in_guest(agent)
    assert (ran.ok, ran.why, ran.output) == (True, None, "synced")
    assert agent.asked[0] == {
        "execute": "guest-exec",
        "arguments": {
            "path": "/bin/sync",
            "arg": ["-f", "a b"],
            "env": ["KVMOPS_GUEST=web 1; reboot", "KVMOPS_OUTCOME=moved"],
            "capture-output": True,
        },
    }
    assert [one["execute"] for one in agent.asked[1:]] == ["guest-exec-status"] * 2
    assert agent.asked[1]["arguments"] == {"pid": 4711}


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"exited": True, "exitcode": 2, "err-data": encoded("busy")}, "it ended with status 2"),
        ({"exited": True, "signal": 11, "err-data": encoded("busy")}, "it was ended by signal 11"),
    ],
)
def test_a_failure_in_the_guest_is_told(run_in_guest, state, why):
    ran = run_in_guest(Agent(state))
    assert (ran.ok, ran.why, ran.output) == (False, why, "busy")


def test_a_command_in_the_guest_is_not_waited_for_for_ever(run_in_guest):
    ran = run_in_guest(Agent({"exited": False}), timeout_s=3.0)
    assert (ran.ok, ran.why) == (False, "it has not ended within 3 s, and keeps running in the guest")


@pytest.mark.parametrize(
    "agent",
    [
        Agent(error="Guest agent is not responding: QEMU guest agent is not connected"),
        Agent({"exited": True, "out-data": "A"}),
    ],
    ids=["no agent", "nonsense"],
)
def test_an_agent_that_does_not_do_it_is_told(run_in_guest, agent):
    ran = run_in_guest(agent)
    assert not ran.ok
    assert ran.why.startswith("the guest agent did not run it: ")
