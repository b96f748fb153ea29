# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from unittest import mock

import pytest
from ansible.errors import AnsibleError
from ansible.playbook.task import Task
from ansible.template import Templar

from ansible_collections.kvmops.cluster.plugins.action.migration_plan import ARGUMENTS, ActionModule
from ansible_collections.kvmops.cluster.plugins.module_utils.core import plan as plans
from ansible_collections.kvmops.cluster.plugins.modules import migration_plan as module
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    cluster,
    domain,
    path,
    record,
    snapshot,
    uuid_of,
)


def run(check_mode=False, diff=False, **arguments):
    """Run the action; whatever it does beyond documents, to a connection for example, fails."""
    task = Task.load({"action": "kvmops.cluster.migration_plan", "args": arguments})
    task.check_mode, task.diff, task.async_val = check_mode, diff, 0
    task.args = arguments
    connection = mock.Mock(spec=["_shell"], _shell=mock.Mock(spec=["tmpdir"], tmpdir="/nowhere"))
    action = ActionModule(
        task=task,
        connection=connection,
        play_context=mock.Mock(check_mode=check_mode),
        loader=mock.Mock(),
        templar=mock.Mock(spec=Templar),
        shared_loader_obj=mock.Mock(),
    )
    return action.run(task_vars={})


def hosts():
    return [snapshot("h1", domain("web1"), domain("web2")), snapshot("h2"), snapshot("h3")]


def test_a_drain():
    connect = {"h2": {"connect_uri": "qemu+ssh://root@h2/system", "migration_address": "198.18.0.12"}}
    result = run(goal="drain", hosts=["h1"], snapshots=hosts(), connect=connect, intent={"deadline_s": "60"})
    assert result["changed"] is False
    assert plans.read(json.dumps(result["plan"])) == result["plan"]
    assert [step["destination"] for step in result["plan"]["steps"]] == ["h2", "h3"]
    assert result["plan"]["intent"] == {"deadline_s": 60}
    assert result["plan"]["hosts"]["h2"]["migration_address"] == "198.18.0.12"
    assert result["table"][0] == f"Plan {result['plan']['id']}: 2 guests (1 GiB) leave h1"
    assert result["blocked"] == []


def test_snapshots_by_host_and_check_mode_are_the_same():
    as_list = run(goal="drain", hosts=["h1"], snapshots=hosts())
    by_host = run(check_mode=True, goal="drain", hosts=["h1"], snapshots=cluster(*hosts()))
    assert by_host["plan"]["steps"] == as_list["plan"]["steps"]


def test_each_plan_has_an_id_of_its_own():
    ids = {run(goal="drain", hosts=["h1"], snapshots=hosts())["plan"]["id"] for _attempt in range(5)}
    assert len(ids) > 1


def test_a_way_home():
    seen = [snapshot("h1"), snapshot("h2", domain("web1", home="h1"), domain("web2"), domain("native"))]
    result = run(goal="restore", hosts=["h1"], snapshots=seen, left=[uuid_of("web2")])
    assert [step["guest"]["name"] for step in result["plan"]["steps"]] == ["web1", "web2"]


def test_excluded_guests_are_no_blocked_ones():
    seen = [snapshot("h1", *map(domain, AWKWARD_NAMES), domain("big", memory_bytes=500 * GIB)), snapshot("h2")]
    result = run(goal="drain", hosts=["h1"], snapshots=seen, exclude=list(AWKWARD_NAMES))
    assert sorted(stay["guest"]["name"] for stay in result["plan"]["stays"]) == sorted([*AWKWARD_NAMES, "big"])
    assert [stay["guest"]["name"] for stay in result["blocked"]] == ["big"]
    result = run(goal="drain", hosts=["h1"], snapshots=seen, exclude="domains[?contains(name, 'i')]")
    assert "big" not in [stay["guest"]["name"] for stay in result["blocked"]]


def test_a_broken_path_is_not_used():
    checks = [{"check": "ports", "ok": False, "code": "ports_filtered", "reason": "no answer", "remedy": "open them"}]
    result = run(goal="drain", hosts=["h1"], snapshots=hosts(), paths=[path("h1", "h2", ok=False, checks=checks)])
    assert [step["destination"] for step in result["plan"]["steps"]] == ["h3", "h3"]


def test_the_reserve():
    seen = [snapshot("h1", domain(memory_bytes=GIB)), snapshot("h2", free_bytes=int(1.2 * GIB))]
    assert run(goal="drain", hosts=["h1"], snapshots=seen)["plan"]["steps"] == []
    assert len(run(goal="drain", hosts=["h1"], snapshots=seen, reserve_mib=0)["plan"]["steps"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "msg"),
    [
        (
            {"hosts": ["h9"]},
            "unknown_host",
            (
                "there is no snapshot of h9, only of h1, h2, h3: "
                "check the name against the inventory, and that host_info ran there"
            ),
        ),
        (
            {"intent": {"max_downtime_ms": 0}},
            "intent",
            (
                "intent: max_downtime_ms must be a whole number from 1 to 2000000 (milliseconds), not 0: "
                "correct it; docs/contracts.md lists the words and what they take"
            ),
        ),
        ({"reserve_mib": -1}, "reserve", "reserve_mib is -1: give 0 or more"),
        (
            {"snapshots": "h1"},
            "not_a_snapshot",
            (
                "snapshots must be a list of snapshots, or a mapping of hosts to snapshots: "
                "give what host_info returned as snapshot on each host"
            ),
        ),
        (
            {"snapshots": snapshot("h1")},
            "not_a_snapshot",
            (
                "snapshots must be a list of snapshots, or a mapping of hosts to snapshots: "
                "give what host_info returned as snapshot on each host"
            ),
        ),
        (
            {"snapshots": [snapshot("h1", domain()), snapshot("h2", maintenance=record("cordoned"))]},
            "no_destination",
            (
                "no host is open to the guests of h1: h2 is cordoned: "
                "open one of them again (host_maintenance with state: active), or add a host to the inventory"
            ),
        ),
    ],
)
def test_failures_have_a_text_and_a_refusal(arguments, code, msg):
    result = run(**{"goal": "drain", "hosts": ["h1"], "snapshots": hosts(), **arguments})
    assert result["failed"] is True
    assert result["msg"] == msg
    assert result["refusal"]["code"] == code
    assert "plan" not in result


@pytest.mark.parametrize("arguments", [{"goal": "destroy"}, {"hosts": None}, {"snapshot": []}, {"reserve_mib": "many"}])
def test_arguments_are_checked(arguments):
    with pytest.raises(AnsibleError):
        run(**{"goal": "drain", "hosts": ["h1"], "snapshots": hosts(), **arguments})


def test_an_unknown_guest_is_not_passed_over():
    with pytest.raises(AnsibleError, match="exclude: there is no guest called 'web9' on h1, h2, h3"):
        run(goal="drain", hosts=["h1"], snapshots=hosts(), exclude=["web9"])


def test_the_plan_goes_into_a_file(tmp_path):
    dest = tmp_path / "größe plan.json"
    result = run(diff=True, goal="drain", hosts=["h1"], snapshots=hosts(), dest=str(dest))
    assert (result["changed"], result["dest"]) == (True, str(dest))
    assert plans.read(dest.read_text("utf-8")) == result["plan"]
    assert result["diff"]["before"] == ""
    assert result["diff"]["after"] == dest.read_text("utf-8")
    assert [file.name for file in tmp_path.iterdir()] == [dest.name], "nothing is left beside it"


def test_check_mode_writes_nothing(tmp_path):
    dest = tmp_path / "plan.json"
    dest.write_text("old\n")
    result = run(check_mode=True, diff=True, goal="drain", hosts=["h1"], snapshots=hosts(), dest=str(dest))
    assert result["changed"] is True
    assert result["diff"]["before"] == "old\n"
    assert dest.read_text() == "old\n"
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_place_where_no_file_can_be(tmp_path, check_mode):
    for dest, text in [
        (tmp_path / "none" / "p.json", f"dest: the directory {tmp_path}/none does not exist on the controller"),
        (tmp_path, f"dest: {tmp_path} is a directory: give the name of a file"),
    ]:
        with pytest.raises(AnsibleError, match=text):
            run(check_mode=check_mode, goal="drain", hosts=["h1"], snapshots=hosts(), dest=str(dest))


def test_the_module_takes_the_same_arguments_and_points_to_the_action():
    with mock.patch.object(module, "AnsibleModule") as ansible_module:
        module.main()
    assert ansible_module.call_args.kwargs["argument_spec"] == ARGUMENTS
    assert "as an action plugin" in ansible_module.return_value.fail_json.call_args.kwargs["msg"]
