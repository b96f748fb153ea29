# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenarios: what is accepted, and what people are told about the rest."""

from __future__ import annotations

import pytest

from lab.common.errors import LabError
from lab.layout import scenario

SCENARIOS = scenario.DEFAULT_SCENARIO.parent
GUEST = {"name": "g", "host": "h1"}


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.yml")), ids=lambda path: path.stem)
def test_what_the_lab_ships_is_valid(path):
    plan = scenario.load(path)
    assert len(plan.hosts) >= 2
    assert len(plan.guests) >= 4


def test_defaults():
    plan = scenario.parse({"hosts": {}, "guests": [GUEST]})
    assert [host.name for host in plan.hosts] == ["h1", "h2", "h3"]
    assert {host.release for host in plan.hosts} == {"trixie"}
    assert plan.hosts[0].link_mbit == 0
    assert (plan.guests[0].disk_mib, plan.guests[0].disk_on) == (8, "shared")


def test_without_a_folder_that_all_hosts_can_share_the_usual_guest_has_no_disk():
    plan = scenario.parse({"hosts": {"count": 2, "release": ["bookworm", "trixie"]}, "guests": [GUEST]})
    assert plan.guests[0].disk_mib is None


def test_a_release_for_each_host():
    plan = scenario.parse({"hosts": {"count": 2, "release": ["bookworm", "testing"]}})
    assert [host.release for host in plan.hosts] == ["bookworm", "testing"]


def test_hosts_that_can_be_upgraded():
    plan = scenario.parse({"hosts": {"updates": "backports"}})
    assert {host.updates for host in plan.hosts} == {"backports"}
    assert scenario.Scenario.from_json(plan.to_json()) == plan
    with pytest.raises(LabError, match=r"hosts\.updates: testing has no backports"):
        scenario.parse({"hosts": {"release": ["trixie", "trixie", "testing"], "updates": "backports"}})


def test_a_guest_many_times():
    plan = scenario.parse({"hosts": {}, "guests": [GUEST | {"count": 3, "disk": 16}, {"name": "x", "host": "h2"}]})
    assert [(guest.name, guest.number) for guest in plan.guests] == [("g1", 1), ("g2", 2), ("g3", 3), ("x", 4)]
    assert plan.guests[2].disk_mib == 16


def test_a_storage_server_is_there_where_a_disk_is_on_it():
    plain = scenario.parse({"hosts": {}, "guests": [GUEST | {"disk": 16}]})
    assert (plain.storage_server, plain.machines) == (None, plain.hosts)
    served = scenario.parse({"hosts": {"release": "bookworm"}, "guests": [GUEST | {"disk": 16, "disk_on": "iscsi"}]})
    assert [(machine.name, machine.release) for machine in served.machines[3:]] == [("san", "bookworm")]
    assert served.host("san") == served.storage_server
    assert scenario.Scenario.from_json(served.to_json()) == served


def test_a_debian_guest_has_the_disk_that_it_boots_from_and_its_hosts_see_the_original():
    plan = scenario.parse({"hosts": {}, "guests": [GUEST | {"system": "debian"}]})
    assert (plan.guests[0].memory_mib, {host.has_debian for host in plan.hosts}) == (384, {True})
    assert scenario.Scenario.from_json(plan.to_json()) == plan
    with pytest.raises(LabError, match="a Debian guest boots by UEFI from a file of its host: no disk, no firmware"):
        scenario.parse({"hosts": {}, "guests": [GUEST | {"system": "debian", "disk": 16}]})
    with pytest.raises(LabError, match="32 MiB and the guest's own 320 do not fit into 256"):
        scenario.parse({"hosts": {}, "guests": [GUEST | {"system": "debian", "memory_mib": 256}]})


SITES = {"hosts": [["h1"], ["h2", "h3"]]}


def test_all_hosts_are_at_one_site_where_nothing_is_said():
    plan = scenario.parse({"hosts": {}})
    assert ({host.site for host in plan.hosts}, plan.line) == ({1}, None)


def test_two_sites_and_the_line_between_them():
    plan = scenario.parse({"hosts": {}, "sites": SITES | {"mbit": 0.384}})
    assert {host.name: host.site for host in plan.hosts} == {"h1": 1, "h2": 2, "h3": 2}
    assert plan.line == scenario.LinePlan(mbit=0.384, delay_ms=40, queue_ms=400)
    assert scenario.Scenario.from_json(plan.to_json()) == plan
    fast = scenario.parse({"hosts": {}, "sites": SITES | {"mbit": 200, "delay_ms": 5}})
    assert fast.line == scenario.LinePlan(mbit=200, delay_ms=5, queue_ms=100)


@pytest.mark.parametrize("hosts", [[["h1"], ["h2"]], [["h1", "h2"], ["h2", "h3"]], [["h1"], ["h2", "h3", "h4"]]])
def test_each_host_is_at_one_of_the_sites(hosts):
    with pytest.raises(LabError, match=r"^sites\.yml: sites\.hosts: each of h1, h2, h3 must stand there once"):
        scenario.parse({"hosts": {}, "sites": {"hosts": hosts}}, "sites.yml")


def test_what_a_guest_does_with_its_disk():
    usual, own = scenario.parse(
        {
            "hosts": {},
            "guests": [
                GUEST,
                GUEST | {"name": "w", "disk_writes_per_s": 0.2, "disk_reads_per_s": 1, "disk_hot_mib": 1},
            ],
        }
    ).guests
    assert (usual.disk_writes_per_s, usual.disk_reads_per_s, usual.disk_hot_mib, usual.disk_filled) == (
        20,
        20,
        None,
        False,
    )
    assert (own.disk_writes_per_s, own.disk_reads_per_s, own.disk_hot_mib) == (0.2, 1, 1)


def test_it_survives_being_written_down():
    plan = scenario.parse({"hosts": {}, "guests": [GUEST | {"group": "a", "policy": {"max_downtime_ms": 5}}]})
    assert scenario.Scenario.from_json(plan.to_json()) == plan


SHIFTS = [{"seconds": 15, "hot_mib": 4, "pages_per_s": 500}, {"seconds": 10, "hot_mib": 24, "pages_per_s": 9000}]


def test_a_guest_that_changes_is_counted_in_pages_of_its_first_phase():
    (guest,) = scenario.parse({"hosts": {}, "guests": [GUEST | {"phases": SHIFTS}]}).guests
    assert (guest.hot_mib, guest.pages_per_s, guest.work_per_s) == (4, 500, 500)
    assert [phase.hot_mib for phase in guest.phases] == [4, 24]


def test_phases_survive_being_written_down():
    plan = scenario.parse({"hosts": {}, "guests": [GUEST | {"phases": SHIFTS, "content": "compressible"}]})
    assert scenario.Scenario.from_json(plan.to_json()) == plan


def test_a_guest_from_before_there_were_phases():
    old = scenario.parse({"hosts": {}, "guests": [GUEST]})
    text = old.to_json().replace('"phases": []', '"vcpus": 1').replace('"cold_pages_per_s": 0', '"vcpus": 1')
    assert scenario.Scenario.from_json(text) == old


@pytest.mark.parametrize(
    ("work", "per_s"),
    [
        ({}, 0),
        ({"hot_mib": 8, "pages_per_s": 100}, 100),
        ({"cold_pages_per_s": 50}, 50),
        ({"hot_mib": 8, "pages_per_s": 100, "cold_pages_per_s": 50}, 150),
        ({"hot_mib": 32, "pages_per_s": 100, "cold_pages_per_s": 50}, 100),
    ],
)
def test_what_a_guest_writes_when_nothing_takes_time_from_it(work, per_s):
    assert scenario.parse({"hosts": {}, "guests": [GUEST | work]}).guests[0].work_per_s == per_s


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "s.yml: None is not of type 'object'"),
        ({}, "s.yml: 'hosts' is a required property"),
        ({"hosts": {"count": 0}}, "s.yml: hosts.count: 0 is less than the minimum of 1"),
        (
            {"hosts": {"release": "sarge"}},
            "s.yml: hosts.release: 'sarge' is not one of ['bookworm', 'trixie', 'testing']",
        ),
        ({"hosts": {"count": 3, "release": ["trixie"]}}, "s.yml: hosts.release: 1 releases for 3 hosts"),
        ({"hosts": {"speed": 1}}, "s.yml: hosts: Additional properties are not allowed ('speed'"),
        ({"hosts": {}, "guests": [{"name": "g"}]}, "s.yml: guests[0]: 'host' is a required property"),
        ({"hosts": {}, "guests": [GUEST | {"host": "h9"}]}, "s.yml: guest g: host: 'h9' is not one of h1, h2, h3"),
        ({"hosts": {}, "guests": [GUEST, GUEST]}, "s.yml: guest g: the name is used twice"),
        ({"hosts": {}, "guests": [GUEST | {"name": "G 1"}]}, "s.yml: guests[0].name: 'G 1' does not match"),
        (
            {"hosts": {}, "guests": [GUEST | {"hot_mib": -1}]},
            "s.yml: guests[0].hot_mib: -1 is less than",
        ),
        (
            {"hosts": {}, "guests": [GUEST | {"phases": [SHIFTS[1] | {"hot_mib": 33}]}]},
            "s.yml: guests[0]: hot_mib: 33 is more than touched_mib, 32",
        ),
        ({"hosts": {}, "guests": [GUEST | {"phases": SHIFTS, "hot_mib": 4}]}, "s.yml: guests[0]: "),
        (
            {"hosts": {}, "guests": [GUEST, GUEST | {"name": "x", "hot_mib": 64}]},
            "s.yml: guests[1]: hot_mib: 64 is more than touched_mib, 32",
        ),
        (
            {"hosts": {}, "guests": [GUEST | {"memory_mib": 96, "touched_mib": 90}]},
            "s.yml: guests[0]: touched_mib: 90 MiB and the guest's own 56 do not fit into 96",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(data, message):
    with pytest.raises(LabError) as caught:
        scenario.parse(data, "s.yml")
    assert caught.value.what.startswith(message)
    assert "\n" not in caught.value.what
    assert caught.value.remedy


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(LabError, match="No such file") as caught:
        scenario.load(tmp_path / "none.yml")
    assert str(tmp_path / "none.yml") in caught.value.what


def test_a_file_that_is_not_yaml(tmp_path):
    path = tmp_path / "bad.yml"
    path.write_text("hosts: {count: 3\nguests: ]\n", encoding="utf-8")
    with pytest.raises(LabError) as caught:
        scenario.load(path)
    assert caught.value.what.startswith(f"{path}:2: not YAML: ")
