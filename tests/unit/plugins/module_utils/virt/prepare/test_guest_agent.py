# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who owns a guest owns its agent: each answer that is none becomes a failure in words, whatever it is."""

from __future__ import annotations

import base64
import json
import sys
import types

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import MOST_OF_ERROR
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import guest_agent, hooks
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import Clock

#: What stands in place of a whole answer.
NO_ANSWERS = {
    "nothing": "",
    "no JSON": "<html>",
    "null": "null",
    "a list": "[]",
    "a number": "7",
    "nothing returned": "{}",
    "null returned": '{"return": null}',
    "a list returned": '{"return": [{"pid": 1}]}',
    "a text returned": '{"return": "pid"}',
    "not a number": '{"return": NaN}',
    "a key twice": '{"return": {"pid": 1, "pid": 2}}',
    "deep": '{"return": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "many digits": '{"return": {"pid": 1' + "0" * 5000 + "}}",
    "megabytes": '{"return": {"pid": "' + "x" * 3_000_000 + '"}}',
    "no text": 7,
}
WRONG_PIDS = ["4711", 4711.5, None, True, [4711], {"pid": 4711}, -1, 2**63]
WRONG_STATES = {
    "exited is a text": {"exited": "yes"},
    "exited is missing": {"exitcode": 0},
    "exitcode is a list": {"exited": True, "exitcode": [0]},
    "exitcode is a text": {"exited": True, "exitcode": "0"},
    "exitcode is true": {"exited": True, "exitcode": True},
    "it does not say how": {"exited": True},
    "signal is a text": {"exited": True, "signal": "TERM"},
    "output is a list": {"exited": True, "exitcode": 0, "out-data": ["YQ=="]},
    "output is a number": {"exited": True, "exitcode": 0, "err-data": 7},
    "output is no base64": {"exited": True, "exitcode": 0, "out-data": "A"},
    "output has other letters": {"exited": True, "exitcode": 0, "out-data": "ü\u202e=="},
}


@pytest.fixture
def answer(monkeypatch):
    """Gives the answers to guest-exec and to guest-exec-status, as texts."""

    def give(to_exec, to_status=None):
        texts = {"guest-exec": to_exec, "guest-exec-status": to_status, "guest-ping": to_exec}
        monkeypatch.setitem(
            sys.modules,
            "libvirt_qemu",
            types.SimpleNamespace(
                qemuAgentCommand=lambda _domain, text, _timeout, _flags: texts[json.loads(text)["execute"]]
            ),
        )

    return give


def ran():
    clock = Clock()
    return hooks.in_guest(Hook(("/bin/sync",), where="guest", timeout_s=5.0), "domain", {}, clock, clock.sleep)


def fails_in_words(result):
    assert not result.ok
    assert result.why.startswith("the guest agent did not run it: ")
    assert len(result.why) < MOST_OF_ERROR + 50
    assert "Traceback" not in result.why
    return True


@pytest.mark.parametrize("text", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_an_answer_that_is_none_is_a_failure_of_the_hook(answer, text):
    answer(text)
    result = ran()
    assert fails_in_words(result)
    assert "the agent does not answer properly" in result.why
    answer('{"return": {"pid": 1}}', text)
    assert fails_in_words(ran())


# What a ping returns is nobody's concern, as long as it is a mapping.
@pytest.mark.parametrize("name", [name for name in NO_ANSWERS if name != "megabytes"])
def test_a_ping_that_is_not_answered_properly_is_no_answer(answer, name):
    answer(NO_ANSWERS[name])
    with pytest.raises(guest_agent.AgentError, match="the agent does not answer properly"):
        guest_agent.ask_agent("domain", "guest-ping", {})


@pytest.mark.parametrize("pid", WRONG_PIDS, ids=str)
def test_a_number_of_a_process_that_is_none_is_a_failure_of_the_hook(answer, pid):
    answer(json.dumps({"return": {"pid": pid}}), json.dumps({"return": {"exited": True, "exitcode": 0}}))
    assert fails_in_words(ran())


@pytest.mark.parametrize("state", WRONG_STATES.values(), ids=WRONG_STATES)
def test_an_end_that_is_none_is_a_failure_of_the_hook(answer, state):
    answer('{"return": {"pid": 1}}', json.dumps({"return": state}))
    assert fails_in_words(ran())


def test_it_is_said_what_is_wrong(answer):
    answer('{"return": {"pid": "4711"}}')
    assert ran().why == (
        "the guest agent did not run it: the agent does not answer properly: in the answer to guest-exec, return.pid"
        " must be a whole number, not a text"
    )


def test_what_a_later_agent_tells_besides_is_no_fault(answer):
    state = {"exited": True, "exitcode": 0, "signal": None, "out-data": None, "out-truncated": True, "x": [1]}
    answer('{"return": {"pid": 1, "more": 2}, "id": 7}', json.dumps({"return": state}))
    assert ran().ok


def test_what_is_shown_of_the_output_moves_no_cursor_and_is_short(answer):
    printed = "x" * 3_000_000 + "\r\n\x1b]0;title\x07\x1b[2J\x9b31m\u202egnihton\u2066 ok\r\n"
    state = {"exited": True, "exitcode": 3, "err-data": base64.b64encode(printed.encode()).decode()}
    answer('{"return": {"pid": 1}}', json.dumps({"return": state}))
    result = ran()
    assert (result.ok, result.why) == (False, "it ended with status 3")
    assert len(result.output) <= hooks.KEPT_CHARACTERS
    assert result.output.endswith("\n\ufffd]0;title\ufffd\ufffd[2J\ufffd31m\ufffdgnihton\ufffd ok")


def test_the_words_of_an_agent_in_an_error_move_no_cursor_and_are_short(monkeypatch):
    def refuse(*_arguments):
        raise libvirt.libvirtError("unable to execute QEMU agent command: \x1b[31mno\u202e\n" + "x" * 100_000, 1)

    monkeypatch.setitem(sys.modules, "libvirt_qemu", types.SimpleNamespace(qemuAgentCommand=refuse))
    result = ran()
    assert fails_in_words(result)
    assert "command: \ufffd[31mno\ufffd xxx" in result.why


def test_a_binding_without_the_half_that_asks_agents_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt_qemu", None)
    assert fails_in_words(ran())


def test_a_text_that_the_binding_cannot_read_is_told(monkeypatch):
    def garbled(*_arguments):
        return b"\xff".decode()

    monkeypatch.setitem(sys.modules, "libvirt_qemu", types.SimpleNamespace(qemuAgentCommand=garbled))
    assert fails_in_words(ran())
