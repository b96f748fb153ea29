# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest's owner writes, and what its agent answers, changes nothing for others, nor what is said of a move."""

from __future__ import annotations

import json
import sys
import threading
import types

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.run.executor import Executor
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import PreparationOptions
from ansible_collections.kvmops.cluster.tests.unit.movers import PATIENCE_S, until

METADATA = """<metadata><k:guest xmlns:k="https://kvmops.cluster/xmlns/guest/1">{}</k:guest></metadata></domain>"""
BEFORE = '<k:hook timeout_s="5" on_failure="go_on"><k:arg>/bin/sync</k:arg></k:hook>'
AFTER = '<k:hook when="after" timeout_s="5"><k:arg>/bin/thaw</k:arg></k:hook>'
PERMITTED = PreparationOptions(guest_hooks=True)


class Agent:
    """The agents of all guests. They answer with these texts, or run commands until the test lets them end."""

    def __init__(self, monkeypatch):
        self.texts = {
            "guest-exec": '{"return": {"pid": 1}}',
            "guest-exec-status": '{"return": {"exited": true, "exitcode": 0}}',
            "guest-ping": '{"return": {}}',
        }
        self.began, self.may_end = threading.Event(), threading.Event()
        self.may_end.set()
        monkeypatch.setitem(sys.modules, "libvirt_qemu", types.SimpleNamespace(qemuAgentCommand=self.command))

    def command(self, _domain, text, _timeout, _flags):
        self.began.set()
        assert self.may_end.wait(PATIENCE_S)
        return self.texts[json.loads(text)["execute"]]


@pytest.fixture
def agent(monkeypatch):
    return Agent(monkeypatch)


def carry(guest, hooks):
    guest.xml = guest.xml.replace("</domain>", METADATA.format(hooks))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"return": null}',
        '{"return": []}',
        '{"return": {"pid": "1"}}',
        '{"return": {"pid": NaN}}',
        '{"return": {"exited": true, "exitcode": [0]}}',
        '{"return": {"exited": true, "exitcode": 0, "out-data": 7}}',
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("first", ["guest-exec", "guest-exec-status"])
def test_a_guest_that_has_moved_has_moved_whatever_its_agent_answers(rig, agent, first, text):
    agent.texts[first] = text
    rig.use(preparation=PERMITTED)
    guest = rig.h1.add_guest("web1")
    carry(guest, BEFORE + AFTER)
    rig.cluster.on_migrate = lambda job: job.complete()
    result = rig.move(guest)
    assert result["outcome"] == "moved"
    assert [fault["code"] for fault in result["faults"]] == ["hook_failed"]
    assert "/bin/thaw failed after the move, in the guest: the guest agent did not run it: " in result["error"]


def test_a_check_that_is_answered_with_nonsense_says_nothing_of_the_destination(rig, agent):
    agent.texts["guest-ping"] = '{"return": 7}'
    rig.use(preparation=PreparationOptions(hooks=(Hook((), "after", where="guest", check="agent", on_failure="stop"),)))
    rig.cluster.on_migrate = lambda job: job.complete()
    result = rig.move(rig.h1.add_guest("web1"))
    assert (result["outcome"], result["faults"]) == ("moved", [])
    assert result["notes"] == [
        "the check of the guest agent failed before the move already, so it was not made after it"
    ]


def test_hooks_that_are_not_permitted_are_noted_once_and_not_run(rig, agent):
    guest = rig.h1.add_guest("web1")
    carry(guest, BEFORE + AFTER)
    rig.cluster.on_migrate = lambda job: job.complete()
    result = rig.move(guest)
    assert (result["outcome"], result["faults"]) == ("moved", [])
    assert result["notes"] == ["web1 has 2 hooks in its metadata, which were not run: permit them with guest_hooks"]
    assert not agent.began.is_set()


def test_a_guest_with_too_many_hooks_is_refused_and_the_others_move(rig, agent):
    rig.use(preparation=PERMITTED)
    guests = [rig.h1.add_guest(name) for name in ("web1", "web2")]
    carry(guests[0], BEFORE * 12)
    rig.cluster.on_migrate = lambda job: job.complete()
    first, second = run(rig, guests).results()
    assert (first["outcome"], second["outcome"]) == ("refused", "moved")
    assert first["refusals"][0]["reason"] == "the metadata of web1 has 12 hooks, and 8 is the most"


class Run(threading.Thread):
    """A run of steps, one guest in transfer at a time."""

    def __init__(self, rig, steps):
        super().__init__(daemon=True)
        self._executor = Executor(rig.mover, rig.recorder, rig.recorder, window=1, stopping=rig.stopping)
        self._steps, self._results = steps, None

    def run(self):
        self._results = self._executor.run(self._steps)

    def results(self):
        self.join(PATIENCE_S)
        assert not self.is_alive(), "the run does not end"
        return self._results


def run(rig, guests):
    made = Run(rig, [rig.step(guest) for guest in guests])
    made.start()
    return made


def test_while_a_hook_of_a_guest_runs_before_its_move_others_move(rig, agent):
    """The link is not held, nor the way to the same destination."""
    rig.use(preparation=PERMITTED)
    guests = [rig.h1.add_guest(name) for name in ("web1", "web2", "web3")]
    carry(guests[0], BEFORE)
    agent.may_end.clear()
    rig.cluster.on_migrate = lambda job: job.complete()
    made = run(rig, guests)
    assert agent.began.wait(PATIENCE_S)
    until(lambda: {guests[1].uuid, guests[2].uuid} <= set(rig.h2.guests))
    assert guests[0].uuid in rig.h1.guests
    agent.may_end.set()
    assert [result["outcome"] for result in made.results()] == ["moved"] * 3


def test_after_its_hooks_a_guest_waits_for_a_place_at_its_destination_again(rig, agent):
    rig.use(preparation=PERMITTED)
    guest = rig.h1.add_guest("web1")
    carry(guest, BEFORE)
    rig.cluster.on_migrate = lambda job: job.complete()
    asked, incoming = [], rig.mover._context.hosts.incoming

    def counted(step):
        asked.append(agent.began.is_set())
        return incoming(step)

    rig.mover._context.hosts.incoming = counted
    assert rig.move(guest)["outcome"] == "moved"
    assert asked == [False, True]
