# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A wave of an upgrade that fails leaves no guest shut down, and says so of one that it could not start again."""

from __future__ import annotations

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from harness.ansible import CHECKOUT

from .conftest import part

EMPTY = (part("rolling_upgrade", "wave/cordon"), part("rolling_upgrade", "wave/empty"))
GPU1 = {"name": "gpu1", "uuid": "0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11"}
PLAN = {
    "schema": "kvmops.plan/1",
    "id": "upgrade-b",
    "goal": {"kind": "upgrade", "hosts": ["b"]},
    "intent": {},
    "created_at": "2026-11-24T02:00:00Z",
    "snapshots": {},
    "hosts": {},
    "steps": [],
    "stays": [{"guest": GPU1, "host": "b", "refusals": []}],
    "off": [],
    "expected": {"seconds": 0, "bytes": 0, "fits_window": None},
}
WAVE = {
    "__run_lease_owner": "alice",
    "__run_lease_run": "rolling_upgrade",
    "__run_view": {"snapshots": {host: {"host": host, "domains": []} for host in ("a", "b", "c")}},
    "__rolling_upgrade_run": "r1",
    "__rolling_upgrade_hosts": ["a", "b", "c"],
    "__rolling_upgrade_planned": {"waves": []},
    "__rolling_upgrade_recorded": {"record": {"stopped": []}},
    "__rolling_upgrade_stopping": {"stop": [GPU1], "blocked": []},
    "__rolling_upgrade_wave": {"hosts": ["b"], "plan": PLAN},
    "rolling_upgrade_owner": "alice",
}
ARGUMENTS = """
import json
import pathlib

from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({name: {"type": "raw"} for name in (
    "name", "state", "owner", "reason", "force", "uri", "state_dir", "guests", "timeout_s")})
told = pathlib.Path(module.params["state_dir"]) / "told.json"
before = json.loads(told.read_text()) if told.exists() else []
told.write_text(json.dumps([*before, module.params["state"]]))
"""
#: A host that is never empty.
MAINTENANCE = (
    ARGUMENTS
    + """
if module.params["state"] == "maintenance":
    module.fail_json(msg="b cannot go into maintenance: web1 still runs there.")
module.exit_json(maintenance={"state": module.params["state"]}, previous={"state": "active"})
"""
)
POWER = (
    ARGUMENTS
    + """
module.exit_json(changed=True, guests=["gpu1"], shutting_down=[])
"""
)
WEAK = (
    ARGUMENTS
    + """
if module.params["state"] == "running":
    why = {"code": "not_started"}
    module.fail_json(msg="b could not start gpu1 (no memory).", refusal=why, guests=[], shutting_down=[])
module.exit_json(changed=True, guests=["gpu1"], shutting_down=[])
"""
)
#: It does not heed the button in time, and has not when the others are started.
LATE = (
    ARGUMENTS
    + f"""
if module.params["state"] == "running":
    module.exit_json(changed=False, guests=[], shutting_down=[])
module.fail_json(msg="gpu1 did not shut down within 180 s.", guests=["gpu1"], shutting_down=[{GPU1}])
"""
)
#: It goes off before the others are started.
JUST_LATE = LATE.replace("changed=False, guests=[]", "changed=True, guests=['gpu1']")
#: The connection is lost while it is asked.
LOST = LATE.replace(f', guests=["gpu1"], shutting_down=[{GPU1}]', "")
MAY_STILL = "its guests keep running, but gpu1 may still shut down, as it was asked to, and is started by the next run"
STILL_THERE = "b cannot go into maintenance: web1 still runs there. "


@pytest.mark.parametrize(
    ("power", "waiting", "why", "words"),
    [
        (POWER, [], STILL_THERE, "It stays cordoned, and its guests keep running. Repair that and run the same again"),
        (
            WEAK,
            [GPU1],
            STILL_THERE,
            "its guests keep running, but gpu1 could not be started again: b could not start gpu1 (no memory).",
        ),
        (LATE, [GPU1], "gpu1 did not shut down within 180 s. ", MAY_STILL),
        (JUST_LATE, [], "gpu1 did not shut down within 180 s. ", "its guests keep running. Repair that"),
        (LOST, [GPU1], "gpu1 did not shut down within 180 s. ", MAY_STILL),
    ],
    ids=["started", "not started", "late", "just late", "lost"],
)
def test_a_guest_that_was_shut_down_for_nothing_is_started_again_on_whichever_host(hosts, power, waiting, why, words):
    hosts.pretend("host_maintenance", MAINTENANCE)
    hosts.pretend("guest_power", power)

    outcome = hosts.play(*EMPTY, **WAVE, rolling_upgrade_report_dir=str(hosts.folder))

    assert outcome.status == 2, outcome.text
    assert hosts.kept("told.json") == {"b": ["cordoned", "shut_down", "maintenance", "running"]}, outcome.text
    assert hosts.kept("upgrade.json")["b"]["stopped"] == waiting
    assert f"b could not be emptied, and was not upgraded: {why}" in outcome.words, outcome.text
    assert words in outcome.words, outcome.text


def test_a_host_that_was_closed_is_opened_again_when_it_cannot_be_recorded(hosts):
    hosts.pretend("host_maintenance", MAINTENANCE)
    (hosts.folder / "b/upgrade.json").mkdir(parents=True)

    outcome = hosts.play(*EMPTY, **WAVE)

    assert outcome.status == 2, outcome.text
    assert hosts.kept("told.json") == {"b": ["cordoned", "active"]}, outcome.text
    assert "b was not emptied, and no guest was moved away from it: b could not be closed for guests:" in outcome.words


@pytest.mark.parametrize(
    ("play", "fences", "silent"),
    [("a,b,c", ("a", "b", "c", "d"), "d"), ("all", ("a", "b", "c"), "gone")],
    ids=["since this run took it", "from the start"],
)
def test_a_guest_is_not_started_while_another_host_may_run_it(hosts, play, fences, silent):
    hosts.pretend("guest_power", POWER)
    run = {**WAVE, "__run_fences": dict.fromkeys(fences, 1)}
    begun = {"record": {"stopped": [GPU1]}}
    tell = {"name": "Tell", "ansible.builtin.debug": {"msg": "{{ hostvars.b.__rolling_upgrade_unstarted }}"}}

    start = part("rolling_upgrade", "wave/start")
    outcome = hosts.play(start, tell, hosts=play, **run, __rolling_upgrade_recorded_begun=begun)

    assert outcome.status == 0, outcome.text
    assert f"gpu1 could not be started again: they may run on {silent}, which does not answer" in outcome.words
    assert hosts.kept("told.json") == {}
    assert hosts.kept("upgrade.json") == {}


@pytest.mark.parametrize(
    ("fences", "answering", "silent"),
    [
        (("a", "b", "c"), ("a", "b", "c"), []),
        (("a", "b", "c"), ("a", "b"), ["c"]),
        # It has never answered, so this run has no lease of it.
        (("a", "b"), ("a", "b"), ["c"]),
        ((), (), ["a", "b", "c"]),
    ],
)
def test_a_host_that_has_never_answered_counts_as_silent(fences, answering, silent):
    text = (CHECKOUT / "roles/rolling_upgrade/vars/main.yml").read_text("utf-8")
    known = {
        "ansible_play_hosts_all": ["a", "b", "c"],
        "__run_fences": dict.fromkeys(fences, 1),
        "__run_view": {"snapshots": {host: {} for host in answering}},
    }
    templar = Templar(DataLoader(), variables=known)
    assert templar.template(trust_as_template(yaml.safe_load(text)["__rolling_upgrade_unheard"])) == silent
