# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bench of the controller, without Ansible."""

from __future__ import annotations

import json

from bench.benches import controller
from bench.inputs import clusters


def test_each_host_has_its_own_files(tmp_path, monkeypatch):
    monkeypatch.setattr(controller, "SHAPE", clusters.Shape(hosts=3, guests=12))
    inventory = json.loads(controller._hosts(tmp_path).read_text(encoding="utf-8"))
    hosts = inventory["all"]["hosts"]
    assert sorted(hosts) == ["h0001", "h0002", "h0003"]
    seen = 0
    for name, variables in hosts.items():
        folder = tmp_path / "hosts" / name
        assert variables == {"kvmops_cluster_state_dir": str(folder)}
        snapshot, measured = (
            json.loads((folder / file).read_text(encoding="utf-8")) for file in ("snapshot.json", "working_sets.json")
        )
        assert snapshot["host"] == name
        assert [one["uuid"] for one in snapshot["domains"]] == [one["guest"]["uuid"] for one in measured]
        seen += len(measured)
    assert seen == 12


def test_the_collection_is_the_real_one_but_for_who_would_ask_a_hypervisor(tmp_path):
    controller._collection(tmp_path)
    modules = tmp_path / "ansible_collections" / "kvmops" / "cluster" / "plugins" / "modules"
    stood_in = {path.name for path in modules.iterdir() if path.resolve().parent == controller.STAND_INS}
    assert stood_in == {"host_info.py", "migration_path_info.py", "plan_apply.py", "working_set_info.py"}
    assert (modules / "run_info.py").resolve() == controller.CHECKOUT / "plugins" / "modules" / "run_info.py"
    assert (modules.parent / "action" / "migration_plan.py").exists()


def test_long_tasks_are_told_one_by_one():
    tasks = [{"task": "ask", "seconds": 30.0}, {"task": "plan", "seconds": 40.0}, {"task": "say", "seconds": 0.5}]
    found = {
        "hosts": 200, "guests": 4000, "forks": 20, "seconds": 72.0, "tasks": tasks,
        "snapshot_bytes": 4 * 1024**2, "working_set_bytes": 1024**2,
    }  # fmt: skip
    assert controller.lines(found)[1:] == [
        "rebalance --check, 200 hosts, 4000 measured guests: 72.0 s",
        "  4.0 MiB of snapshots, 1.0 MiB of working sets, 20 forks",
        "",
        "     40.0  plan",
        "     30.0  ask",
        "      0.5  1 shorter tasks",
        "      1.5  start and end of ansible-playbook",
    ]
