# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab writes for others: inventory, definitions, ramdisk; and how it lays out addresses and names."""

from __future__ import annotations

import ipaddress
import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from lab.cluster import inventory, status
from lab.common import settings
from lab.common.errors import LabError
from lab.guest import agent_protocol, corruption, domain_xml
from lab.image import base_image, boot_image
from lab.layout import addresses, scenario

HOME = settings.Settings(state=Path("/state"), cache=Path("/cache"), instance=0)
NETWORKS = addresses.networks(0)
PLAN = scenario.parse(
    {
        "hosts": {"count": 2},
        "guests": [
            {
                "name": "g1",
                "host": "h2",
                "disk": 16,
                "group": "a & b",
                "policy": {"max_downtime_ms": 200, "allow_postcopy": True},
            },
            {"name": "g2", "host": "h1"},
        ],
    }
)
NAMESPACE = "{https://kvmops.cluster/xmlns/guest/1}"


def define(guest, *, kvm=False):
    return ET.fromstring(domain_xml.definition(guest, PLAN.host(guest.host), NETWORKS, instance=0, kvm=kvm))


def test_inventory(tmp_path):
    path = tmp_path / "deep" / "inventory.yml"
    inventory.write(path, inventory.content(HOME, NETWORKS, PLAN))
    group = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["children"]["hypervisors"]
    assert group["hosts"]["h2"] == {
        "ansible_host": "198.18.1.12",
        "kvmops_cluster_connect_uri": "qemu+ssh://root@h2/system",
        "kvmops_cluster_migration_address": "198.18.0.12",
    }
    assert "kvmops_cluster_bandwidth_mib_s" not in group["hosts"]["h1"], "its link has no limit"
    assert group["vars"]["ansible_ssh_private_key_file"] == "/state/ssh/id_ed25519"
    assert "UserKnownHostsFile=/state/ssh/known_hosts" in group["vars"]["ansible_ssh_common_args"]
    assert "ControlPersist=60s" in group["vars"]["ansible_ssh_common_args"]


def test_metadata_travels_with_the_guest():
    mark = define(PLAN.guests[0]).find(f"metadata/{NAMESPACE}guest")
    assert mark.attrib == {"home": "h2", "group": "a & b"}
    assert mark.find(f"{NAMESPACE}intent").attrib == {"max_downtime_ms": "200", "allow_postcopy": "true"}


def test_a_guest_without_wishes_has_none_in_its_metadata():
    mark = define(PLAN.guests[1]).find(f"metadata/{NAMESPACE}guest")
    assert mark.attrib == {"home": "h1"}
    assert list(mark) == []


def test_disk_and_command_line():
    with_disk, without = (define(guest) for guest in PLAN.guests)
    assert with_disk.find("devices/disk/source").get("file") == "/var/lib/libvirt/images/g1.qcow2"
    assert "lab.disk=/dev/vda" in with_disk.findtext("os/cmdline")
    assert without.find("devices/disk") is None
    assert "lab.address=198.19.0.102 " in without.findtext("os/cmdline")


def test_what_a_guest_is_to_do_is_on_its_command_line():
    told = {
        "phases": [{"seconds": 15, "hot_mib": 4, "pages_per_s": 500}, {"seconds": 5, "hot_mib": 8, "pages_per_s": 90}]
    }
    busy = {"name": "g", "host": "h1", "content": "compressible", "cold_pages_per_s": 7, **told}
    (guest,) = scenario.parse({"hosts": {}, "guests": [busy]}).guests
    words = define(guest).findtext("os/cmdline").split()
    assert {"lab.content=compressible", "lab.cold_per_s=7", "lab.phases=15:4:500,5:8:90", "lab.hot_mib=4"} <= set(words)


def test_the_machine_type_is_one_that_every_release_knows():
    assert define(PLAN.guests[0]).find("os/type").get("machine") == "pc-q35-7.2"


def test_kvm_only_when_it_was_proved():
    assert define(PLAN.guests[0]).get("type") == "qemu"
    assert define(PLAN.guests[0], kvm=True).get("type") == "kvm"


def test_labs_share_no_address_and_no_name():
    everything = [network for number in range(settings.MOST_INSTANCES) for network in addresses.networks(number).all]
    assert len({network.subnet for network in everything}) == len(everything)
    assert all(
        ipaddress.ip_network(f"{network.subnet}.0/24").subnet_of(ipaddress.ip_network(addresses.RANGE))
        for network in everything
    )
    assert addresses.guest_uuid(0, "g1") != addresses.guest_uuid(1, "g1")


def test_link_names_fit_the_kernel():
    last = settings.Settings(state=Path("/s"), cache=Path("/c"), instance=settings.MOST_INSTANCES - 1)
    assert len(NETWORKS.migration.link(last.prefix, f"h{addresses.MOST_HOSTS}")) <= 15


def test_the_last_host_is_below_the_first_guest_and_the_last_guest_has_an_address():
    assert addresses.FIRST_HOST + addresses.MOST_HOSTS < addresses.FIRST_GUEST
    assert addresses.FIRST_GUEST + addresses.MOST_GUESTS < 255


@pytest.mark.parametrize("text", ["16", "-1", "one", ""])
def test_an_impossible_instance(monkeypatch, text):
    monkeypatch.setenv("KVMOPS_LAB_INSTANCE", text)
    with pytest.raises(LabError, match="KVMOPS_LAB_INSTANCE"):
        settings.from_environment()


def test_the_ramdisk_is_a_cpio_archive():
    data = boot_image.archive([boot_image.Entry("bin", 0o40755), boot_image.Entry("bin/x", 0o100755, b"hello")])
    assert data.startswith(b"070701")
    assert b"bin/x\0" in data
    assert data[-124:].find(b"TRAILER!!!\0") > 0
    assert len(data) % 4 == 0


def test_sizes_agree_with_the_agent():
    assert agent_protocol.REQUEST.size == 24
    assert agent_protocol.REPLY.size == 168
    assert agent_protocol.RECORD.size == 56


def test_the_agents_pages_are_told_from_others():
    words = [1234567]
    for dummy in range(511):
        words.append((words[-1] * corruption.MULTIPLIER + corruption.INCREMENT) % corruption.MODULUS)
    assert corruption.is_agents(struct.pack("<512Q", 42, *words[1:]))
    assert not corruption.is_agents(bytes(4096))
    assert not corruption.is_agents(struct.pack("<512Q", *range(512)))


def test_versions_come_from_the_package_database(tmp_path):
    database = tmp_path / "var/lib/dpkg/status"
    database.parent.mkdir(parents=True)
    database.write_text(
        "Package: libvirt-daemon\nVersion: 11.3.0-3+deb13u1\n\nPackage: qemu-system-x86\nVersion: 1:10.0.13+ds-0\n\n"
        "Package: bash\nVersion: 5.2\n",
        encoding="utf-8",
    )
    assert base_image.versions(tmp_path) == {"libvirt": "11.3.0", "qemu": "10.0.13"}


def test_a_table():
    assert status.table([["A", "LONG"], ["wide", "x"]]) == "A     LONG\nwide  x"
