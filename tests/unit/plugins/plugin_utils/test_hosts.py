# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.plugin_utils import hosts
from ansible_collections.kvmops.cluster.tests.unit.builders import snapshot

SEEN = {
    "h1": {"seen": {"snapshot": snapshot("h1")}},
    "h2": {"seen": {"msg": "Task failed: no route\nto host", "unreachable": True}},
    "h3": {"seen": {"msg": "Failed to import the required Python library (libvirt)"}},
    "h4": {"seen": {"skipped": True}},
    "h5": {},
}


def test_only_hosts_that_ran_the_task_count():
    assert list(hosts.registered(SEEN, SEEN, "seen")) == ["h1", "h2", "h3"]


def test_hosts_without_a_snapshot_are_named_with_the_reason():
    results = hosts.registered(SEEN, SEEN, "seen")

    assert list(hosts.snapshots(results)) == ["h1"]
    assert hosts.absent(results) == [
        {"host": "h2", "reason": "it cannot be reached: no route to host"},
        {"host": "h3", "reason": "Failed to import the required Python library (libvirt)"},
    ]


def test_a_failure_without_a_word_still_reads():
    assert hosts.why({}) == "no reason was given"


def test_the_inventory_says_how_hosts_reach_each_other():
    variables = {
        "ansible_host": "192.0.2.1",
        "kvmops_cluster_connect_uri": "qemu+tls://h1/system",
        "kvmops_cluster_migration_address": "198.18.0.11",
    }

    assert hosts.connection("h1", variables) == {
        "connect_uri": "qemu+tls://h1/system",
        "migration_address": "198.18.0.11",
    }


def test_without_a_word_they_reach_each_other_as_the_controller_does():
    assert hosts.connection("h1", {})["connect_uri"] == "qemu+ssh://root@h1/system"
    assert hosts.connection("h1", {"ansible_host": "fd00::1"})["connect_uri"] == "qemu+ssh://root@[fd00::1]/system"


def test_cordoned_hosts_are_not_open():
    closed = snapshot("h2", maintenance={"state": "cordoned"})

    assert hosts.open_hosts({"h1": snapshot("h1"), "h2": closed}) == ["h1"]
