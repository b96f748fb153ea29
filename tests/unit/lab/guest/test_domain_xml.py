# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

from lab.guest import domain_xml, storage_server
from lab.layout import addresses, scenario

NETWORKS = addresses.networks(0)
PLAN = scenario.parse(
    {
        "hosts": {"count": 2},
        "guests": [
            {
                "name": "g1",
                "host": "h2",
                "disk": 16,
                "disk_on": "local",
                "group": "a & b",
                "policy": {"max_downtime_ms": 200, "allow_postcopy": True},
            },
            {"name": "g2", "host": "h1", "disk": "none"},
        ],
    }
)
NAMESPACE = "{https://kvmops.cluster/xmlns/guest/1}"


def define(guest, *, kvm=False):
    return ET.fromstring(domain_xml.definition(guest, NETWORKS, instance=0, kvm=kvm))


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
    assert with_disk.findtext("os/cmdline").endswith(
        "lab.disk_writes_per_s=20 lab.disk_reads_per_s=20 lab.disk_hot_mib=0 lab.disk_filled=0"
    )
    assert without.find("devices/disk") is None
    assert "lab.address=198.19.0.102 " in without.findtext("os/cmdline")


SERVED = scenario.parse(
    {
        "hosts": {"count": 2},
        "guests": [
            {"name": "lun", "host": "h1", "disk": 16, "disk_on": "iscsi"},
            {"name": "export", "host": "h2", "disk": 8, "disk_on": "nbd"},
        ],
    }
)


def test_a_disk_of_the_storage_server_is_named_in_the_definition_as_it_is_offered():
    lun, export = (define(guest) for guest in SERVED.guests)
    for disk, protocol, name, port in (
        (lun.find("devices/disk"), "iscsi", "iqn.2026-11.cluster.kvmops.lab:lun/1", "3260"),
        (export.find("devices/disk"), "nbd", "export", "10811"),
    ):
        assert disk.get("type") == "network"
        assert disk.find("driver").attrib == {"name": "qemu", "type": "raw", "cache": "none"}
        assert disk.find("source").attrib == {"protocol": protocol, "name": name}
        assert disk.find("source/host").attrib == {"name": "198.18.1.50", "port": port}


def test_a_block_device_has_one_name_on_all_hosts_that_is_not_the_kernels():
    plan = scenario.parse({"hosts": {}, "guests": [{"name": "raw", "host": "h1", "disk": 16, "disk_on": "block"}]})
    disk = define(plan.guests[0]).find("devices/disk")
    assert (disk.get("type"), disk.find("source").attrib) == ("block", {"dev": "/dev/disk/by-id/kvmops-lab-raw"})
    assert disk.find("driver").get("type") == "raw"


def test_a_guest_with_firmware_has_an_nvram_file_and_a_tpm_and_boots_the_agent():
    plan = scenario.parse({"hosts": {}, "guests": [{"name": "safe", "host": "h1", "firmware": "uefi"}]})
    root = define(plan.guests[0])
    assert root.find("os").get("firmware") == "efi"
    assert root.findtext("os/kernel") == "/usr/share/kvmops-lab/vmlinuz"
    assert root.find("devices/tpm/backend").get("version") == "2.0"


def test_an_interface_may_name_a_network_and_a_second_one_another_bridge():
    more = {"attached_to": "network", "second_bridge": True}
    plan = scenario.parse({"hosts": {}, "guests": [{"name": "wired", "host": "h1", **more}]})
    first, second = define(plan.guests[0]).findall("devices/interface")
    assert (first.get("type"), first.find("source").attrib) == ("network", {"network": "lab"})
    assert (second.get("type"), second.find("source").attrib) == ("bridge", {"bridge": "brx"})


def test_a_debian_guest_boots_by_uefi_and_is_told_who_it_is_by_credentials():
    plan = scenario.parse({"hosts": {}, "guests": [{"name": "db", "host": "h1", "system": "debian"}]})
    text = domain_xml.definition(plan.guests[0], NETWORKS, instance=0, kvm=False, ssh_key="ssh-ed25519 AAAA lab")
    root = ET.fromstring(text)
    assert root.find("os").get("firmware") == "efi"
    assert root.find("os/kernel") is None
    assert root.find("devices/tpm/backend").attrib == {"type": "emulator", "version": "2.0"}
    assert root.find("devices/channel/target").get("name") == "org.qemu.guest_agent.0"
    assert root.find("devices/disk/source").get("file") == "/var/lib/libvirt/images/db.qcow2"
    told = dict(entry.text.partition(":")[2].split("=", 1) for entry in root.findall("sysinfo/oemStrings/entry"))
    assert base64.b64decode(told["ssh.authorized_keys.root"]) == b"ssh-ed25519 AAAA lab"
    assert b"Address=198.19.0.101/24" in base64.b64decode(told["network.network.50-lab"])
    assert b"lab.touched_mib=32" in base64.b64decode(told["lab.agent"])


def test_what_is_offered_is_new_and_of_the_size_that_was_asked_for():
    script = storage_server.offer_script(SERVED.guests)
    assert "truncate -s 16M /srv/disks/lun.raw" in script
    assert "--op new --mode target --tid 1 -T iqn.2026-11.cluster.kvmops.lab:lun\n" in script
    assert "qemu-nbd -t -e 4 -f raw -x export -p 10811 /srv/disks/export.raw" in script


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
