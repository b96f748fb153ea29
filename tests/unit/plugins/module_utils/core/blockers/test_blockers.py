# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts

FIXTURES = Path(__file__).parents[4] / "fixtures"
ADDRESS = "<address domain='0x0000' bus='0x3b' slot='0x00' function='0x1'/>"


def found(inner, facts=None, kind="kvm", name="web1"):
    root = ET.fromstring(f"<domain type='{kind}'>{inner}</domain>")
    ET.SubElement(root, "name").text = name
    return [(b["code"], b["reason"]) for b in blockers.blockers(root, facts or Facts())]


def device(inner, **arguments):
    return found(f"<devices>{inner}</devices>", **arguments)


def test_a_plain_guest_has_none():
    root = ET.parse(FIXTURES / "domain_with_disk.xml").getroot()
    assert blockers.blockers(root, Facts(libvirt=(11, 3, 0))) == []


@pytest.mark.parametrize(
    ("inner", "code", "reason"),
    [
        (
            f"<hostdev mode='subsystem' type='pci'><source>{ADDRESS}</source></hostdev>",
            "hostdev",
            "PCI device 0000:3b:00.1 of the host is passed through",
        ),
        (
            "<hostdev mode='subsystem' type='mdev'><source><address uuid='c2177883'/></source></hostdev>",
            "mdev",
            "mediated device c2177883 of the host is passed through",
        ),
        (
            "<hostdev mode='subsystem' type='scsi'><source/></hostdev>",
            "hostdev",
            "a SCSI device of the host is passed through",
        ),
        (
            "<hostdev type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>",
            "usb_hostdev",
            "USB device 1234:beef of the host is passed through and must be there wherever the guest runs",
        ),
        (
            f"<interface type='hostdev'><mac address='52:54:00:00:00:01'/><source>{ADDRESS}</source></interface>",
            "hostdev_interface",
            "network interface 52:54:00:00:00:01 is a device of the host passed through (0000:3b:00.1)",
        ),
        (
            "<interface type='vdpa'><mac address='52:54:00:00:00:01'/><source dev='/dev/vhost-vdpa-0'/></interface>",
            "vhost_vdpa",
            "network interface 52:54:00:00:00:01 is a vDPA device of the host (/dev/vhost-vdpa-0)",
        ),
        (
            "<disk type='file'><source file='/a'/><target dev='vda'/><transient/></disk>",
            "transient_disk",
            "disk vda is transient: what the guest writes to it is thrown away at its end",
        ),
        (
            f"<disk type='nvme'><source type='pci'>{ADDRESS}</source><target dev='vda'/></disk>",
            "nvme_disk",
            "disk vda is an NVMe device of the host passed through (0000:3b:00.1)",
        ),
        (
            "<disk type='block' device='cdrom'><source dev='/dev/sr0'/><target dev='sda'/></disk>",
            "host_drive",
            "disk sda is the drive of the host itself (/dev/sr0)",
        ),
        (
            "<disk type='file'><driver type='vmdk'/><source file='/a.vmdk'/><target dev='vda'/></disk>",
            "image_format",
            "disk vda (/a.vmdk) is a vmdk image, which QEMU cannot migrate",
        ),
        (
            (
                "<disk type='file'><driver type='qcow2'/><source file='/a'/><backingStore type='file'>"
                "<format type='vdi'/><source file='/b'/></backingStore><target dev='vda'/></disk>"
            ),
            "image_format",
            "disk vda (/a) is a vdi image, which QEMU cannot migrate",
        ),
        (
            "<disk type='file'><source file='/a'/><target dev='nvme0' bus='nvme'/></disk>",
            "nvme_emulation",
            "disk nvme0 is on an emulated NVMe controller, which QEMU cannot migrate",
        ),
        (
            "<disk type='file'><source file='/a'/><mirror type='file' job='copy'/><target dev='vda'/></disk>",
            "block_job",
            "a block job (copy, commit, pull or backup) works on vda",
        ),
        (
            "<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>",
            "tpm_passthrough",
            "the TPM of the host (/dev/tpm0) is passed through",
        ),
        (
            "<shmem name='bus'><model type='ivshmem'/></shmem>",
            "shmem",
            "memory bus is shared with others on this host (ivshmem)",
        ),
        (
            "<shmem name='bus' role='peer'><model type='ivshmem-plain'/></shmem>",
            "shmem",
            "memory bus is shared with others on this host (ivshmem-plain)",
        ),
        (
            "<video><model type='virtio'><acceleration accel3d='yes'/></model></video>",
            "virgl",
            "the guest's display draws with the host's GPU (virgl)",
        ),
        *(
            (
                f"<{tag} type='dev'><source path='/dev/ttyS0'/></{tag}>",
                "host_serial",
                "a serial port of the host is passed through",
            )
            for tag in ("serial", "console", "channel")
        ),
    ],
)
def test_devices(inner, code, reason):
    assert device(inner) == [(code, reason)]


@pytest.mark.parametrize(
    "inner",
    [
        "<hostdev mode='subsystem' type='usb'><source startupPolicy='optional'><vendor id='1'/></source></hostdev>",
        f"<hostdev type='pci'><source>{ADDRESS}</source><teaming type='transient' persistent='ua-1'/></hostdev>",
        f"<interface type='hostdev'><source>{ADDRESS}</source><teaming type='transient' persistent='x'/></interface>",
        "<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>",
        "<disk type='block' device='cdrom'><target dev='sda'/><readonly/></disk>",
        "<shmem name='bus' role='master'><model type='ivshmem-plain'/></shmem>",
        "<tpm><backend type='emulator'/></tpm>",
        "<serial type='pty'/>",
    ],
)
def test_what_looks_alike_but_can_move(inner):
    assert device(inner) == []


def test_snapshots_are_counted_and_the_name_is_quoted_for_a_shell():
    root = ET.fromstring("<domain type='kvm'><name>my web's</name></domain>")
    (blocker,) = blockers.blockers(root, Facts(snapshots=2))
    assert blocker["reason"] == "the guest has 2 snapshots, which libvirt cannot move"
    assert """virsh snapshot-list 'my web'"'"'s'""" in blocker["remedy"]


def test_block_jobs_by_name():
    assert found("", Facts(block_jobs=("vda", "vdb"))) == [
        ("block_job", "a block job (copy, commit, pull or backup) works on vda and vdb")
    ]


def test_invtsc_needs_a_frequency():
    cpu = "<cpu mode='host-model'><feature policy='require' name='invtsc'/></cpu>"
    assert found(cpu) == [("invtsc", "the guest has the CPU feature invtsc, but no TSC frequency is set")]
    assert found(cpu + "<clock><timer name='tsc' frequency='2400000000'/></clock>") == []
    assert found(cpu.replace("require", "disable")) == []


def test_a_tpm_on_shared_storage_depends_on_swtpm():
    inner = "<tpm><backend type='emulator'/></tpm>"
    assert [code for code, _reason in device(inner, facts=Facts(tpm_shared=True, swtpm_shared=False))] == [
        "tpm_shared_state"
    ]
    assert device(inner, facts=Facts(tpm_shared=True)) == []


def test_other_settings():
    assert [code for code, _reason in found("<launchSecurity type='sev'/>")] == ["confidential"]
    assert [code for code, _reason in found("", Facts(autodestroy=True))] == ["autodestroy"]
    assert [code for code, _reason in found("<cpu mode='host-passthrough' migratable='off'/>")] == [
        "cpu_not_migratable"
    ]
    assert found("", kind="lxc") == [("hypervisor", "the guest is of type lxc, not kvm or qemu")]


def test_several_are_all_told():
    inner = f"<hostdev type='pci'><source>{ADDRESS}</source></hostdev><crypto model='virtio'/>"
    assert [code for code, _reason in device(inner, facts=Facts(snapshots=1))] == ["hostdev", "snapshots", "crypto"]
