# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""secure_hosts restarts libvirtd, so it waits for guests that move and for other runs."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from harness.ansible import CHECKOUT

from .conftest import part

HOST_INFO = """
import json
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"name": {}, "uri": {}, "state_dir": {}}, supports_check_mode=True)
answer = json.loads(%r)
module.fail_json(**answer) if "msg" in answer else module.exit_json(**answer)
"""
VARIABLES = yaml.safe_load((Path(CHECKOUT) / "roles/secure_hosts/vars/main.yml").read_text(encoding="utf-8"))
QUIET = {"name": "quiet", "state": "running", "state_reason": "migrated", "job": None}


def ask(hosts, answer, *before):
    hosts.pretend("host_info", HOST_INFO % json.dumps(answer))
    check = {
        "name": "Ask",
        "ansible.builtin.include_tasks": f"{CHECKOUT}/roles/secure_hosts/tasks/busy.yml",
        "vars": {name: VARIABLES[name] for name in VARIABLES if "busy" in name or name in PARTS},
    }
    return hosts.play(*before, check, hosts="a")


PARTS = (
    "__secure_hosts_state_dir",
    "__secure_hosts_jobs",
    "__secure_hosts_paused",
    "__secure_hosts_split",
    "__secure_hosts_moving",
)


def snapshot(*guests):
    return {"snapshot": {"domains": [QUIET, *guests]}}


def test_where_nobody_is_at_work_it_goes_on(hosts):
    outcome = ask(hosts, snapshot({"name": "off", "state": "shutoff", "state_reason": None, "job": None}))
    assert outcome.status == 0, outcome.text
    assert hosts.kept("lease.json") == {}


def test_guests_that_move_are_named(hosts):
    outcome = ask(
        hosts,
        snapshot(
            {"name": "leaving", "state": "running", "state_reason": "booted", "job": {"operation": "migration_out"}},
            {"name": "coming", "state": "paused", "state_reason": "migration", "job": None},
            {"name": "split", "state": "running", "state_reason": "postcopy_failed", "job": None},
        ),
    )
    assert outcome.status == 2, outcome.text
    assert (
        "coming, leaving, split on a are moving or busy, and libvirtd would be restarted meanwhile: wait for that"
        " (virsh domjobinfo GUEST); a move that broke off is finished with ansible-playbook kvmops.cluster.recover."
        " Nothing was changed."
    ) in outcome.words


def test_a_run_that_has_the_host_is_named(hosts):
    taken = part("run", "lease", __run_lease_hosts=["a"], __run_lease_owner="bob@admin2", __run_lease_run="drain-a")
    outcome = ask(hosts, snapshot(), taken)
    assert outcome.status == 2, outcome.text
    assert "a is taken by bob@admin2 for run drain-a" in outcome.words
    assert "wait for the end of that run. Nothing was changed." in outcome.words


def test_a_lease_that_cannot_be_read_is_told_with_its_own_remedy(hosts):
    (hosts.folder / "a").mkdir()
    (hosts.folder / "a/lease.json").write_text("{", encoding="utf-8")
    outcome = ask(hosts, snapshot())
    assert outcome.status == 2, outcome.text
    assert "lease.json" in outcome.words
    assert "force" in outcome.words
    assert "wait for the end of that run" not in outcome.words


def test_a_host_that_cannot_tell_is_left_alone(hosts):
    outcome = ask(hosts, {"msg": "no connection to qemu:///system: timed out"})
    assert outcome.status == 2, outcome.text
    assert "a cannot tell whether its guests move: no connection to qemu:///system: timed out" in outcome.words


def test_a_host_without_libvirts_binding_has_no_guest_that_moves(hosts):
    outcome = ask(hosts, {"msg": "Failed to import the required Python library (libvirt, package python3-libvirt)"})
    assert outcome.status == 0, outcome.text
