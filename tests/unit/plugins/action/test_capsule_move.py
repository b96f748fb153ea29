# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the controller asks of the two hosts of a move, and what it tells its operator."""

from __future__ import annotations

import types

import pytest
from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.action import capsule_move
from ansible_collections.kvmops.cluster.plugins.action.capsule_move import ActionModule
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_action import LiveAction

GUEST = {"name": "db1", "uuid": "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"}
OFFER = {"sender_id": "id-h1", "public_key": "ssh-ed25519 AAAA", "needs": "e30=", "signature": "c2ln"}
MOVED = {"changed": True, "state": "moved", "notes": [], "refusal": None}
VARIABLES = {
    "kvmops_cluster_capsule_files": ["/boot/*"],
    "kvmops_cluster_capsule_signers": ["ssh-ed25519 BBBB"],
    "kvmops_cluster_capsule_dir": "/srv/capsules",
}


class Hosts:
    """Both hosts: what they answer, and what they were asked."""

    def __init__(self):
        self.offers = [{"guest": GUEST, "offer": OFFER}]
        self.answer = {"far_end": {"port": 22, "host_keys": ["k"]}, "notes": ["its sound goes nowhere"]}
        self.results = [dict(MOVED)]
        self.asked = []
        self.jobs = []
        self.shown = []


class Far:
    """The other host, as the action sees it."""

    def __init__(self, hosts, name):
        self.hosts, self.name = hosts, name

    def user(self):
        return "root"

    def variable(self, name):
        return VARIABLES.get(name)

    def module(self, name, arguments):
        self.hosts.asked.append(arguments)
        return self.hosts.answer

    def close(self):
        pass


@pytest.fixture
def hosts(monkeypatch):
    found = Hosts()

    def job(action, tmp=None, task_vars=None):
        found.jobs.append(action.module_arguments(task_vars))
        return found.results.pop(0)

    monkeypatch.setattr(LiveAction, "run", job)
    monkeypatch.setattr(ActionModule, "_execute_module", lambda *_all, **_more: found.offers.pop(0))
    monkeypatch.setattr(capsule_move, "OtherHost", lambda _action, _variables, name: Far(found, name))
    monkeypatch.setattr(capsule_move.far_end, "connection", lambda _other: {"bandwidth_mib_s": None})
    monkeypatch.setattr(capsule_move.far_end, "reached", lambda other, *_all: {"name": other.name})
    for kind in ("display", "warning"):
        monkeypatch.setattr(capsule_move.display, kind, lambda text, *_all, **_more: found.shown.append(text))
    return found


def move(check=False, **args):
    """Run the action of a task on h1."""
    action = ActionModule.__new__(ActionModule)
    action._task = types.SimpleNamespace(args={"guest": "db1", "to": "h2", **args}, delegate_to=None, check_mode=check)
    return action.run(None, {"inventory_hostname": "h1"})


def test_the_far_end_is_asked_with_its_own_variables_and_permits_one_guest(hosts):
    assert move()["state"] == "moved"
    asked, closed = hosts.asked
    assert (asked["guest"], asked["needs"], asked["signature"]) == (GUEST["uuid"], "e30=", "c2ln")
    assert asked["start"] == {"allow_files": ["/boot/*"]}
    assert (asked["keys"], asked["capsule_dir"]) == (["ssh-ed25519 BBBB"], "/srv/capsules")
    assert (closed["state"], closed["ticket"]) == ("closed", asked["ticket"])
    assert hosts.jobs[0]["far_end"] == {"name": "h2"}


def test_options_of_the_task_win_over_variables(hosts):
    move(allow_files=["/srv/*"], keys=["ssh-ed25519 CCCC"])
    assert hosts.asked[0]["start"] == {"allow_files": ["/srv/*"]}
    assert hosts.asked[0]["keys"] == ["ssh-ed25519 CCCC"]


def test_nothing_is_begun_if_the_far_end_refuses(hosts):
    why = {"code": "cpu", "reason": "the CPU of db1 cannot run on h2", "remedy": "choose a host"}
    hosts.answer = {"failed": True, "msg": "…", "refusal": why}
    result = move()
    assert (result["failed"], result["msg"]) == (True, "the CPU of db1 cannot run on h2: choose a host")
    assert hosts.jobs == []


def test_a_check_says_what_would_be_left_out(hosts):
    assert move(check=True)["notes"] == ["its sound goes nowhere"]
    # There is no permission to end.
    assert [one.get("state") for one in hosts.asked] == [None]


def test_a_move_that_is_under_way_is_waited_for(hosts):
    hosts.offers = [{"guest": GUEST, "offer": None, "running": {"pid": 4711, "at": "2026-11-30T02:00:00Z"}}]
    assert move()["state"] == "moved"
    assert hosts.shown == [
        "h1: an earlier run moves db1 to h2 since 2026-11-30T02:00:00Z (process 4711); waiting for its end"
    ]
    assert hosts.asked == []
    assert (hosts.jobs[0]["join"], hosts.jobs[0]["guest"]) == (True, GUEST["uuid"])


def test_one_that_ended_a_moment_ago_has_done_it(hosts):
    """Its guest was still here when this run was planned."""
    done = {**MOVED, "changed": False, "notes": ["an earlier run of capsule_move, begun then, has done it"]}
    hosts.offers = [{"guest": GUEST, "offer": None, "result": done}]
    assert move() == done
    assert (hosts.asked, hosts.jobs) == ([], [])


def test_one_that_died_meanwhile_is_gone_on_with(hosts):
    hosts.offers.insert(0, {"guest": GUEST, "offer": None, "running": {"pid": 4711, "at": "2026-11-30T02:00:00Z"}})
    hosts.results.insert(0, {"changed": False, "ended": True})
    assert move()["state"] == "moved"
    assert hosts.shown[1] == "h1: the earlier run has ended without a result. This run goes on from there."
    assert "join" not in hosts.jobs[1]


@pytest.mark.parametrize("to", ["", "h1"])
def test_a_host_that_cannot_be_meant_is_refused(hosts, to):
    with pytest.raises(AnsibleError) as error:
        move(to=to)
    assert str(error.value) == (f"to is {to or 'empty'}. Name the host that is to have the guest, another than h1.")
