# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.entries import clones, entries, strays
from ansible_collections.kvmops.cluster.tests.unit import hostile
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    domain,
    record,
    snapshot,
    uuid_of,
)


def named(hypervisors, name, *, guests=True):
    (found,) = [entry for entry in entries(hypervisors, guests=guests) if entry.name == name]
    return found


def test_hypervisors_are_in_their_group_and_by_maintenance():
    cordoned = record("cordoned", owner="alice", reason="DIMM", since="2026-11-24T02:00:00Z")
    hosts = [snapshot("h2", domain("web2"), maintenance=cordoned), snapshot("h1", maintenance=None)]
    first, second = entries(hosts, guests=False)
    assert (first.name, first.groups) == ("h1", ("hypervisors", "hypervisors_active"))
    assert (second.name, second.groups) == ("h2", ("hypervisors", "hypervisors_cordoned"))
    assert first.variables["kvmops_hypervisor_maintenance"]["state"] == "active"
    assert second.variables["kvmops_hypervisor_maintenance"] == {
        "state": "cordoned",
        "owner": "alice",
        "reason": "DIMM",
        "since": "2026-11-24T02:00:00Z",
    }
    assert second.variables["kvmops_hypervisor_uuid"] == hosts[0]["host_uuid"]


def test_guests_that_are_off_are_no_guests_of_a_hypervisor_now():
    host = snapshot("h1", domain("on"), domain("off", state="shutoff"), domain("held", state="paused"))
    assert named([host], "h1").variables["kvmops_hypervisor_guests"] == ["held", "on"]


@pytest.mark.parametrize(
    ("uri", "variables"),
    [
        ("qemu+ssh://root@h1/system", {"ansible_user": "root"}),
        ("qemu+ssh://h1/system?keyfile=/home/alice/.ssh/lab", {}),
        (
            "qemu+ssh://ops%40x@10.0.1.11:2222/system",
            {"ansible_host": "10.0.1.11", "ansible_user": "ops@x", "ansible_port": 2222},
        ),
        ("qemu+ssh://[fd00::1]/system", {"ansible_host": "fd00::1"}),
        ("qemu+tls://h1.example.org:16514/system", {"ansible_host": "h1.example.org"}),
    ],
)
def test_a_remote_uri_says_how_others_and_ansible_reach_the_host(uri, variables):
    found = named([{**snapshot("h1"), "connect_uri": uri}], "h1").variables
    reach = {key: value for key, value in found.items() if not key.startswith("kvmops_hypervisor_")}
    assert reach == {"kvmops_cluster_connect_uri": uri.partition("?")[0], **variables}


@pytest.mark.parametrize("uri", [None, "qemu:///system"])
def test_what_leads_nowhere_else_says_nothing_of_how_to_get_there(uri):
    found = named([{**snapshot("h1"), "connect_uri": uri}], "h1").variables
    assert {key for key in found if not key.startswith("kvmops_hypervisor_")} == set()


def test_a_guest_is_in_groups_by_host_state_group_home_and_policy():
    guest = domain("web1", apart="web", together="pair", home="h2", intent={"allow_postcopy": True, "deadline_s": 60})
    guest["metadata"]["tier"] = "gold"
    found = named([snapshot("h1", guest)], "web1")
    assert found.groups == (
        "guests",
        "guests_on_h1",
        "guests_active",
        "guests_apart_web",
        "guests_together_pair",
        "guests_home_h2",
        "guests_allow_postcopy",
    )
    assert found.variables == {
        "kvmops_guest_name": "web1",
        "kvmops_guest_uuid": guest["uuid"],
        "kvmops_guest_host": "h1",
        "kvmops_guest_state": "running",
        "kvmops_guest_memory_bytes": GIB // 2,
        "kvmops_guest_vcpus": 2,
        "kvmops_guest_home": "h2",
        "kvmops_guest_group": {"apart": "web", "together": "pair"},
        "kvmops_guest_policy": {"allow_postcopy": True, "deadline_s": 60},
        "kvmops_guest_metadata": guest["metadata"],
    }


def test_what_a_guest_forbids_is_no_group():
    found = named([snapshot("h1", domain("web1", intent={"allow_postcopy": False}))], "web1")
    assert found.groups == ("guests", "guests_on_h1", "guests_active")


def test_guests_are_hosts_only_where_that_is_asked_for():
    assert [entry.name for entry in entries([snapshot("h1", domain("web1"))], guests=False)] == ["h1"]


def test_two_guests_of_one_name_and_one_named_like_a_hypervisor_stay_apart():
    twin = domain("web1", uuid="another", state="shutoff")
    hosts = [snapshot("h1", domain("web1"), domain("h2")), snapshot("h2", twin, domain("web2"))]
    found = {entry.name: entry.variables for entry in entries(hosts, guests=True)}
    assert list(found) == ["h1", "h2", "h2@h1", "web1@h1", "web1@h2", "web2"]
    assert found["web1@h2"]["kvmops_guest_uuid"] == found["web1@h2"]["ansible_host"] == "another"
    assert "ansible_host" not in found["web2"]


def test_a_guest_is_where_it_runs():
    running, left, coming = domain("web1"), domain("web1", state="shutoff"), domain("web1", state="paused")
    for hosts in (
        [snapshot("h1", left), snapshot("h2", running)],
        [snapshot("h1", coming), snapshot("h2", running)],
        [snapshot("h2", running), snapshot("h3", left)],
    ):
        assert named(hosts, "web1").variables["kvmops_guest_host"] == "h2"
    assert "guests_off" in named([snapshot("h1", left)], "web1").groups


def test_awkward_names_are_kept():
    hosts = [snapshot("h1", *[domain(name) for name in AWKWARD_NAMES])]
    shell = next(name for name in AWKWARD_NAMES if "$(" in name)
    kept = [name for name in AWKWARD_NAMES if name != shell]
    assert {entry.name for entry in entries(hosts, guests=True)} == {"h1", *kept, f"guest_{uuid_of(shell)}"}


def test_a_name_that_means_something_else_is_the_name_of_no_host():
    hosts = [snapshot("h1", *map(domain, (*hostile.NAMES, "h1", "guest_x")))]
    found = entries(hosts, guests=True)
    groups = {group for entry in found for group in entry.groups}
    names = [entry.name for entry in found]
    assert len(set(names)) == len(hostile.NAMES) + 3
    assert not set(names) & ({"all", "ungrouped", "localhost"} | groups)
    for entry in found[1:]:
        assert re.fullmatch(
            r"(all|ungrouped|localhost|hypervisors|guests_on_h1|h1)@h1|guest_[0-9a-fx-]+|domains", entry.name
        )
        own = entry.name == entry.variables["kvmops_guest_name"]
        assert own or entry.variables["ansible_host"] == entry.variables["kvmops_guest_uuid"]
        # No guest gets variables of the hypervisor's.
        assert {name for name in entry.variables if not name.startswith("kvmops_guest_")} <= {"ansible_host"}


def test_a_guest_never_becomes_a_host_that_is_there_from_elsewhere():
    hosts = [snapshot("h1", domain("web1"), domain("web2"), domain("db"))]
    taken = {"web1": None, "web2": uuid_of("web2"), "db": "that of another guest"}
    names = [entry.name for entry in entries(hosts, guests=True, taken=taken)]
    assert names == ["h1", "db@h1", "web1@h1", "web2"]


@pytest.mark.parametrize("word", ["x,hypervisors", "../all", "new\nline", "{{ 7*7 }}", "!h1"])
def test_no_word_of_an_owner_makes_an_odd_group(word):
    guest = domain("web1", apart=word, together=word, home=word)
    for group in entries([snapshot("h1", guest)], guests=True)[1].groups:
        assert re.fullmatch(r"guests(_[\w.-]+)?", group)


def test_one_machine_under_two_names_is_told():
    same = [snapshot("h1"), snapshot("node1", host_uuid=snapshot("h1")["host_uuid"]), snapshot("h2")]
    (told,) = clones(same)
    assert told.startswith(f"h1 and node1 have the same host UUID {same[0]['host_uuid']}: either one machine is listed")
    assert clones([{**snapshot("h1"), "host_uuid": None}, {**snapshot("h2"), "host_uuid": None}]) == []


def test_a_guest_that_is_active_twice_is_told():
    hosts = [snapshot("h2", domain("web1")), snapshot("h1", domain("web1", state="paused"), domain("web2"))]
    (told,) = strays(hosts)
    assert told.startswith(
        f"guest web1 ({domain('web1')['uuid']}) is active on h1 and h2: it is being moved, or it runs twice"
    )
    assert strays([snapshot("h2", domain("web1")), snapshot("h1", domain("web1", state="shutoff"))]) == []
