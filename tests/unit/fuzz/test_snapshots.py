# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A saved cluster is refused, or planned; a saved snapshot is refused, or becomes an inventory."""

from __future__ import annotations

import datetime
import json

import pytest

from ansible_collections.kvmops.cluster.plugins.action.migration_plan import ActionModule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import IntentError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import saved_cluster, saved_snapshots
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.entries import clones, entries, strays, unread
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning import planner
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_table import plan_lines
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    cluster,
    disk,
    domain,
    path,
    resources,
    snapshot,
    working_set,
)
from ansible_collections.kvmops.cluster.tests.unit.fuzz.generated import byte_mutations, fuzzed, mutated
from ansible_collections.kvmops.cluster.tests.unit.plugins.test_what_people_see import seen

NOW = datetime.datetime(2026, 11, 24, 2, tzinfo=datetime.UTC)
PARTS = [{"bytes": 1 << 29, "page_bytes": 2 << 20, "host_cells": [0]}]
LOCAL = disk(
    "vdb", shared=False, shared_why="ext4", source="/var/lib/x.qcow2", data_bytes=5, layers=[], servers=["nas"]
)
POOL = {
    "name": "images",
    "type": "dir",
    "path": "/var/lib",
    "active": True,
    "capacity_bytes": 1 << 40,
    "available_bytes": 1 << 39,
    "volumes": ["a"],
}
GUESTS = (
    domain("web1", apart="web", home="h2", memory_parts=PARTS, limits=None, cpus_used=0.5, tpm=False, requires=[]),
    domain("db1", disks=[disk(), LOCAL], intent={"allow_shutdown": True}, requires=[{"kind": "bridge", "name": "br0"}]),
    domain("off", state="shutoff"),
)
MORE = {"resources": resources(), "storage_pools": [POOL], "left_copies": [{"uuid": "u", "path": "/x"}]}
MORE["begun_copies"] = [{"uuid": "u", "destination": "h2", "path": "/x"}]
HOSTS = cluster(snapshot("h1", *GUESTS, **MORE), snapshot("h2", domain("web2", apart="web"), **MORE), snapshot("h3"))
CLUSTER = {
    "schema": saved_cluster.CLUSTER,
    "snapshots": HOSTS,
    "paths": [path("h1", "h2"), path("h2", "h1")],
    "connect": {"h1": {"connect_uri": "qemu+ssh://root@h1/system", "bandwidth_mib_s": 100}, "h2": {}},
    "working_sets": [working_set(GUESTS[0])],
    "calibration": {"paths": {}, "guests": {}},
}
ASKED = {option: spec.get("default") for option, spec in ActionModule.ARGUMENTS.items()}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("saved") / "cluster.json"


def plan(file, data, goal):
    file.write_bytes(data)
    asked = {**ASKED, "goal": goal, "hosts": [] if goal == "rebalance" else ["h1"], "solver": "none"}
    if goal == "drain":
        asked["intent"] = {"allow_storage_copy": True, "encryption": "off"}
    try:
        asked.update(saved_cluster.read(file))
        made = planner.make_plan(asked, now=NOW, nonce="abcd")
    except (PlanError, IntentError):
        return False
    seen(plan_lines(made.plan))
    return True


def test_the_cluster_itself_is_planned(file):
    for goal in ("drain", "evacuate", "rebalance", "restore", "upgrade"):
        assert plan(file, json.dumps(CLUSTER).encode(), goal)


@pytest.mark.parametrize("goal", ["drain", "rebalance", "upgrade"])
def test_a_cluster_with_other_parts(file, goal):
    @fuzzed(mutated([CLUSTER]))
    def check(document):
        plan(file, json.dumps(document).encode(), goal)

    check()


def test_a_cluster_with_other_bytes(file):
    for data in byte_mutations(json.dumps(CLUSTER).encode(), "cluster"):
        plan(file, data, "drain")


def list_hosts(file, data):
    file.write_bytes(data)
    try:
        found = saved_snapshots.read(file)
    except saved_snapshots.SavedError:
        return
    clones(found)
    strays(found)
    unread(found)
    entries(found, guests=True)


def test_snapshots_with_other_parts(file):
    @fuzzed(mutated([HOSTS, list(HOSTS.values()), HOSTS["h1"]]))
    def check(document):
        list_hosts(file, json.dumps(document).encode())

    check()


def test_snapshots_with_other_bytes(file):
    for data in byte_mutations(json.dumps(HOSTS["h1"]).encode(), "snapshot"):
        list_hosts(file, data)
