# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import (
    Hook,
    HookError,
    count_of_guest,
    normalise,
    of_guest,
)

METADATA = """<domain><name>db1</name><metadata>
<k:guest xmlns:k="https://kvmops.cluster/xmlns/guest/1" home="h1">{}</k:guest></metadata></domain>"""


def in_metadata(hooks):
    return of_guest(ET.fromstring(METADATA.format(hooks)))


def test_what_is_not_said_has_defaults():
    assert normalise(None) == ()
    assert normalise([{"command": ["/bin/true"]}]) == (Hook(("/bin/true",), "before", 0.0, "host", 30.0, "refuse"),)
    assert normalise([{"command": ["/bin/true"], "when": "after", "on_failure": None}])[0].on_failure == "stop"


def test_all_that_is_said_is_kept():
    stated = {
        "command": ["/usr/bin/notify", "a b", "$HOME", ""],
        "when": "before",
        "seconds": 5,
        "where": "guest",
        "timeout_s": "2.5",
        "on_failure": "go_on",
    }
    assert normalise([stated]) == (Hook(("/usr/bin/notify", "a b", "$HOME", ""), "before", 5.0, "guest", 2.5, "go_on"),)


def test_a_check_comes_after_the_move_and_stops_unless_it_says_something_else():
    agent, port = normalise([{"check": "agent"}, {"check": "port", "port": "443", "address": "web1.example.org"}])
    assert (agent.when, agent.where, agent.on_failure, agent.command) == ("after", "guest", "stop", ())
    assert (port.when, port.where, port.on_failure, port.port) == ("after", "host", "stop", 443)
    assert (agent.name, port.name) == ("the check of the guest agent", "the check of port 443")
    (before,) = normalise([{"check": "agent", "when": "before"}])
    assert before.on_failure == "refuse"


def test_a_command_after_the_move_goes_on_if_it_says_so():
    (hook,) = normalise([{"command": ["/bin/true"], "when": "after", "on_failure": "go_on"}])
    assert hook.on_failure == "go_on"


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("reboot", "not a dictionary"),
        ({}, "no command"),
        ({"command": []}, "no command"),
        ({"command": "/bin/rm -rf /tmp/x"}, "no command"),
        ({"command": ["rm"]}, "'rm'"),
        ({"command": [""]}, "''"),
        ({"command": ["/bin/sleep", 5]}, "not a string"),
        ({"command": ["/bin/a\0b"]}, "not a string"),
        ({"command": ["/bin/a"], "when": "during"}, "when 'during'"),
        ({"command": ["/bin/a"], "where": "moon"}, "where 'moon'"),
        ({"command": ["/bin/a"], "on_failure": "explode"}, "on_failure 'explode'"),
        ({"command": ["/bin/a"], "on_failure": []}, "on_failure []"),
        ({"command": ["/bin/a"], "when": "after", "on_failure": "refuse"}, "cannot refuse"),
        ({"command": ["/bin/a"], "when": "before", "on_failure": "stop"}, "nothing to stop"),
        ({"command": ["/bin/a"], "check": "agent"}, "a command and a check"),
        ({"check": "ping"}, "check 'ping'"),
        ({"check": "agent", "where": "host"}, "checks the agent from the host"),
        ({"check": "agent", "port": 22}, "has a port and does not check it"),
        ({"check": "agent", "address": "192.0.2.7"}, "has an address and checks no port"),
        ({"command": ["/bin/a"], "port": 22}, "has a port and does not check it"),
        ({"check": "port"}, "port None"),
        ({"check": "port", "port": 0}, "port 0"),
        ({"check": "port", "port": 65536}, "port 65536"),
        ({"check": "port", "port": "ssh"}, "port 'ssh'"),
        ({"check": "port", "port": True}, "port True"),
        ({"check": "port", "port": 22, "address": 7}, "address 7"),
        ({"check": "port", "port": 22, "address": "-oProxyCommand=x"}, "address '-oProxyCommand=x'"),
        ({"check": "port", "port": 22, "on_failure": "refuse"}, "cannot refuse"),
        ({"command": ["/bin/a"], "seconds": -1}, "seconds -1"),
        ({"command": ["/bin/a"], "seconds": "soon"}, "seconds 'soon'"),
        ({"command": ["/bin/a"], "seconds": "nan"}, "seconds 'nan'"),
        ({"command": ["/bin/a"], "seconds": 3601}, "seconds 3601"),
        ({"command": ["/bin/a"], "timeout_s": 0}, "timeout_s 0"),
        ({"command": ["/bin/a"], "timeout_s": True}, "timeout_s True"),
        ({"command": ["/bin/a"], "shell": "bash"}, "shell"),
    ],
)
def test_what_makes_no_sense_is_named(stated, words):
    with pytest.raises(HookError) as caught:
        normalise([{"command": ["/bin/true"]}, stated])
    assert caught.value.refusal["code"] == "bad_hook"
    assert caught.value.refusal["reason"].startswith("hook 2 ")
    assert words in caught.value.refusal["reason"]
    assert caught.value.refusal["remedy"]


def test_a_guest_carries_its_own():
    found = in_metadata(
        '<k:hook when="after" seconds="3" timeout_s="10"><k:arg>/usr/bin/thaw</k:arg><k:arg>--all</k:arg></k:hook>'
        "<k:hook><k:arg>/usr/bin/freeze</k:arg></k:hook>"
    )
    assert found == (
        Hook(("/usr/bin/thaw", "--all"), "after", 3.0, "guest", 10.0, "go_on"),
        Hook(("/usr/bin/freeze",), "before", 0.0, "guest", 30.0, "refuse"),
    )
    assert in_metadata("") == of_guest(ET.fromstring("<domain/>")) == ()


def test_a_guest_carries_its_own_checks():
    port, agent = in_metadata(
        '<k:hook check="port" port="22" timeout_s="5"/><k:hook check="agent" on_failure="go_on"/>'
    )
    assert (port.check, port.port, port.address, port.on_failure) == ("port", 22, None, "stop")
    assert (agent.check, agent.on_failure) == ("agent", "go_on")


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ('<k:hook where="host"><k:arg>/sbin/poweroff</k:arg></k:hook>', "must not run on a host"),
        ('<k:hook where=""><k:arg>/sbin/poweroff</k:arg></k:hook>', "must not run on a host"),
        ("<k:hook/>", "no command"),
        ('<k:hook check="port" port="22" address="127.0.0.1"/>', "must not name an address"),
        ('<k:hook check="agent"><k:arg>/sbin/poweroff</k:arg></k:hook>', "a command and a check"),
        ('<k:hook command="/bin/a"><k:arg/></k:hook>', "''"),
    ],
)
def test_nothing_of_a_guests_metadata_runs_on_a_host(hook, words):
    with pytest.raises(HookError) as caught:
        in_metadata(hook)
    assert caught.value.refusal["reason"].startswith("hook 1 in the metadata of db1 ")
    assert words in caught.value.refusal["reason"]


# --- no guest holds up a run ------------------------------------------------------------------------------------------


def hook(**words):
    return f"<k:hook {' '.join(f'{key}={value!r}' for key, value in words.items())}><k:arg>/bin/a</k:arg></k:hook>"


def refused(hooks):
    with pytest.raises(HookError) as caught:
        in_metadata(hooks)
    assert caught.value.refusal["code"] == "bad_hook"
    assert caught.value.refusal["remedy"]
    return caught.value.refusal["reason"]


def test_a_guest_has_so_many_hooks_and_no_more():
    assert len(in_metadata(hook(timeout_s="15") * 8)) == 8
    assert refused(hook(timeout_s="1") * 12) == "the metadata of db1 has 12 hooks, and 8 is the most"


def test_a_hook_of_a_guest_takes_and_waits_so_long_and_no_longer():
    (longest,) = in_metadata(hook(timeout_s="60", seconds="60"))
    assert (longest.timeout_s, longest.seconds) == (60.0, 60.0)
    assert refused(hook(timeout_s="60.5")) == "hook 1 in the metadata of db1 has timeout_s '60.5'"
    assert refused(hook(seconds="61")) == "hook 1 in the metadata of db1 has seconds '61'"
    # The operator's own may.
    assert normalise([{"command": ["/bin/a"], "timeout_s": 600, "seconds": 600}])[0].timeout_s == 600.0


def test_all_hooks_of_a_guest_take_so_long_together_and_no_longer():
    most = hook(timeout_s="30", seconds="10") + hook(timeout_s="30", seconds="20") + hook(timeout_s="20", when="after")
    assert len(in_metadata(most + hook(timeout_s="10", seconds="10", when="after"))) == 4
    assert refused(most + hook(timeout_s="10", seconds="11", when="after")) == (
        "the hooks in the metadata of db1 may take 121 s together, and 120 s is the most"
    )


def test_hooks_are_counted_that_make_no_sense():
    hooks = "<k:hook/>" + hook(where="host") + hook()
    assert count_of_guest(ET.fromstring(METADATA.format(hooks))) == 3
    assert count_of_guest(ET.fromstring("<domain/>")) == 0


@pytest.mark.parametrize(
    "hook_of_guest",
    [
        "<k:hook><k:arg>bin\u0085\u202e" + "x" * 5000 + "</k:arg></k:hook>",
        '<k:hook when="\u202e' + "x" * 5000 + '"><k:arg>/a</k:arg></k:hook>',
        "<k:hook " + "x" * 5000 + '="1"><k:arg>/a</k:arg></k:hook>',
        '<k:hook check="port" port="\u009b' + "x" * 5000 + '"/>',
    ],
)
def test_what_a_guest_states_is_told_shortly_and_moves_no_cursor(hook_of_guest):
    reason = refused(hook_of_guest)
    assert len(reason) < 250
    assert reason.isprintable()


def test_the_name_of_a_program_is_told_shortly_and_moves_no_cursor():
    assert Hook(("/bin/\x1b[2J\u202ea",)).name == "/bin/\ufffd[2J\ufffda"
    assert len(Hook(("/" + "x" * 5000,)).name) == 100
