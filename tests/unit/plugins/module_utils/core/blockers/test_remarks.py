# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.remarks import remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts

QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


def guest(inner="", attributes=""):
    return ET.fromstring(f"<domain type='kvm' {attributes}><name>web 1</name>{inner}</domain>")


@pytest.mark.parametrize("kind", ["commandline", "override"])
def test_arguments_of_the_operators_own(kind):
    root = guest(f"<qemu:{kind}><qemu:arg value='-device'/></qemu:{kind}>", QEMU)
    assert blockers.blockers(root, Facts()) == []
    assert remarks(root, Facts(), []) == [
        {
            "code": "qemu_arguments",
            "reason": f"QEMU has arguments of the operator's own (qemu:{kind}), of which nothing is known",
            "remedy": "see that what they name is at the destination too, and that QEMU can migrate it",
        }
    ]


def test_no_arguments_no_remark():
    assert remarks(guest("<qemu:commandline/>", QEMU), Facts(), []) == []


@pytest.mark.parametrize(
    ("disk", "codes"),
    [
        ({"startup_policy": "optional", "shared": False}, ["dropped_medium"]),
        ({"startup_policy": "requisite", "shared": False}, ["dropped_medium"]),
        ({"startup_policy": "optional", "shared": True}, []),
        ({"startup_policy": None, "shared": False}, []),
    ],
)
def test_a_medium_that_the_guest_may_lose(disk, codes):
    found = remarks(guest(), Facts(), [{"target": "sdb", "source": "/iso/a.iso", **disk}])
    assert [one["code"] for one in found] == codes
    for one in found:
        assert one["reason"] == (
            "the medium in sdb (/iso/a.iso) is on local storage: the guest arrives without it if the destination does "
            "not have it"
        )
        assert one["remedy"] == "copy it there, or take it out (virsh change-media 'web 1' sdb --eject)"


NVRAM = "<os><nvram type='block' format='raw'><source dev='/dev/vg0/nv'/></nvram></os>"


def test_nvram_that_is_no_file_must_be_shared():
    assert blockers.blockers(guest(NVRAM), Facts()) == []
    (blocker,) = blockers.blockers(guest(NVRAM), Facts(local_places={"/dev/vg0/nv": "local block device sda"}))
    assert (blocker["code"], blocker["reason"]) == (
        "nvram_local",
        (
            "the guest's NVRAM (/dev/vg0/nv) is on local storage (local block device sda), and libvirt makes only "
            "files at the destination"
        ),
    )
    file = "<os><nvram type='file'><source file='/var/lib/nv.fd'/></nvram></os>"
    assert blockers.blockers(guest(file), Facts(local_places={"/var/lib/nv.fd": "ext4"})) == []
    assert blockers.blockers(guest("<os><nvram>/var/lib/nv.fd</nvram></os>"), Facts()) == []
