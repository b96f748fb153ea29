# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts

#: (what the guest has, code, how the reason names it, the first QEMU that can migrate it)
KINDS = [
    (
        "<serial type='pty'><target type='usb-serial' port='0'><model name='usb-serial'/></target></serial>",
        "usb_serial",
        "a USB serial port",
        None,
    ),
    ("<sound model='usb'/>", "usb_sound", "a USB sound card", None),
    ("<sound model='virtio'/>", "virtio_sound", "a virtio sound card", None),
    (
        "<crypto model='virtio' type='qemu'><backend model='builtin'/></crypto>",
        "crypto",
        "a virtio crypto device",
        None,
    ),
    (
        "<interface type='network'><source network='n'/><model type='usb-net'/></interface>",
        "usb_net",
        "a USB network card",
        None,
    ),
    (
        "<filesystem type='mount'><driver type='mtp'/><source dir='/srv/p'/><target dir='t'/></filesystem>",
        "usb_mtp",
        "a directory of the host as a USB device (MTP)",
        None,
    ),
    (
        "<memory model='virtio-pmem'><source><path>/nv/db1</path></source></memory>",
        "virtio_pmem",
        "virtio persistent memory (virtio-pmem)",
        None,
    ),
    ("<iommu model='amd'><driver intremap='on'/></iommu>", "amd_iommu", "an AMD IOMMU", (10, 1, 0)),
    (
        "<channel type='qemu-vdagent'><target type='virtio' name='com.redhat.spice.0'/></channel>",
        "vdagent",
        "a clipboard channel (qemu-vdagent)",
        (10, 1, 0),
    ),
    (
        "<video><model type='virtio' blob='on'/></video>",
        "virtio_gpu_blob",
        "a virtio display with blob resources",
        (8, 2, 0),
    ),
]


def found(inner, **facts):
    root = ET.fromstring(f"<domain type='kvm'><name>db 1</name><devices>{inner}</devices></domain>")
    return blockers.blockers(root, Facts(**facts))


@pytest.mark.parametrize(("inner", "code", "what", "since"), KINDS)
def test_each_device_by_its_own_reason(inner, code, what, since):
    (blocker,) = found(inner, qemu=(7, 2, 0))
    qemu = "QEMU" if since is None else "QEMU 7.2"
    assert (blocker["code"], blocker["reason"]) == (code, f"the guest has {what}, which {qemu} cannot migrate")
    assert ("upgrade QEMU" in blocker["remedy"]) == (since is not None)


@pytest.mark.parametrize(("inner", "code", "what", "since"), [kind for kind in KINDS if kind[3]])
def test_a_device_that_qemu_has_learned_to_migrate(inner, code, what, since):
    assert found(inner, qemu=since) == []
    assert found(inner, qemu=(20, 0, 0)) == []
    assert found(inner) == [], "no version is known, so nothing is held against it"
    before = (since[0] - 1, 99, 9) if since[1] == 0 else (since[0], since[1] - 1, 99)
    (blocker,) = found(inner, qemu=before)
    assert blocker["code"] == code
    assert blocker["remedy"].endswith(f"or upgrade QEMU to {since[0]}.{since[1]} or later and restart the guest")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind[3]])
def test_no_version_helps_against_the_others(kind):
    assert [one["code"] for one in found(kind[0], qemu=(20, 0, 0))] == [kind[1]]


def test_a_remedy_takes_the_name_as_a_shell_does():
    (blocker,) = found("<crypto model='virtio'/>")
    assert blocker["remedy"] == "detach it (virsh detach-device 'db 1' FILE)"


@pytest.mark.parametrize(
    "inner",
    [
        "<serial type='pty'><target type='isa-serial' port='0'/></serial>",
        "<sound model='ich9'/>",
        "<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>",
        "<iommu model='intel'/>",
        "<iommu model='virtio'/>",
        "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>",
        "<video><model type='virtio'/></video>",
        "<redirdev bus='usb' type='spicevmc'/>",
        "<memory model='nvdimm'><source><path>/nv/db1</path></source></memory>",
        "<memory model='virtio-mem'/>",
        "<controller type='scsi' model='lsisas1078'/>",
        "<disk type='file'><source file='/a'/><target dev='sda' bus='usb'/></disk>",
    ],
)
def test_their_relatives_can_be_migrated(inner):
    assert found(inner, qemu=(7, 2, 0)) == []


def test_a_controller_without_a_disk():
    (blocker,) = found("<controller type='nvme' index='0'/>")
    assert (blocker["code"], blocker["reason"]) == (
        "nvme_emulation",
        "the guest has an emulated NVMe controller, which QEMU cannot migrate",
    )
    disk = "<disk type='file'><source file='/a'/><target dev='nvme0n1' bus='nvme'/></disk>"
    assert [one["reason"] for one in found(f"<controller type='nvme' index='0'/>{disk}")] == [
        "disk nvme0n1 is on an emulated NVMe controller, which QEMU cannot migrate"
    ]


def test_all_of_them_at_once():
    every = "".join(kind[0] for kind in KINDS)
    assert [one["code"] for one in found(every, qemu=(7, 2, 0))] == [kind[1] for kind in KINDS]
