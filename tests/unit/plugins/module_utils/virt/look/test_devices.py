# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import storage
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.devices import HostDevices

MOUNTS = [
    {"path": "/", "type": "ext4", "source": "/dev/sda1", "shared": False},
    {"path": "/shared", "type": "nfs4", "source": "nas:/g", "shared": True},
    {"path": "/mfs", "type": "fuse.moosefs", "source": "m:9421", "shared": False, "undeclared": True},
]


@pytest.fixture
def facts(tmp_path):
    """What a host tells of a guest; the first argument is what is in the guest's definition."""
    found = HostDevices(storage.Storage(None, MOUNTS, tmp_path / "sys"), tmp_path / "sys")
    return lambda inner: found.facts_of(ET.fromstring(f"<domain>{inner}</domain>"), Facts(libvirt=(11, 3, 0)))


def test_facts_of_the_host_are_kept(facts):
    assert facts("") == Facts(libvirt=(11, 3, 0), drives=[])


@pytest.mark.parametrize(
    ("backend", "shared"),
    [
        ("<backend type='emulator'/>", False),
        ("<backend type='emulator'><source type='dir' path='/shared/tpm'/></backend>", True),
        ("<backend type='emulator'><source type='file' path='/shared/tpm/a'/></backend>", True),
        ("<backend type='emulator'><source type='dir' path='/srv/tpm'/></backend>", False),
        ("<backend type='passthrough'/>", None),
    ],
)
def test_the_state_of_a_tpm_may_have_a_place_of_its_own(facts, backend, shared):
    assert facts(f"<devices><tpm>{backend}</tpm></devices>").tpm_shared is shared


def test_the_driver_of_each_device_that_is_passed_through(facts, tmp_path):
    for bus, place, driver in (("pci", "0000:3b:02.1", "mlx5_vfio_pci"), ("mdev", "4b20", "nvidia-vgpu-vfio")):
        (tmp_path / "sys/bus" / bus / "drivers" / driver).mkdir(parents=True)
        (tmp_path / "sys/bus" / bus / "devices" / place).mkdir(parents=True)
        (tmp_path / "sys/bus" / bus / "devices" / place / "driver").symlink_to(
            tmp_path / "sys/bus" / bus / "drivers" / driver
        )
    found = facts(
        "<devices><interface type='hostdev'><source><address bus='0x3b' slot='2' function='1'/></source></interface>"
        "<hostdev type='pci'><source><address bus='0x3c' slot='0' function='0'/></source></hostdev>"
        "<hostdev type='mdev'><source><address uuid='4b20'/></source></hostdev>"
        "<hostdev type='mdev'><source><address uuid='../../x'/></source></hostdev>"
        "<hostdev type='usb'><source><vendor id='1'/></source></hostdev></devices>"
    )
    assert found.drivers == {"0000:3b:02.1": "mlx5_vfio_pci", "4b20": "nvidia-vgpu-vfio"}


def test_a_drive_is_known_behind_any_name(facts, monkeypatch):
    monkeypatch.setattr(storage.os.path, "realpath", lambda path: {"/dev/disk/by-id/dvd": "/dev/sr1"}.get(path, path))
    disks = "".join(
        f"<disk type='block' device='{device}'><source dev='{path}'/></disk>"
        for device, path in (
            ("cdrom", "/dev/disk/by-id/dvd"),
            ("cdrom", "/dev/vg0/iso"),
            ("lun", "/dev/disk/by-id/dvd"),
        )
    )
    assert facts(f"<devices>{disks}</devices>").drives == ["/dev/disk/by-id/dvd", "/dev/disk/by-id/dvd"]


def test_directories_and_nvram_on_local_storage(facts):
    found = facts(
        "<os><nvram type='block'><source dev='/dev/nowhere'/></nvram></os><devices>"
        "<filesystem><driver type='virtiofs'/><source dir='/srv/a'/></filesystem>"
        "<filesystem><driver type='virtiofs'/><source dir='/shared/b'/></filesystem>"
        "<filesystem><driver type='virtiofs'/><source dir='/mfs/c'/></filesystem>"
        "<filesystem><driver type='virtiofs'/><source socket='/run/d.sock'/></filesystem></devices>"
    )
    assert found.local_places == {"/srv/a": "ext4"}
    server = "<os><nvram type='network'><source protocol='nbd' name='n'><host name='localhost'/></source></nvram></os>"
    assert facts(server).local_places == {"nbd+localhost:n": "nbd on localhost"}


def test_disks_that_the_host_has_mounted(tmp_path):
    device = tmp_path / "sys/class/block/sdb"
    device.mkdir(parents=True)
    (device / "dev").write_text("8:16\n", encoding="ascii")
    (tmp_path / "lun").symlink_to("/dev/sdb")
    mounted = {"8:16": "/mnt"}
    found = HostDevices(storage.Storage(None, MOUNTS, tmp_path / "sys", mounted=mounted), tmp_path / "sys")
    disks = "".join(
        f"<disk type='block'><source dev='{path}'/></disk>" for path in ("/dev/sdb", str(tmp_path / "lun"), "/dev/sdz")
    )
    root = ET.fromstring(f"<domain><devices>{disks}<disk type='file'/></devices></domain>")
    assert found.facts_of(root, Facts()).mounted == {"/dev/sdb": "/mnt", str(tmp_path / "lun"): "/mnt"}
