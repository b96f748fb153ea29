# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.remarks import remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml

FIXTURES = Path(__file__).parents[4] / "fixtures"


def domain(inner="", **attributes):
    root = ET.fromstring(f"<domain><name>g</name>{inner}</domain>")
    root.attrib.update(attributes)
    return root


def test_a_real_guest():
    described = guest_xml.describe(guest_xml.parse((FIXTURES / "domain_with_disk.xml").read_text()))
    assert described == {
        "name": "g4",
        "uuid": "26d8ddbe-c00e-5c6d-809f-35436c59af5b",
        "type": "qemu",
        "arch": "x86_64",
        "machine": "pc-q35-7.2",
        "emulator": "/usr/bin/qemu-system-x86_64",
        "vcpus": 1,
        "memory_bytes": 192 << 20,
        "hugepage_bytes": None,
        "memory_parts": [{"bytes": 192 << 20, "page_bytes": None, "host_cells": None}],
        "cpu": {
            "mode": "custom",
            "model": "qemu64",
            "xml": '<cpu mode="custom" match="exact" check="full"><model fallback="forbid">qemu64</model>'
            '<feature policy="require" name="hypervisor" /><feature policy="require" name="lahf_lm" /></cpu>',
        },
        "disks": [
            {
                "target": "vda",
                "device": "disk",
                "type": "file",
                "format": "qcow2",
                "source": "/var/lib/libvirt/images/g4.qcow2",
                "backing": [],
                "layers": [],
                "readonly": False,
                "shareable": False,
                "startup_policy": None,
                "cache": "none",
                "capacity_bytes": None,
                "allocation_bytes": None,
                "shared": None,
                "shared_why": None,
            }
        ],
        "interfaces": [{"type": "bridge", "source": "brg", "mac": "52:54:00:19:00:04"}],
        "tpm": False,
        "metadata": {"home": "h2", "group": {"apart": None, "together": None}, "intent": {}},
        "requires": [
            {"kind": "bridge", "name": "brg"},
            {"kind": "file", "name": "/usr/share/kvmops-lab/vmlinuz", "what": "kernel"},
            {"kind": "file", "name": "/usr/share/kvmops-lab/initrd.gz", "what": "initrd"},
            {"kind": "file", "name": "/var/log/kvmops-lab", "what": "directory of the output of a port"},
            {"kind": "security_model", "name": "dac"},
        ],
    }


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<memory>1024</memory>", 1 << 20),
        ("<memory unit='GiB'>3</memory>", 3 << 30),
        ("<memory unit='MB'>5</memory>", 5_000_000),
        ("<memory unit='b'>7</memory>", 7),
    ],
)
def test_amounts_in_every_unit(xml, expected):
    assert guest_xml.amount(ET.fromstring(xml)) == expected


@pytest.mark.parametrize(
    ("xml", "source", "backing"),
    [
        ("<disk type='file' device='cdrom'><target dev='sda'/></disk>", None, []),
        ("<disk type='block'><source dev='/dev/vg0/web 1'/></disk>", "/dev/vg0/web 1", []),
        (
            "<disk type='network'><source protocol='rbd' name='pool/image'><host name='m1'/></source></disk>",
            "rbd:pool/image",
            [],
        ),
        (
            "<disk type='network'><source protocol='nbd' name='x'><host transport='unix' socket='/s'/></source></disk>",
            "nbd+unix:x",
            [],
        ),
        ("<disk type='volume'><source pool='images' volume='web1'/></disk>", "images/web1", []),
        (
            (
                "<disk type='nvme'><source type='pci'><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/>"
                "</source></disk>"
            ),
            "0000:01:00.0",
            [],
        ),
        (
            (
                "<disk type='file'><source file='/a'/><backingStore type='file'><format type='qcow2'/>"
                "<source file='/b'/><backingStore type='block'><source dev='/dev/sdc'/><backingStore/></backingStore>"
                "</backingStore></disk>"
            ),
            "/a",
            ["/b", "/dev/sdc"],
        ),
    ],
)
def test_where_disks_are(xml, source, backing):
    disk = guest_xml.disk(ET.fromstring(xml))
    assert (disk["source"], disk["backing"]) == (source, backing)


@pytest.mark.parametrize(
    ("hosts", "source"),
    [
        ("<host name='127.0.0.1' port='10809'/>", "nbd+localhost:x"),
        ("<host name='127.8.0.1'/>", "nbd+localhost:x"),
        ("<host name='::1'/>", "nbd+localhost:x"),
        ("<host name='[::1]'/>", "nbd+localhost:x"),
        ("<host name='LocalHost'/>", "nbd+localhost:x"),
        ("<host name='localhost.'/>", "nbd+localhost:x"),
        ("<host name='images.localhost'/>", "nbd+localhost:x"),
        ("<host name='127.1'/>", "nbd+localhost:x"),
        ("<host name='0'/>", "nbd+localhost:x"),
        ("<host name='::ffff:127.0.0.1'/>", "nbd+localhost:x"),
        ("<host name='::'/>", "nbd+localhost:x"),
        ("<host name='::ffff:192.0.2.7'/>", "nbd:x"),
        ("<host name=''/>", "nbd:x"),
        ("<host port='10809'/>", "nbd+localhost:x"),
        ("<host transport='unix' socket='/s'/>", "nbd+unix:x"),
        ("<host name='nas'/>", "nbd:x"),
        ("<host name='192.0.2.7'/>", "nbd:x"),
        ("<host name='2001:db8::7'/>", "nbd:x"),
        ("<host name='localhost.example.org'/>", "nbd:x"),
    ],
)
def test_a_server_on_the_host_itself_is_told(hosts, source):
    disk = ET.fromstring(f"<disk type='network'><source protocol='nbd' name='x'>{hosts}</source></disk>")
    assert guest_xml.disk(disk)["source"] == source


@pytest.mark.parametrize("protocol", ["gluster", "rbd", "sheepdog"])
def test_a_storage_cluster_is_the_same_through_the_host_itself(protocol):
    """Where each host is also a part of the storage cluster, guests name localhost."""
    disk = f"<disk type='network'><source protocol='{protocol}' name='v/x'><host name='localhost'/></source></disk>"
    assert guest_xml.disk(ET.fromstring(disk))["source"] == f"{protocol}:v/x"
    assert guest_xml.disk(ET.fromstring(disk.replace("name='localhost'", "transport='unix' socket='/s'")))[
        "source"
    ] == (f"{protocol}:v/x")


@pytest.mark.parametrize(
    ("inner", "servers"),
    [
        ("<source protocol='nbd' name='x'><host name='nas'/></source>", ["nas"]),
        ("<source protocol='iscsi' name='iqn.a/1'><host name='10.0.0.7' port='3260'/></source>", ["10.0.0.7"]),
        ("<source protocol='nbd' name='x'><host name='127.0.0.1'/></source>", None),
        ("<source protocol='nbd' name='x'><host transport='unix' socket='/s'/></source>", None),
        # Any server of a storage cluster may go away.
        ("<source protocol='rbd' name='a/b'><host name='mon1'/></source>", None),
        (
            (
                "<source protocol='https' name='a'><host name='a'/></source>"
                "<backingStore type='network'><source protocol='nbd' name='y'><host name='b'/></source></backingStore>"
            ),
            ["a", "b"],
        ),
    ],
)
def test_the_servers_of_a_network_disk(inner, servers):
    assert guest_xml.disk(ET.fromstring(f"<disk type='network'>{inner}</disk>")).get("servers") == servers


def test_all_images_that_a_disk_rests_on():
    """Of each type; the data file of an image goes before what the image rests on."""
    disk = ET.fromstring(
        "<disk type='file'><source file='/a'><dataStore type='block'><format type='raw'/><source dev='/dev/vg0/a'/>"
        "</dataStore></source><backingStore type='network'><format type='qcow2'/><source protocol='nbd' name='b'>"
        "<host name='localhost'/><dataStore type='file'><source file='/b.raw'/></dataStore></source>"
        "<backingStore type='volume'><format type='raw'/><source pool='images' volume='base'/><backingStore/>"
        "</backingStore></backingStore><mirror type='file'><source file='/m'/></mirror></disk>"
    )
    described = guest_xml.disk(disk)
    assert described["layers"] == [
        {"type": "block", "source": "/dev/vg0/a", "role": "data"},
        {"type": "network", "source": "nbd+localhost:b", "role": "backing"},
        {"type": "file", "source": "/b.raw", "role": "data"},
        {"type": "volume", "source": "images/base", "role": "backing"},
    ]
    assert described["backing"] == ["nbd+localhost:b", "images/base"]


@pytest.mark.parametrize(
    ("device", "policy", "expected"),
    [
        ("cdrom", "optional", "optional"),
        ("floppy", "requisite", "requisite"),
        ("cdrom", "mandatory", None),
        ("disk", "optional", None),
    ],
)
def test_only_media_may_be_missing_at_the_destination(device, policy, expected):
    disk = f"<disk type='file' device='{device}'><source file='/i' startupPolicy='{policy}'/><readonly/></disk>"
    assert guest_xml.disk(ET.fromstring(disk))["startup_policy"] == expected


def test_a_medium_that_the_guest_writes_to_is_a_disk():
    """libvirt takes it out on arrival, but lets no guest go that has one on local storage."""
    told = {}
    for device in ("cdrom", "floppy"):
        disk = f"<disk type='file' device='{device}'><source file='/i' startupPolicy='optional'/></disk>"
        described = guest_xml.disk(ET.fromstring(disk))
        told[device] = described["readonly"], described["startup_policy"]
    assert told == {"cdrom": (True, "optional"), "floppy": (False, None)}


def test_a_cpu_is_compared_without_topology_and_numa():
    plain = "<cpu mode='custom'><model>qemu64</model></cpu>"
    shaped = (
        "<cpu mode='custom'>\n  <model>qemu64</model>\n  <topology sockets='1' cores='2' threads='1'/>\n"
        "  <numa><cell id='0' cpus='0' memory='1'/></numa>\n</cpu>"
    )
    assert guest_xml.cpu_xml(ET.fromstring(shaped)) == guest_xml.cpu_xml(ET.fromstring(plain))


def metadata(guest):
    return guest_xml.metadata(
        domain(f"<metadata xmlns:k='https://kvmops.cluster/xmlns/guest/1' xmlns:o='urn:other'>{guest}</metadata>")
    )


def test_metadata_of_the_operator():
    found = metadata(
        "<o:guest home='no'/><k:guest home='h1' group='web' together='shop' tier='gold' rack='r 1'>"
        "<k:intent max_downtime_ms='200' allow_postcopy='yes'/></k:guest>"
    )
    assert found == {
        "home": "h1",
        "group": {"apart": "web", "together": "shop"},
        "intent": {"max_downtime_ms": 200, "allow_postcopy": True},
        "tier": "gold",
        "rack": "r 1",
    }


def test_an_intent_that_makes_no_sense_is_passed_on_for_others_to_name():
    assert metadata("<k:guest><k:intent max_downtime_ms='fast'/></k:guest>")["intent"] == {"max_downtime_ms": "fast"}


def test_an_attribute_cannot_take_the_place_of_the_intent():
    assert metadata("<k:guest intent='x'/>")["intent"] == {}


def test_an_empty_domain_is_described_with_nulls():
    described = guest_xml.describe(ET.Element("domain"))
    assert described["memory_bytes"] is None
    assert described["cpu"] == {"mode": None, "model": None, "xml": None}


@pytest.mark.parametrize("depth", [30, 10000])
def test_a_long_chain_of_images(depth):
    below = "".join(
        f"<backingStore type='file'><format type='qcow2'/><source file='/images/{number}.qcow2'/>"
        for number in range(depth)
    )
    top = "<source file='/images/top.qcow2'/><target dev='vda'/>"
    disk = f"<disk type='file'>{top}{below}{'</backingStore>' * depth}</disk>"
    root = ET.fromstring(f"<domain type='kvm'><name>g</name><devices>{disk}</devices></domain>")
    (found,) = guest_xml.describe(root)["disks"]
    assert found["backing"] == [f"/images/{number}.qcow2" for number in range(depth)]
    assert blockers.blockers(root, Facts()) == []
    assert remarks(root, Facts(), [found]) == []


def test_a_cpu_that_is_nested_without_end():
    inner = "<feature>" * 10000 + "</feature>" * 10000
    assert guest_xml.describe(domain(f"<cpu mode='custom'>{inner}</cpu>"))["cpu"] == {
        "mode": "custom",
        "model": None,
        "xml": None,
    }
