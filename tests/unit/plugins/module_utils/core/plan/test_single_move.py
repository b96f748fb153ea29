# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import single_move
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.tests.unit.builders import uuid_of

HOSTS = {
    "h1": {"host_uuid": uuid_of("host h1"), "connect_uri": None, "migration_address": None},
    "h2": {"host_uuid": uuid_of("host h2"), "connect_uri": "qemu+ssh://root@h2/system", "migration_address": None},
}


def step(name="web1", destination="h2"):
    guest = {"name": name, "uuid": uuid_of(name)}
    return single_move.step_of(guest, "h1", destination, 1 << 29, intent.DEFAULTS)


def plan(made):
    return single_move.plan_of(made, HOSTS, "2026-11-24T02:00:00Z", "3f9a")


def test_it_is_a_plan():
    made = plan(step())
    assert made["id"] == "migrate-web1-20261124T020000Z-3f9a"
    assert read_plan(made)["steps"] == [step()]


def test_the_same_move_is_known_by_guest_and_hosts():
    made = plan(step())
    assert single_move.is_same_move(made, step())
    assert not single_move.is_same_move(made, step("web2"))
    assert not single_move.is_same_move(made, step(destination="h3"))
    assert not single_move.is_same_move({**made, "goal": {"kind": "drain", "hosts": ["h1"]}}, step())
    assert not single_move.is_same_move({**made, "steps": made["steps"] * 2}, step())


@pytest.mark.parametrize("key", ["goal", "steps"])
def test_a_record_that_is_not_whole_is_no_such_move(key):
    made = plan(step())
    for damage in (None, [], {}, ["x"], [{"guest": None}]):
        damaged = copy.deepcopy(made)
        damaged[key] = damage
        assert not single_move.is_same_move(damaged, step())
    assert not single_move.is_same_move(None, step())
