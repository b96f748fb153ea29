# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts


def found(inner, **facts):
    root = ET.fromstring(f"<domain type='kvm'><name>db1</name><devices>{inner}</devices></domain>")
    return blockers.blockers(root, Facts(**facts))


def media(path, device="cdrom", kind="block"):
    return f"<disk type='{kind}' device='{device}'><source dev='{path}'/><target dev='sda'/><readonly/></disk>"


@pytest.mark.parametrize(
    "path", ["/dev/sr0", "/dev/sr11", "/dev/scd0", "/dev/cdrom", "/dev/cdrom1", "/dev/dvd", "/dev/dvdrw", "/dev/fd0"]
)
def test_a_drive_of_the_host(path):
    (blocker,) = found(media(path))
    assert blocker == {
        "code": "host_drive",
        "reason": f"disk sda is the drive of the host itself ({path})",
        "remedy": "eject it: virsh change-media db1 sda --eject",
    }


@pytest.mark.parametrize("path", ["/dev/vg0/iso", "/dev/mapper/vg0-iso", "/dev/sdb", "/dev/srv/iso", "/dev/cdroms/x"])
def test_a_volume_as_a_medium_is_no_drive(path):
    assert found(media(path)) == []


def test_a_drive_by_another_name_is_told_by_its_host():
    path = "/dev/disk/by-id/usb-HP_DVD-0:0"
    assert found(media(path)) == []
    assert [one["code"] for one in found(media(path), drives=[path])] == ["host_drive"]
    assert [one["code"] for one in found(media(path, "floppy"), drives=[path])] == ["host_drive"]


@pytest.mark.parametrize("device", ["disk", "lun"])
def test_a_drive_of_the_host_that_is_no_medium(device):
    (blocker,) = found(media("/dev/sr0", device))
    assert (blocker["code"], blocker["reason"]) == ("host_drive", "disk sda is the drive of the host itself (/dev/sr0)")
    assert blocker["remedy"] == "detach it (virsh detach-disk db1 sda), or shut the guest down"


def test_a_disk_behind_vhost_user():
    inner = "<disk type='vhostuser'><source type='unix' path='/run/v/blk.sock'/><target dev='vdb' bus='virtio'/></disk>"
    assert found(inner) == [
        {
            "code": "vhostuser_disk",
            "reason": "disk vdb is served by a program on this host over vhost-user (/run/v/blk.sock), and libvirt "
            "cannot copy it",
            "remedy": "detach it (virsh detach-disk db1 vdb), or shut the guest down",
        }
    ]


@pytest.mark.parametrize(
    ("reservations", "codes"),
    [
        ("<reservations managed='yes'/>", ["scsi_reservations"]),
        (
            "<reservations managed='no'><source type='unix' path='/pr.sock' mode='client'/></reservations>",
            ["scsi_reservations"],
        ),
        ("<reservations enabled='no'/>", []),
        ("<reservations managed='yes' migration='yes'/>", []),
        ("", []),
    ],
)
def test_persistent_reservations(reservations, codes):
    inner = (
        f"<disk type='block' device='lun'><source dev='/dev/mapper/lun7'>{reservations}</source>"
        "<target dev='sda' bus='scsi'/></disk>"
    )
    assert [one["code"] for one in found(inner)] == codes


def test_every_data_file_counts_for_the_format():
    inner = (
        "<disk type='file'><driver type='qcow2'/><source file='/a'><dataStore type='file'><format type='vhdx'/>"
        "<source file='/b'/></dataStore></source><target dev='vda'/></disk>"
    )
    assert [one["code"] for one in found(inner)] == ["image_format"]


@pytest.mark.parametrize(("inner", "codes"), [("", ["device_mounted"]), ("<readonly/>", []), ("<shareable/>", [])])
def test_a_device_that_its_host_has_mounted(inner, codes):
    disk = f"<disk type='block'><source dev='/dev/sdb'/><target dev='vdb'/>{inner}</disk>"
    assert [one["code"] for one in found(disk, mounted={"/dev/sdb": "/mnt"})] == codes
    assert found(disk, mounted={"/dev/sdc": "/mnt"}) == []


def test_what_to_do_about_a_device_that_its_host_has_mounted():
    (why,) = found(
        "<disk type='block'><source dev='/dev/sdb'/><target dev='vdb'/></disk>", mounted={"/dev/sdb": "/a b"}
    )
    assert why["reason"] == "disk vdb (/dev/sdb) is mounted on this host as well, at /a b"
    assert why["remedy"] == "unmount it (umount '/a b'), or detach it from the guest (virsh detach-disk db1 vdb)"
