# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.remarks import remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts

VIRTIOFS = "<filesystem><driver type='virtiofs'/><source dir='/srv/web'/><target dir='t'/>{}</filesystem>"


def found(inner, **facts):
    root = ET.fromstring(f"<domain type='kvm'><devices>{inner}</devices></domain>")
    return [(one["code"], one["reason"]) for one in blockers.blockers(root, Facts(**facts))]


@pytest.mark.parametrize(
    ("libvirt", "qemu", "who"),
    [
        ((9, 0, 0), (8, 2, 0), "libvirt 9.0"),
        ((10, 5, 0), (9, 0, 0), "libvirt 10.5"),
        ((11, 3, 0), (7, 2, 22), "QEMU 7.2.22"),
    ],
)
def test_virtiofs_needs_a_libvirt_and_a_qemu_that_can(libvirt, qemu, who):
    assert found(VIRTIOFS.format(""), libvirt=libvirt, qemu=qemu) == [
        ("virtiofs", f"the host's directory /srv/web is shared with the guest by virtiofs, which {who} cannot migrate")
    ]


def test_virtiofs_moves_if_the_destination_has_the_same_files():
    new = {"libvirt": (10, 6, 0), "qemu": (8, 2, 0)}
    assert found(VIRTIOFS.format(""), **new) == []
    assert found(VIRTIOFS.format("")) == []
    assert found(VIRTIOFS.format(""), **new, local_places={"/srv/web": "ext4"}) == [
        (
            "virtiofs_local",
            (
                "the host's directory /srv/web is shared with the guest by virtiofs and is on local storage (ext4), so "
                "the destination has other files there"
            ),
        )
    ]
    assert found(VIRTIOFS.format("<readonly/>"), **new, local_places={"/srv/web": "ext4"}) == []


@pytest.mark.parametrize("driver", ["", "<driver type='path' wrpolicy='immediate'/>"])
def test_whether_9p_is_mounted_only_qemu_knows(driver):
    inner = f"<filesystem type='mount'>{driver}<source dir='/srv'/><target dir='t'/></filesystem>"
    assert found(inner) == []
    root = ET.fromstring(f"<domain type='kvm'><devices>{inner}</devices></domain>")
    (remark,) = remarks(root, Facts(), [])
    assert remark == {
        "code": "mounted_9p",
        "reason": "the host's directory /srv is offered to the guest by 9p, and QEMU cannot migrate the guest while it "
        "has that mounted",
        "remedy": "unmount it in the guest, and have the directory at the destination; libvirt asks QEMU when the move "
        "begins, and a guest that cannot move stays as it is",
    }
