# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A misspelt option is refused before anything else, as ansible-core keeps variables."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from .conftest import part

ROOT = Path(__file__).parents[3]
#: What a rolling upgrade does as preflight counts as well, long before it is done.
ALONE = (
    "distribute",
    "drain_host",
    "evacuate",
    "evacuate_site",
    "move_capsule",
    "observe",
    "preflight",
    "prune_capsules",
    "rebalance",
    "recover",
    "restore_host",
    "secure_hosts",
    "seed",
)
CHECKED = {role: [role] for role in ALONE} | {"rolling_upgrade": ["rolling_upgrade", "preflight"]}


@pytest.mark.parametrize("role", sorted(path.parents[1].name for path in ROOT.glob("roles/*/defaults/main.yml")))
def test_every_role_checks_its_variables_first(role):
    first = yaml.safe_load((ROOT / f"roles/{role}/tasks/main.yml").read_text(encoding="utf-8"))[0]

    assert first["ansible.builtin.import_role"] == {"name": "kvmops.cluster.run", "tasks_from": "variables"}
    assert first["vars"] == {"__run_variables_of": CHECKED[role]}


def test_the_playbook_without_a_role_does_too():
    first = yaml.safe_load((ROOT / "playbooks/measure.yml").read_text(encoding="utf-8"))[0]["tasks"][0]

    assert first["vars"] == {"__run_variables_of": ["measure"]}


def test_each_source_of_variables_is_looked_at_and_results_are_not(hosts):
    folder = hosts.folder
    for place, name in (("group_vars/all", "kvmops_cluster_stat_dir"), ("host_vars/b", "drain_host_windw")):
        (folder / f"{place}.yml").parent.mkdir()
        (folder / f"{place}.yml").write_text(f"{name}: 2\n", encoding="utf-8")
    mine = [
        {"name": "Register", "ansible.builtin.command": "true", "register": "drain_host_done"},
        {"name": "Note", "ansible.builtin.set_fact": {"drain_host_noted": True}},
    ]

    outcome = hosts.play(
        *mine,
        part("drain_host", "main", drain_host_name="a"),
        words=("--check", "-e", "drain_host_max_downtime_ms=3"),
        drain_host_resaon="because",
        drain_host_ticket_id=7,
        kvmops_cluster_other_variables=["drain_host_ticket_*"],
    )

    assert outcome.status == 2, outcome.text
    assert (
        "drain_host_max_downtime_ms is not an option of drain_host;"
        " did you mean -e '{drain_host_intent: {max_downtime_ms: 3}}'?"
        " drain_host_resaon is not an option of drain_host; did you mean drain_host_reason?"
        " drain_host_windw (b) is not an option of drain_host; did you mean drain_host_window?"
        " kvmops_cluster_stat_dir is not a variable of kvmops.cluster; did you mean kvmops_cluster_state_dir?"
        " Nothing was looked at or changed."
    ) in outcome.words, outcome.text
