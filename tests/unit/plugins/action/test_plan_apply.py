# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from unittest import mock

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.template import Templar

from ansible_collections.kvmops.cluster.plugins.action.plan_apply import ActionModule
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    cluster,
    domain,
    plan_document,
    record,
    snapshot,
    uuid_of,
)

INVENTORY = {
    "h1": {"kvmops_cluster_migration_address": "198.18.0.11"},
    "h2": {},
    "h3": {"kvmops_cluster_connect_uri": "qemu+tls://h3/system"},
}


def hosts():
    return cluster(snapshot("h1", domain("web1"), domain("web2")), snapshot("h2"), snapshot("h3"))


def apply(**arguments):
    """Run the action's check; what reaches the host is the second value, None where nothing does."""
    task = Task.load({"action": "kvmops.cluster.plan_apply", "args": arguments})
    task.check_mode, task.diff, task.async_val, task.args = True, False, 0, arguments
    action = ActionModule(
        task=task,
        connection=mock.Mock(spec=["_shell"], _shell=mock.Mock(spec=["tmpdir"], tmpdir="/nowhere")),
        play_context=mock.Mock(check_mode=True),
        loader=DataLoader(),
        templar=mock.Mock(spec=Templar),
        shared_loader_obj=mock.Mock(),
    )
    reached = []

    def execute(module_args, **dummy):
        reached.append(module_args)
        return {"changed": False, "results": []}

    with mock.patch.object(action, "_execute_module", execute):
        result = action.run(
            task_vars={"inventory_hostname": "h1", "hostvars": INVENTORY, "ansible_play_hosts_all": ["h1"]}
        )
    return result, next(iter(reached), None)


def changed(*edits):
    seen = hosts()
    plan = plan_document(seen)
    for edit in edits:
        edit(seen)
    return apply(plan=plan, snapshots=seen)


def test_a_plan_that_still_fits_goes_to_the_host_without_the_snapshots():
    result, reached = changed()
    assert not result.get("failed")
    assert reached["name"] == "h1"
    assert "snapshots" not in reached
    _result, reached = apply(plan=plan_document(hosts()))
    assert reached is not None, "without snapshots nothing is looked at"


def test_a_guest_that_is_where_it_should_be_is_no_change():
    plan = plan_document(hosts())
    done = {step["guest"]["name"]: step["destination"] for step in plan["steps"]}
    seen = cluster(snapshot("h1"), *(snapshot(host, domain(name)) for name, host in done.items()))
    result, reached = apply(plan=plan, snapshots=list(seen.values()))
    assert not result.get("failed")
    assert reached is not None


def test_the_operator_reads_what_changed_and_nothing_starts():
    def elsewhere(seen):
        seen["h1"]["domains"].pop(0)

    def stuck(seen):
        blocker = {"code": "snapshots", "reason": "it has snapshots", "remedy": "delete them"}
        seen["h1"]["domains"][-1]["blockers"] = [blocker]

    def closed(seen):
        seen["h3"]["maintenance"] = record("cordoned", owner="bob")

    result, reached = changed(stuck, elsewhere, closed)
    assert reached is None
    assert result["msg"] == (
        "The cluster is not as it was when plan drain-h1-20261124T020000Z-3f9a was made, so no guest was moved: "
        "h3 is cordoned (bob) (open h3 again (host_maintenance with state: active), or choose another host); "
        "web1 is no longer on h1: no host in the snapshots has it; "
        "web2 cannot leave h1 any more: it has snapshots (delete them). Make a new plan."
    )
    assert [one["code"] for one in result["changes"]] == ["cordoned", "guest_gone", "snapshots"]
    assert (result["failed"], result["results"], result["run"]["attached"]) == (True, [], False)


def test_a_saved_plan_is_held_against_the_cluster_too(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan_document(hosts())))
    seen = hosts()
    seen["h1"]["domains"].append(domain("new"))
    result, reached = apply(plan_path=str(file), snapshots=seen)
    assert (reached, [one["code"] for one in result["changes"]]) == (None, ["guest_came"])


def test_a_destination_that_died_is_named_once():
    def dies(seen):
        del seen["h2"], seen["h3"]

    result, _reached = changed(dies)
    assert [one["code"] for one in result["changes"]] == ["host_silent", "host_silent"]
    assert "h2 does not answer, and web" in result["msg"]
    assert "(look at that host, then make a new plan)" in result["msg"]


def test_other_machines_are_refused():
    def reinstalled(seen):
        seen["h2"]["host_uuid"] = uuid_of("new")

    with pytest.raises(AnsibleError, match=r"The plan cannot be used: h2 is not the host that plan .* make a new plan"):
        changed(reinstalled)


def test_a_guest_of_its_keep_apart_group_has_come():
    seen = cluster(snapshot("h1", domain("web1", apart="web")), snapshot("h2"))
    plan = plan_document(seen)
    seen["h2"]["domains"].append(domain("web9", apart="web"))
    result, _reached = apply(plan=plan, snapshots=seen)
    assert "h2 runs web9 now, from which web1 is kept apart (group web)" in result["msg"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"plan": {"schema": "kvmops.report/1"}, "snapshots": []}, "this is not a plan but a kvmops.report/1"),
        ({"plan": plan_document(hosts()), "snapshots": [{}]}, r"snapshots\[0\] is not a snapshot"),
        ({"plan": plan_document(hosts()), "snapshots": "h1"}, "snapshots must be a list of snapshots"),
    ],
)
def test_what_is_neither_a_plan_nor_snapshots(arguments, text):
    with pytest.raises(AnsibleError, match=text):
        apply(**arguments)


def test_an_address_that_the_inventory_does_not_have_reaches_no_host():
    plan = plan_document(hosts())
    plan["hosts"]["h2"]["connect_uri"] = "qemu+ssh://root@h9/system"
    why = r"The plan cannot be used: .* the connect URI of h2 is 'qemu\+ssh://root@h9/system' in the plan and "
    with pytest.raises(AnsibleError, match=why + r"'qemu\+ssh://root@h2/system' in the inventory"):
        apply(plan=plan)


def test_hosts_of_the_plan_are_known_also_in_a_play_without_them():
    _result, reached = apply(plan=plan_document(hosts()))
    assert sorted(reached["connect"]) == ["h1", "h2", "h3"]
    assert reached["plan"]["hosts"]["h1"]["connect_uri"] == "qemu+ssh://root@h1/system"


def test_a_program_in_an_address_reaches_no_host_whatever_the_inventory_says():
    plan = plan_document(hosts())
    plan["hosts"]["h2"]["connect_uri"] = "qemu+ext:///system?command=/tmp/x"
    with pytest.raises(AnsibleError, match=r"connect_uri is refused: .* has the scheme 'qemu\+ext'"):
        apply(plan=plan, connect={"h2": {"connect_uri": "qemu+ext:///system?command=/tmp/x"}})


def test_a_plan_may_permit_no_more_than_the_task():
    plan = plan_document(hosts())
    plan["steps"][1]["intent"].update(encryption="off", allow_postcopy=True)
    apply(plan=plan)
    why = r"step s002 \(web2\) permits more than this run does: allow_postcopy=true \(the run: false\), "
    with pytest.raises(AnsibleError, match=why + r"encryption=off \(the run: required\)"):
        apply(plan=plan, intent={"max_downtime_ms": 200})


def test_a_file_that_was_not_reviewed_is_refused(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan_document(hosts())), encoding="utf-8")
    with pytest.raises(AnsibleError, match=r"its SHA-256 is [0-9a-f]{64}, and the plan that was asked for has 00"):
        apply(plan_path=str(file), sha256="00" * 32)
