# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two upgrades never meet on a host, also those of one owner, and a dead one is taken over by its name."""

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.tests.unit.builders import snapshot

from .conftest import part
from .test_wave import ARGUMENTS, PLAN

SEEN = {host: snapshot(host) for host in ("a", "b", "c")}
HOST_INFO = f"""
import json

from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({{name: {{"type": "raw"}} for name in ("name", "uri", "state_dir", "cpu_sample_s")}})
module.exit_json(snapshot=json.loads({json.dumps(SEEN)!r})[module.params["name"]])
"""
PATHS = """
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({name: {"type": "raw"} for name in (
    "name", "uri", "destinations", "encryption", "timeout_s")})
module.exit_json(paths=[])
"""
#: A host to which a guest came after it had been emptied.
FULL = (
    ARGUMENTS
    + """
if module.params["state"] == "maintenance":
    module.fail_json(msg="b cannot go into maintenance: web1 still runs there.", refusal={"code": "guests_running"})
module.exit_json(maintenance={"state": module.params["state"]})
"""
)
EMPTY = (
    ARGUMENTS
    + """
module.exit_json(maintenance={"state": module.params["state"]}, previous={"state": "active"})
"""
)
WELL = """
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({name: {"type": "raw"} for name in ("name", "uri", "state_dir", "expected")})
module.exit_json(health={})
"""
ALICE = {"owner": "alice", "run": "rolling_upgrade-1"}
NOTED = """
- name: Note what was done
  ansible.builtin.copy:
    content: "{{ ansible_facts.pkg_mgr | default('') | to_json }}"
    dest: "{{ kvmops_cluster_state_dir }}/NAME.json"
    mode: "0644"
"""


def lease(**arguments):
    """A task that takes every host, or gives it back."""
    names = {"name": "{{ inventory_hostname }}", "state_dir": "{{ kvmops_cluster_state_dir }}"}
    return {"name": "Lease", "kvmops.cluster.host_lease": {**ALICE, **names, **arguments}, "register": "leased"}


def keep_fences(hosts):
    """A task after which this run has what it took."""
    fences = {host: f"{{{{ hostvars.{host}.leased.fence | int }}}}" for host in hosts}
    return {"name": "Keep the numbers", "ansible.builtin.set_fact": {"__run_fences": fences}}


def holders(hosts):
    return {host: kept["run"] for host, kept in hosts.kept("lease.json").items()}


# ---- who has the hosts -----------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(hosts):
    """Hosts of which one has a record that nobody can read: no upgrade goes further than that."""
    hosts.pretend("host_info", HOST_INFO)
    (hosts.folder / "a").mkdir()
    (hosts.folder / "a/upgrade.json").write_text("garbage", encoding="utf-8")
    return hosts


def test_the_second_of_two_upgrades_by_one_owner_is_refused_and_told_how_to_go_on_if_the_first_is_dead(cluster):
    upgrade = part("rolling_upgrade", "main")
    (cluster.folder / "note.yml").write_text(NOTED.replace("NAME", "let_go_on"), encoding="utf-8")

    outcome = cluster.play(
        lease(purpose="tonight's"), upgrade, rolling_upgrade_owner="alice", rolling_upgrade_resume_tasks="note.yml"
    )

    since = cluster.kept("lease.json")["a"]["since"]
    assert outcome.status == 2, outcome.text
    assert f"a is taken by alice for run rolling_upgrade-1 (tonight's) since {since}, until" in outcome.words
    dead = "If it is dead, because it was interrupted or its controller was killed, take its hosts over"
    assert f"or ask alice. {dead}" in outcome.words
    assert "-e rolling_upgrade_take_over=rolling_upgrade-1" in outcome.words, outcome.text
    assert holders(cluster) == dict.fromkeys("abc", "rolling_upgrade-1")
    assert cluster.kept("let_go_on.json") == {}


def test_the_hosts_of_a_dead_upgrade_are_taken_over_by_its_name(cluster):
    upgrade = part("rolling_upgrade", "main")

    outcome = cluster.play(
        lease(), upgrade, rolling_upgrade_owner="alice", rolling_upgrade_take_over="rolling_upgrade-0,rolling_upgrade-1"
    )

    assert "could not be taken" not in outcome.words, outcome.text
    assert "upgrade.json of a rolling upgrade cannot be read" in outcome.words, outcome.text
    assert holders(cluster) == dict.fromkeys("abc")


def test_two_upgrades_have_different_names(cluster):
    upgrade = part("rolling_upgrade", "main")
    tell = {"name": "Tell", "ansible.builtin.debug": {"msg": "name {{ __rolling_upgrade_holder }} of it"}}
    tried = {"name": "Try", "block": [upgrade], "rescue": [tell]}

    outcome = cluster.play(tried, tried, hosts="a,b", rolling_upgrade_owner="alice")

    told = {line.split("name ")[1] for line in outcome.text.splitlines() if "name rolling_upgrade-" in line}
    assert len(told) == 2, outcome.text


# ---- immediately before the packages and the reboot ------------------------------------------------------------------


def upgrade_one(hosts, *before, **variables):
    """Upgrade host b with tasks that leave a note, and tell what the role then thinks of it."""
    (hosts.folder / "upgrade.yml").write_text(NOTED.replace("NAME", "upgraded"), encoding="utf-8")
    (hosts.folder / "post.yml").write_text(NOTED.replace("NAME", "after"), encoding="utf-8")
    hosts.pretend("host_health_info", WELL)
    tell = {"name": "Tell", "ansible.builtin.debug": {"msg": "{{ __rolling_upgrade_said | default('it is well') }}"}}
    told = {
        "__run_lease_owner": "alice",
        "__run_lease_run": "rolling_upgrade-1",
        "__rolling_upgrade_number": 1,
        "__rolling_upgrade_planned": {"waves": []},
        "__rolling_upgrade_recorded_begun": {"record": {}},
        "rolling_upgrade_owner": "alice",
        "rolling_upgrade_reboot": "never",
        "rolling_upgrade_upgrade_tasks": str(hosts.folder / "upgrade.yml"),
        "rolling_upgrade_post_tasks": str(hosts.folder / "post.yml"),
    }
    tasks = [lease(), keep_fences("b"), *before, part("rolling_upgrade", "host"), tell]
    return hosts.play(*tasks, hosts="b", **{**told, **variables})


def test_an_empty_host_of_this_run_is_upgraded(hosts):
    hosts.pretend("host_maintenance", EMPTY)

    outcome = upgrade_one(hosts)

    assert "it is well" in outcome.words, outcome.text
    assert hosts.kept("upgraded.json")["b"], "nobody found the package manager"
    assert hosts.kept("lease.json")["b"]["ttl_s"] == 7200


def test_a_host_to_which_a_guest_has_come_is_not_upgraded(hosts):
    hosts.pretend("host_maintenance", FULL)

    outcome = upgrade_one(hosts)

    assert "b cannot go into maintenance: web1 still runs there." in outcome.words, outcome.text
    assert hosts.kept("upgraded.json") == {}
    assert hosts.kept("told.json") == {"b": ["maintenance"]}, "it was asked in vain"


def test_a_host_that_another_run_has_taken_is_not_upgraded(hosts):
    hosts.pretend("host_maintenance", EMPTY)

    outcome = upgrade_one(hosts, lease(run="rolling_upgrade-2", force=True))

    assert "is no longer valid: b was taken over by alice for run rolling_upgrade-2" in outcome.words, outcome.text
    assert hosts.kept("upgraded.json") == {}
    assert hosts.kept("told.json") == {}, "the host of another run was closed"


def test_a_host_to_which_a_guest_comes_during_the_upgrade_is_not_rebooted(hosts):
    hosts.pretend("host_maintenance", FULL.replace('"maintenance":', '"maintenance" and before:'))

    outcome = upgrade_one(hosts, rolling_upgrade_reboot="always")

    assert list(hosts.kept("upgraded.json")) == ["b"], outcome.text
    assert "See that the host is closed and empty: b cannot go into maintenance: web1 still runs" in outcome.words
    assert hosts.kept("after.json") == {}
    assert hosts.kept("told.json") == {"b": ["maintenance", "maintenance"]}


# ---- what another run has meanwhile ----------------------------------------------------------------------------------


def test_a_host_that_another_run_has_taken_is_left_alone(hosts):
    hosts.pretend("host_info", HOST_INFO)
    hosts.pretend("migration_path_info", PATHS)
    hosts.pretend("host_maintenance", EMPTY)
    wave = {
        "__run_lease_owner": "alice",
        "__run_lease_run": "rolling_upgrade-1",
        "__run_report": {"report": {"guests": []}},
        "__rolling_upgrade_hosts": ["a", "b", "c"],
        "__rolling_upgrade_left": ["b", "c"],
        "__rolling_upgrade_moves": 0,
        "__rolling_upgrade_number": 1,
        "__rolling_upgrade_planned": {"waves": []},
        "__rolling_upgrade_recorded_begun": {"record": {"stopped": [{"name": "gpu1", "uuid": "u1"}]}},
        "__rolling_upgrade_run": "r1",
        "__rolling_upgrade_wave": {"hosts": ["b"], "plan": PLAN},
        "__rolling_upgrade_well": 1,
        "rolling_upgrade_owner": "alice",
    }
    theirs = {**lease(run="rolling_upgrade-2", force=True), "when": "inventory_hostname == 'b'", "register": "other"}

    outcome = hosts.play(lease(), keep_fences("abc"), theirs, part("rolling_upgrade", "wave/open"), **wave)

    assert outcome.status == 2, outcome.text
    assert "b was not upgraded: the lease with fencing number" in outcome.words, outcome.text
    assert "b is left as it is, because another run has it, and the run stops here" in outcome.words
    assert (hosts.kept("told.json"), hosts.kept("upgrade.json")) == ({}, {})
