# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, snapshot, working_set

SEEN = {
    "h1": {"seen": {"snapshot": snapshot("h1")}},
    "h2": {"seen": {"msg": "Task failed: no route\nto host", "unreachable": True}},
    "h3": {"seen": {"msg": "Failed to import the required Python library (libvirt)"}},
    "h4": {"seen": {"skipped": True}},
    "h5": {},
}


def test_only_hosts_that_ran_the_task_count():
    assert list(registered_results.results_of(SEEN, SEEN, "seen")) == ["h1", "h2", "h3"]


def test_hosts_without_a_snapshot_are_named_with_the_reason():
    results = registered_results.results_of(SEEN, SEEN, "seen")

    assert list(registered_results.snapshots(results)) == ["h1"]
    assert registered_results.absent(results) == [
        {"host": "h2", "reason": "it cannot be reached: no route to host"},
        {"host": "h3", "reason": "Failed to import the required Python library (libvirt)"},
    ]


def test_measurements_of_all_hosts_in_one():
    web1, web2 = (working_set(domain(name)) for name in ("web1", "web2"))
    refused = {"code": "never_measured", "reason": "new has not been measured", "remedy": "measure it"}
    learned = {"guests": {}, "paths": {"h2": {}}}
    changed = {"guest": web1["guest"], "number": 3}
    results = {
        "h1": {"working_sets": [web1], "refusals": [refused], "calibration": learned, "changes": [changed]},
        "h2": {"working_sets": [web2], "refusals": [], "calibration": {"guests": {}, "paths": {}}},
        "h3": {"unreachable": True, "msg": "no route to host"},
    }
    lost = "it cannot be reached: no route to host"
    assert registered_results.measurements(results) == {
        "working_sets": [web1, web2],
        "changes": [changed],
        "calibration": {"h1": learned, "h2": {"guests": {}, "paths": {}}},
        "hosts": {"h1": [web1["guest"]["uuid"]], "h2": [web2["guest"]["uuid"]]},
        "unmeasured": [
            {"host": "h1", **refused},
            {"host": "h3", "code": "host_not_measured", "reason": lost, "remedy": ""},
        ],
    }


def test_a_failure_without_a_word_still_reads():
    assert registered_results.why({}) == "no reason was given"


def test_the_inventory_says_how_hosts_reach_each_other():
    variables = {
        "ansible_host": "192.0.2.1",
        "kvmops_cluster_connect_uri": "qemu+tls://h1/system",
        "kvmops_cluster_migration_address": "198.18.0.11",
        "kvmops_cluster_bandwidth_mib_s": "23",
        "kvmops_cluster_link": "rack7",
    }

    assert registered_results.connection("h1", variables) == {
        "connect_uri": "qemu+tls://h1/system",
        "migration_address": "198.18.0.11",
        "bandwidth_mib_s": 23.0,
        "link": "rack7",
    }


@pytest.mark.parametrize("stated", ["fast", 0, -1, "inf", "nan", [23]])
def test_a_bandwidth_that_cannot_be_is_refused_by_name(stated):
    with pytest.raises(AnsibleError, match=r"kvmops_cluster_bandwidth_mib_s of h1 is .*: give what"):
        registered_results.connection("h1", {"kvmops_cluster_bandwidth_mib_s": stated})


def test_without_a_word_they_reach_each_other_as_the_controller_does():
    assert registered_results.connection("h1", {})["connect_uri"] == "qemu+ssh://root@h1/system"
    assert (
        registered_results.connection("h1", {"ansible_host": "fd00::1"})["connect_uri"]
        == "qemu+ssh://root@[fd00::1]/system"
    )


def test_cordoned_hosts_are_not_open():
    closed = snapshot("h2", maintenance={"state": "cordoned"})

    assert registered_results.open_hosts({"h1": snapshot("h1"), "h2": closed}) == ["h1"]
