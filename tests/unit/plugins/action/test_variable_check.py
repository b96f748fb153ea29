# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which variables of a play are looked at. What is told is in plugin_utils/play/test_variable_names.py."""

from __future__ import annotations

from unittest import mock

import pytest
import yaml
from ansible.playbook.task import Task
from ansible.template import Templar

from ansible_collections.kvmops.cluster.plugins.action import variable_check

ROLES = sorted(path.parents[1].name for path in variable_check.ROLES.glob("*/defaults/main.yml"))


class HostVars(dict):
    """As ansible-core's: what each host has, and behind it who knows where that is from."""

    def __init__(self, by_host, facts=None, extra=None):
        super().__init__(by_host)
        self._variable_manager = mock.Mock(extra_vars=extra or {}, _nonpersistent_fact_cache=facts or {})

    def __getitem__(self, host):
        pytest.fail("a template was evaluated")

    def raw_get(self, host):
        return dict.__getitem__(self, host)


def check(said=None, facts=None, extra=None, here=None, **arguments):
    """What the action says of these variables on h1, and of others on h2 and h3."""
    task = Task.load({"action": "kvmops.cluster.x", "args": {}})
    task.check_mode, task.diff, task.async_val, task.args = True, False, 0, {"roles": ["drain_host"], **arguments}
    action = variable_check.ActionModule(
        task=task,
        connection=mock.Mock(spec=["_shell"], _shell=mock.Mock(spec=["tmpdir"], tmpdir="/nowhere")),
        play_context=mock.Mock(check_mode=True),
        loader=mock.Mock(),
        templar=mock.Mock(spec=Templar),
        shared_loader_obj=mock.Mock(),
    )
    hosts = {host: {**(extra or {}), **(said or {}).get(host, {})} for host in ("h1", "h2", "h3")}
    variables = {"hostvars": HostVars(hosts, facts, extra), "ansible_play_hosts_all": list(hosts)}
    return action.run(task_vars={**variables, **hosts["h1"], **(here or {}), "inventory_hostname": "h1"})


@pytest.mark.parametrize("role", ROLES)
def test_a_role_knows_all_its_options(role):
    defaults = yaml.safe_load((variable_check.ROLES / role / "defaults/main.yml").read_text(encoding="utf-8"))

    assert check(here=dict.fromkeys(defaults), roles=[role]) == {"changed": False}


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"here": {"drain_host_nmae": 1}}, "drain_host_nmae is not an option"),
        ({"extra": {"drain_host_nmae": 1}}, "drain_host_nmae is not an option"),
        ({"said": {"h2": {"drain_host_nmae": 1}}}, "drain_host_nmae (h2) is not an option"),
        ({"said": {"h2": {"kvmops_cluster_ur": 1}, "h3": {"kvmops_cluster_ur": 1}}}, "kvmops_cluster_ur (h2, h3) is"),
        (
            {"said": {host: {"kvmops_cluster_ur": 1} for host in ("h1", "h2", "h3")}},
            "kvmops_cluster_ur is not a variable",
        ),
    ],
    ids=["play", "extra", "one host", "two hosts", "all hosts"],
)
def test_misspelt_wherever_it_is(where, told):
    result = check(**where)

    assert result["failed"] is True
    assert result["msg"].startswith(told)


@pytest.mark.parametrize(
    "found",
    [
        {"facts": {"h1": {"drain_host_done": 1}}, "here": {"drain_host_done": 1}},
        {"facts": {"h2": {"drain_host_done": 1}}, "said": {"h2": {"drain_host_done": 1}}},
        {"said": {"h2": {"drain_host_done": 1, "ansible_facts": {"drain_host_done": 1}}}},
    ],
    ids=["registered here", "registered there", "gathered"],
)
def test_facts_and_results_have_any_name(found):
    assert check(**found) == {"changed": False}


def test_what_is_said_on_the_command_line_counts_even_if_a_fact_has_the_name():
    facts = {"h1": {"drain_host_nmae": 2}}

    assert check(extra={"drain_host_nmae": 1}, facts=facts)["msg"].startswith("drain_host_nmae is not an option")


def test_variables_of_other_roles_and_of_others_are_not_ours():
    variables = {"preflight_disks_s": 1, "restore_host_nmae": 1, "drain_host_ticket": 1, "run_nightly": 1}
    names = {"ansible_role_names": ["acme.infra.preflight_disks", "kvmops.cluster.drain_host"]}
    mine = {"roles": ["drain_host", "preflight"], "others": ["drain_host_tick*"]}

    assert check(here={**variables, **names}, **mine) == {"changed": False}


def test_only_the_hosts_that_are_asked_for_count():
    assert check(said={"h2": {"kvmops_cluster_ur": 1}}, hosts=["h1", "h3"]) == {"changed": False}
