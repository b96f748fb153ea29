# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real upgrade of QEMU on three hosts, reboots included: it stops at the second, goes on there, and no guest notices.

The first who wants to go on is killed, and still has the hosts.

Everything happens once, in the order of the tests; each looks at a part of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from harness import actual_state
from harness.ansible import Outcome
from harness.operator import Operator
from harness.session import lab_beside
from lab import Lab, in_parallel

pytestmark = pytest.mark.soak

SCENARIO = Path(__file__).with_name("upgrade.yml")
MOVING = ["busy1", "busy2", "busy3", "work1", "work2", "work3"]
BEFORE, AFTER = "10.0.2", "11.1.3"
LIMIT_S = 600.0

#: What the operator has of her own. The first stops the run on one host, once.
TASKS = {
    "pre.yml": """
- name: Look for room
  ansible.builtin.fail:
    msg: there is no room on /var
  when: inventory_hostname == broken | default('')
""",
    "probe.yml": """
- name: See that the host runs no guest yet
  ansible.builtin.command:
    argv: [virsh, -q, list]
  register: listed
  changed_when: false
  failed_when: listed.stdout | length > 0

- name: Note who was asked
  delegate_to: localhost
  ansible.builtin.file:
    path: "{{ notes }}/probed-{{ inventory_hostname }}"
    state: touch
    mode: "0644"
""",
    "pause.yml": """
- name: Pause the balancer
  run_once: true
  delegate_to: localhost
  ansible.builtin.file:
    path: "{{ notes }}/paused"
    state: touch
    mode: "0644"
""",
    "resume.yml": """
- name: Let the balancer go on
  run_once: true
  delegate_to: localhost
  ansible.builtin.file:
    path: "{{ notes }}/paused"
    state: absent
""",
}


def qemu(lab: Lab, host: str) -> str:
    """The version of QEMU that a host's own libvirtd runs guests with."""
    text = lab.host(host).ssh("virsh version", check=True).stdout
    return text.rpartition("QEMU ")[2].strip()


@dataclass
class State:
    """What is so at one moment."""

    places: dict[str, str]
    boots: dict[str, str]
    versions: dict[str, str]
    host_boots: dict[str, str]
    maintenance: dict[str, str]
    paused: bool

    @staticmethod
    def of(lab: Lab, operator: Operator) -> State:
        # A connection from before a reboot may only now be found to be dead.
        in_parallel(lambda host: host.wait_ready(), lab.hosts.values())
        record = "cat /var/lib/kvmops/maintenance.json 2>/dev/null || echo '{}'"
        records = {host: json.loads(lab.host(host).ssh(record, check=True).stdout) for host in lab.hosts}
        return State(
            places=actual_state.places(lab),
            boots=actual_state.boot_ids(lab),
            versions={host: qemu(lab, host) for host in lab.hosts},
            host_boots={name: host.boot_id() for name, host in lab.hosts.items()},
            maintenance={host: found.get("state", "active") for host, found in records.items()},
            paused=(operator.folder / "paused").exists(),
        )


@dataclass
class Upgraded:
    """All that was done, and what was so in between."""

    lab: Lab
    operator: Operator
    check: Outcome
    stopped: Outcome
    refused: Outcome
    resumed: Outcome
    again: Outcome
    states: dict[str, State]
    seen: dict[str, Any]
    reports: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    """Upgrade three hosts; the second is broken the first time."""
    with lab_beside(SCENARIO) as lab:
        operator = Operator(lab, tmp_path_factory.mktemp("upgraded"))
        for name, text in TASKS.items():
            operator.write(name, text.lstrip())
        hooks = {f"rolling_upgrade_{path.removesuffix('.yml')}_tasks": path for path in TASKS}
        wish = {
            "rolling_upgrade_default_release": "trixie-backports",
            "rolling_upgrade_reboot": "always",
            "rolling_upgrade_measure_s": 0,
            "notes": str(operator.folder),
            **hooks,
        }

        def run(*words: str, **more: Any) -> Outcome:
            return operator.start("rolling_upgrade", *words, **{**wish, **more}).finish(LIMIT_S)

        states = {"before": State.of(lab, operator)}
        check = run("--check")
        states["checked"] = State.of(lab, operator)
        # Asked less often than usual, or two cores have little else to do meanwhile.
        with lab.probe(MOVING, period_ms=25) as probe:
            stopped = run(broken="h2")
            states["stopped"] = State.of(lab, operator)
            dead = operator.start("rolling_upgrade", **wish)
            dead.await_text("Rolling upgrade .* goes on")
            dead.kill()
            refused = run()
            states["refused"] = State.of(lab, operator)
            # What the refusal says to add.
            name = re.search(r"-e rolling_upgrade_take_over=(\S+)", refused.words)
            resumed = run(rolling_upgrade_take_over=name.group(1) if name else "")
            seen = probe.records()
        states["resumed"] = State.of(lab, operator)
        again = run(rolling_upgrade_reboot="auto")
        yield Upgraded(lab, operator, check, stopped, refused, resumed, again, states, seen, operator.reports())
        operator.leave()


def test_a_check_shows_every_wave_and_touches_nothing(upgraded: Upgraded) -> None:
    assert upgraded.check.status == 0, upgraded.check.text
    assert "3 hosts are emptied in 3 waves with 6 moves" in upgraded.check.words
    assert "Shut down while their host is away, and started again on it: rooted" in upgraded.check.words
    assert upgraded.states["checked"] == upgraded.states["before"]
    assert set(upgraded.states["before"].versions.values()) == {BEFORE}


def test_it_stops_at_the_host_that_fails_with_every_guest_running(upgraded: Upgraded) -> None:
    assert upgraded.stopped.status == 2, upgraded.stopped.text
    told = "h2 was not upgraded: Look for room: there is no room on /var. It stays closed for guests"
    assert told in upgraded.stopped.words, upgraded.stopped.text
    assert "run the same again: it goes on with h2" in upgraded.stopped.words
    state, before = upgraded.states["stopped"], upgraded.states["before"]
    assert state.versions == {"h1": AFTER, "h2": BEFORE, "h3": BEFORE}
    assert state.maintenance == {"h1": "active", "h2": "cordoned", "h3": "active"}
    assert [host for host in state.host_boots if state.host_boots[host] != before.host_boots[host]] == ["h1"]
    assert {name: state.boots[name] for name in MOVING} == {name: before.boots[name] for name in MOVING}
    assert {name: state.places[name] for name in MOVING[:3]} == dict.fromkeys(MOVING[:3], "h1")
    assert state.places["rooted"] == "h2", "a guest that was shut down was not started again where the run stopped"
    assert not state.paused, "other automations were not let go on"


def test_a_killed_run_has_its_hosts_until_somebody_says_that_it_is_dead(upgraded: Upgraded) -> None:
    assert upgraded.refused.status == 2, upgraded.refused.text
    told = r"h1 is taken by alice@\S+ for run rolling_upgrade-\S+ \(rolling upgrade of h1, h2, h3: .*\) since "
    assert re.search(told, upgraded.refused.words), upgraded.refused.text
    left = replace(upgraded.states["stopped"], paused=True)
    assert upgraded.states["refused"] == left, "it let other automations go on, which another run has paused"


def test_it_goes_on_with_that_host_and_does_none_twice(upgraded: Upgraded) -> None:
    assert upgraded.resumed.status == 0, upgraded.resumed.text
    assert f"done: h1 (QEMU {AFTER})" in upgraded.resumed.words
    assert f"begun earlier, comes first: h2 (QEMU {BEFORE})" in upgraded.resumed.words
    state, stopped = upgraded.states["resumed"], upgraded.states["stopped"]
    assert set(state.versions.values()) == {AFTER}
    assert set(state.maintenance.values()) == {"active"}
    assert [host for host in state.host_boots if state.host_boots[host] == stopped.host_boots[host]] == ["h1"]
    assert "3 of 3 hosts upgraded" in upgraded.resumed.words
    for host in upgraded.lab.hosts:
        assert f"h{host[1:]}: QEMU {BEFORE} -> {AFTER}" in upgraded.resumed.words
        assert (upgraded.operator.folder / f"probed-{host}").exists(), "a host was opened before it was asked"
    assert not state.paused


def test_no_guest_that_could_move_noticed(upgraded: Upgraded) -> None:
    silent = {name: seen["gaps"][:3] for name, seen in upgraded.seen.items() if not seen["alive"]}
    assert silent == {}
    before, after = upgraded.states["before"], upgraded.states["resumed"]
    assert {name: after.boots[name] for name in MOVING} == {name: before.boots[name] for name in MOVING}
    damaged = {name: found for name, found in actual_state.verified(upgraded.lab).items() if not found["memory_ok"]}
    assert damaged == {}


def test_with_a_spare_host_nobody_moves_twice(upgraded: Upgraded) -> None:
    moved = [row["guest"] for report in upgraded.reports for row in report["guests"] if row["outcome"] == "moved"]
    assert sorted(moved) == MOVING
    assert {row["outcome"] for report in upgraded.reports for row in report["guests"]} == {"moved"}


def test_a_guest_that_cannot_move_was_shut_down_with_its_consent_and_is_back(upgraded: Upgraded) -> None:
    before, stopped, after = (upgraded.states[name] for name in ("before", "stopped", "resumed"))
    assert after.places["rooted"] == "h2"
    assert len({before.boots["rooted"], stopped.boots["rooted"], after.boots["rooted"], "no answer"}) == 4
    log = upgraded.lab.host("h2").ssh("grep -ho 'reason=.*' /var/log/libvirt/qemu/rooted.log", check=True).stdout
    assert log.split() == ["reason=shutdown"] * 2, "it was not asked but ended"


def test_once_more_there_is_nothing_to_upgrade(upgraded: Upgraded) -> None:
    assert upgraded.again.status == 0, upgraded.again.text
    assert "nothing to upgrade: h1, h2, h3" in upgraded.again.words
    assert actual_state.places(upgraded.lab) == upgraded.states["resumed"].places
