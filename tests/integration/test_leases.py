# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs at once on hosts that both want: one has them, the other waits or is told, whatever it was to do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import actual_state
from harness.ansible import Running, environment, program
from harness.operator import Operator
from lab import Lab

#: What a role does that takes its hosts. The work is a file that somebody has to make.
PLAYBOOK = """
- name: Work on some hosts
  hosts: hypervisors
  gather_facts: false
  vars:
    __run_lease_owner: "{{ who }}"
    __run_lease_run: "of-{{ who }}"
  tasks:
    - name: Work while this run has the hosts
      block:
        - name: Take the hosts
          ansible.builtin.import_role:
            name: kvmops.cluster.run
            tasks_from: lease
          vars:
            __run_lease_hosts: "{{ wanted }}"
            __run_lease_purpose: a test
            __run_lease_wait_s: "{{ wait_s | default(0) }}"

        - name: Tell the numbers
          run_once: true
          ansible.builtin.debug:
            msg: "has {{ __run_fences.keys() | sort | join(' and ') }}"

        - name: Work until the file is there
          run_once: true
          delegate_to: localhost
          ansible.builtin.wait_for:
            path: "{{ work }}"
            timeout: 120
          when: work is defined
      always:
        - name: Give the hosts back
          ansible.builtin.import_role:
            name: kvmops.cluster.run
            tasks_from: release
"""


class Team:
    """People who run the playbook above at the same time."""

    def __init__(self, operator: Operator, folder: Path) -> None:
        self._operator = operator
        self._folder = folder
        self._playbook = operator.write("work.yml", PLAYBOOK)
        self._running: list[Running] = []
        self.work = folder / "work.done"

    def start(self, who: str, wanted: list[str], **variables: Any) -> Running:
        """Somebody begins to work on some hosts."""
        extra = json.dumps({"who": who, "wanted": wanted, **variables})
        words = [program("ansible-playbook"), "-i", str(self._operator.inventory), str(self._playbook), "-e", extra]
        running = Running(words, environment=environment(ANSIBLE_NOCOLOR="1", COLUMNS="200"), directory=self._folder)
        self._running.append(running)
        return running

    def leave(self) -> None:
        """Leave nothing running."""
        for running in self._running:
            running.clear_away()


@pytest.fixture
def team(operator: Operator, tmp_path: Path) -> Iterator[Team]:
    """Alice and Bob, and whoever else comes."""
    people = Team(operator, tmp_path)
    yield people
    people.leave()


def lease(lab: Lab, host: str) -> dict[str, Any]:
    """What a host has on record."""
    document: dict[str, Any] = json.loads(lab.host(host).ssh("cat /var/lib/kvmops/lease.json", check=True).stdout)
    return document


def test_the_second_is_told_who_has_a_host_and_keeps_none(lab: Lab, team: Team) -> None:
    first = team.start("alice", ["h3", "h2"], work=str(team.work))
    first.await_text("has h2 and h3")
    second = team.start("bob", ["h2", "h1"]).finish()
    held = lease(lab, "h2")
    assert second.status == 2, second.text
    assert "h2 could not be taken for this run, so it took none of h1, h2." in second.words
    told = f"h2 is taken by alice for run of-alice (a test) since {held['since']}, until {held['expires_at']}"
    assert told in second.words
    assert lease(lab, "h1")["owner"] is None
    team.work.touch()
    assert first.finish().status == 0
    assert [lease(lab, host)["owner"] for host in ("h2", "h3")] == [None, None]
    assert second.total("changed") == 0


@pytest.mark.soak
def test_the_second_waits_and_has_the_host_with_a_higher_number(lab: Lab, team: Team) -> None:
    first = team.start("alice", ["h2", "h3"], work=str(team.work))
    first.await_text("has h2 and h3")
    before = lease(lab, "h2")["fence"]
    second = team.start("bob", ["h1", "h2"], wait_s=120)
    second.await_text("item=h1")
    team.work.touch()
    assert first.finish().status == 0
    waited = second.finish()
    assert waited.status == 0, waited.text
    assert "has h1 and h2" in waited.text
    assert lease(lab, "h2")["fence"] > before


@pytest.mark.soak
def test_a_killed_controllers_lease_ends_and_its_late_move_is_refused(lab: Lab, operator: Operator) -> None:
    mine = {"owner": "alice", "run": "drain-h1", "ttl_s": 1}
    taken = operator.run_module("h1", "host_lease", **mine)
    assert taken.status == 0, taken.text
    late = lease(lab, "h1")["fence"]
    other = operator.run_module("h1", "host_lease", owner="bob", run="rebalance", purpose="nightly", wait_s=30)
    assert other.status == 0, other.text
    plan = {
        "schema": "kvmops.plan/1",
        "id": "late",
        "goal": {"kind": "drain", "hosts": ["h1"]},
        "intent": {},
        "created_at": "2026-11-24T02:00:00Z",
        "snapshots": {},
        "hosts": {},
        "steps": [],
        "stays": [],
        "off": [],
        "expected": {"seconds": None, "bytes": None, "fits_window": None},
    }
    refused = operator.run_module("h1", "plan_apply", plan=plan, name="h1", fence=late)
    assert refused.status == 2, refused.text
    assert (
        f"the lease with fencing number {late} is no longer valid: h1 was taken over by bob for run rebalance (nightly)"
        in refused.words
    )


@pytest.mark.soak
def test_a_lease_that_is_garbage_keeps_all_out_until_it_is_broken(lab: Lab, operator: Operator) -> None:
    lab.host("h2").ssh("mkdir -p /var/lib/kvmops && echo garbage > /var/lib/kvmops/lease.json", check=True)
    mine = {"owner": "alice", "run": "drain-h2", "name": "h2"}
    refused = operator.run_module("h2", "host_lease", **mine)
    assert refused.status == 2, refused.text
    assert "so h2 counts as taken: see that no run is at work on h2, then break the lease" in refused.words
    assert operator.run_module("h2", "host_lease", **mine, force=True).status == 0
    assert lease(lab, "h2")["owner"] == "alice"


NIGHTLY = {"owner": "bob", "run": "rebalance-7", "name": "h3"}
#: One guest is enough to see who moves it when.
ONLY_IDLE = {"drain_host_name": "h1", "drain_host_exclude": ["busy", "shy", "web-one"], "drain_host_measure_s": 0}


@pytest.mark.soak
def test_a_drain_of_hosts_that_another_run_has_leaves_all_as_it_was(lab: Lab, operator: Operator) -> None:
    assert operator.run_module("h3", "host_lease", **NIGHTLY, purpose="nightly").status == 0
    held, before = lease(lab, "h3"), actual_state.everywhere(lab)
    drain = operator.run("drain_host", **{**ONLY_IDLE, "drain_host_exclude": ["busy"]})
    assert drain.status == 2, drain.text
    assert f"h3 is taken by bob for run rebalance-7 (nightly) since {held['since']}" in drain.words
    assert "No guest was moved, and the host is open as before." in drain.words
    assert actual_state.everywhere(lab) == before
    assert [lease(lab, host)["owner"] for host in ("h1", "h2", "h3")] == [None, None, "bob"]
    home = operator.run("restore_host", restore_host_name="h3")
    assert home.status == 2, home.text
    assert "h3 could not be taken for this run" in home.words


@pytest.mark.soak
def test_a_drain_waits_for_another_run_and_plans_anew_after_it(lab: Lab, operator: Operator) -> None:
    """Bob has h2 and h3, one of which the drain wants, and closes h2 before he is done."""
    for host in ("h2", "h3"):
        assert operator.run_module(host, "host_lease", **{**NIGHTLY, "name": host}).status == 0
    drain = operator.start("drain_host", **ONLY_IDLE, drain_host_wait_s=120)
    drain.await_text(r"lease \| Take the hosts")
    drain.await_text("1 guest .* leaves h1")
    closed = operator.run_module("h2", "host_maintenance", name="h2", state="cordoned", owner="bob")
    assert closed.status == 0, closed.text
    for host in ("h2", "h3"):
        assert operator.run_module(host, "host_lease", **{**NIGHTLY, "name": host}, state="absent").status == 0
    outcome = drain.finish()
    assert outcome.status == 0, outcome.text
    assert outcome.text.count("1 guest (128 MiB) leaves h1") == 2, "it did not plan again"
    assert actual_state.everywhere(lab)["idle"] == {"h3": "running"}
    assert [lease(lab, host)["owner"] for host in ("h1", "h3")] == [None, None]
