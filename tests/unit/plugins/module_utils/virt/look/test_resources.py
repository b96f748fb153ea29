# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import capabilities
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import connect
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import partitions, resources
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.builders import domain

INTERFACES = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1"}, {"local": "::1"}]},
    {"ifname": "eth1", "altnames": ["enp7s0"], "addr_info": [{"local": "198.18.0.11"}]},
    {"ifname": "br0", "linkinfo": {"info_kind": "bridge"}},
    {"ifname": "br-int", "linkinfo": {"info_kind": "openvswitch"}},
]
LOCAL = [{"path": "/", "type": "ext4", "source": "/dev/sda1", "shared": False}]


def looked(tmp_path, *, interfaces=None, guests=(), mounts=None, files=()):
    with connect("qemu:///system", read_only=True) as connection:
        described = capabilities.parse(connection.getCapabilities())
        return resources.of_this_host(
            connection,
            described,
            interfaces=INTERFACES if interfaces is None else interfaces,
            guests=guests,
            mounts=LOCAL if mounts is None else mounts,
            files=files,
            root=tmp_path,
        )


def asked(guest, *, read_only=False):
    """What the last host says of what a guest of the first one names."""
    last = list(libvirt.CLUSTER.hosts)[-1]
    with (
        connect("qemu:///system", read_only=True) as source,
        connect(f"qemu+ssh://root@{last}/system", read_only=read_only) as connection,
    ):
        described = capabilities.parse(connection.getCapabilities())
        return resources.of_remote_host(connection, described, guest, source)


def write(root, *paths):
    for path in paths:
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")


def test_what_libvirt_tells_of_a_host(cluster, tmp_path):
    h1 = cluster.add_host("h1")
    h1.networks, h1.inactive_networks = ["default"], ["asleep"]
    h1.pools, h1.inactive_pools = ["images"], ["idle"]
    h1.filters = ["clean-traffic"]
    secret = str(uuid.uuid4())
    xml = f"<secret><uuid>{secret}</uuid><usage type='ceph'><name>client.admin secret</name></usage></secret>"
    h1.secrets[secret] = libvirt.Secret(None, xml)
    found = looked(tmp_path)
    assert found["networks"] == {"asleep": False, "default": True}
    assert found["pools"] == {"idle": False, "images": True}
    assert found["filters"] == ["clean-traffic"]
    assert found["secrets"] == sorted([secret, "client.admin secret"])
    assert found["cpus"] == "0-3"
    assert found["security_models"] is None
    assert cluster.writes == []


def test_a_driver_that_is_not_there_tells_nothing(cluster, tmp_path):
    cluster.add_host("h1").secret_driver = False
    assert looked(tmp_path)["secrets"] is None


def test_what_the_capabilities_tell(cluster, tmp_path):
    h1 = cluster.add_host("h1")
    root = ET.fromstring(h1.capabilities)
    for model in ("apparmor", "dac"):
        element = ET.SubElement(ET.SubElement(root.find("host"), "secmodel"), "model")
        element.text = model
    for number in (0, 2, 3):
        ET.SubElement(root.find("host/topology/cells/cell/cpus"), "cpu", id=str(number))
    h1.capabilities = ET.tostring(root, encoding="unicode")
    found = looked(tmp_path)
    assert (found["cpus"], found["security_models"]) == ("0,2-3", ["apparmor", "dac"])


def test_the_interfaces_of_a_host(cluster, tmp_path):
    cluster.add_host("h1")
    found = looked(tmp_path)
    assert found["links"] == ["br-int", "br0", "enp7s0", "eth1", "lo"]
    assert (found["bridges"], found["switches"]) == (["br0"], ["br-int"])
    assert found["addresses"] == ["127.0.0.1", "198.18.0.11", "::1"]


def test_the_interfaces_of_a_host_without_iproute2(cluster, tmp_path):
    h1 = cluster.add_host("h1")
    h1.interfaces = ["lo", "eth0"]
    found = looked(tmp_path, interfaces=[])
    assert found["links"] == ["eth0", "lo"]
    assert (found["bridges"], found["switches"], found["addresses"]) == (None, None, None)
    (tmp_path / "sys/class/net/br0/bridge").mkdir(parents=True)
    (tmp_path / "sys/class/net/lo").mkdir()
    found = looked(tmp_path, interfaces=[])
    assert (found["links"], found["bridges"], found["switches"]) == (["br0", "lo"], ["br0"], None)


def test_files_that_guests_name(cluster, tmp_path):
    cluster.add_host("h1")
    write(tmp_path, "/usr/share/OVMF/OVMF_CODE_4M.fd", "/srv/vmlinuz", "/usr/bin/swtpm")
    kernel = domain("a", requires=[{"kind": "file", "name": "/srv/vmlinuz", "what": "kernel"}])
    gone = domain("b", requires=[{"kind": "file", "name": "/srv/initrd", "what": "initrd"}])
    shared = domain("c", requires=[{"kind": "file", "name": "/shared/vmlinuz", "what": "kernel"}])
    mounts = [*LOCAL, {"path": "/shared", "type": "nfs4", "source": "nas:/guests", "shared": True}]
    found = looked(tmp_path, guests=[kernel, gone, shared], mounts=mounts, files=["/srv/of-another-host"])
    assert found["files"] == {
        "/dev/vhost-vsock": False,
        "/srv/initrd": False,
        "/srv/of-another-host": False,
        "/srv/vmlinuz": True,
        "/usr/bin/kvm": False,
        "/usr/bin/qemu-kvm": False,
        "/usr/bin/qemu-system-x86_64": False,
        "/usr/bin/swtpm": True,
        "/usr/libexec/qemu-kvm": False,
        "/usr/share/OVMF/OVMF_CODE_4M.fd": True,
    }
    assert "/usr/share/OVMF" in found["listed"]


@pytest.mark.parametrize("told", [{"shared": True}, {"shared": False, "undeclared": True}])
def test_no_server_is_waited_for(cluster, tmp_path, told):
    """A file on storage of several hosts is not looked up, whatever libvirt takes that storage for."""
    cluster.add_host("h1")
    write(tmp_path, "/share/nvram/x")
    mounts = [*LOCAL, {"path": "/share", "type": "fuse.moosefs", "source": "m:9421", **told}]
    guest = domain(
        "a", requires=[{"kind": "file", "name": "/share/nvram", "what": "directory of the firmware's variables"}]
    )
    assert "/share/nvram" not in looked(tmp_path, guests=[guest], mounts=mounts)["files"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], None),
        (["sys/fs/cgroup/machine.slice/machine-gold.slice/x.scope/cpu.max"], ["/machine", "/machine/gold"]),
        (
            ["sys/fs/cgroup/cgroup.procs", "etc/systemd/system/machine-a\\x2db.slice", "etc/systemd/system/x.service"],
            ["/machine/a-b"],
        ),
        (
            ["sys/fs/cgroup/cpu/machine/gold.partition/vm.libvirt-qemu/tasks", "sys/fs/cgroup/cpu/user/tasks"],
            ["/machine", "/machine/gold"],
        ),
        (["sys/fs/cgroup/systemd/machine.slice/machine-qemu.scope/tasks"], ["/machine"]),
    ],
)
def test_resource_partitions(tmp_path, paths, expected):
    write(tmp_path, *paths)
    assert partitions.partitions(tmp_path) == expected


def test_a_remote_host_is_asked_only_what_the_guest_names(cluster):
    h1, h2 = cluster.add_host("h1"), cluster.add_host("h2")
    h1.interfaces, h2.interfaces = ["lo", "br-dmz"], ["lo", "br0"]
    guest = domain("a", requires=[{"kind": "bridge", "name": "br-dmz"}, {"kind": "pool", "name": "vms"}])
    found = asked(guest, read_only=True)
    assert (found["links"], found["pools"], found["networks"], found["secrets"]) == (["br0", "lo"], {}, None, None)


def test_interfaces_count_only_where_libvirt_tells_those_of_the_guests_own_host(cluster):
    """Both hosts are containers, and /sys has the interfaces of the machine."""
    h1, h2 = cluster.add_host("h1"), cluster.add_host("h2")
    h1.interfaces = h2.interfaces = ["lo", "eth0"]
    assert asked(domain("a", requires=[{"kind": "bridge", "name": "br-dmz"}]))["links"] is None


def test_the_interfaces_that_a_remote_libvirt_tells_as_devices(cluster, monkeypatch):
    cluster.add_host("h1")
    names = ["net_lo_00_00_00_00_00_00", "net_br_dmz_52_54_00_aa_bb_cc", "pci_0000_00_1f_6"]
    monkeypatch.setattr(libvirt.Connection, "listAllDevices", lambda _self, _flags: [libvirt.Named(n) for n in names])
    guest = domain("a", requires=[{"kind": "bridge", "name": "br-dmz"}])
    assert asked(guest)["links"] == ["br_dmz", "lo"]
    # Without the loopback it is no list of all interfaces.
    del names[0]
    assert asked(guest)["links"] is None


def test_the_emulator_at_a_remote_host(cluster):
    h1 = cluster.add_host("h1")
    h1.emulators = ["/opt/qemu"]
    for path, answer in (("/opt/qemu", True), ("/usr/libexec/qemu-kvm", False)):
        assert asked(domain(emulator=path))["files"] == {path: answer}
        # libvirt does not tell over a read-only connection.
        assert asked(domain(emulator=path), read_only=True)["files"] == {path: None}


def test_devices_that_guests_name_and_the_host_has_mounted(cluster, tmp_path):
    cluster.add_host("h1")
    with connect("qemu:///system", read_only=True) as connection:
        found = resources.of_this_host(
            connection,
            capabilities.parse(connection.getCapabilities()),
            interfaces=INTERFACES,
            guests=(),
            mounts=LOCAL,
            files=["/dev/sdb", "/dev/sdc", "/srv/vmlinuz"],
            root=tmp_path,
            mounted_at={"/dev/sdb": "/mnt", "/srv/vmlinuz": "/"}.get,
        )
    # Only devices are asked about.
    assert found["mounted"] == {"/dev/sdb": "/mnt"}
