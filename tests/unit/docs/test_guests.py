# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operators' table of guests says what the code does.

Each row with a code has an example here, or its code is elsewhere in the code, where other tests hold its text.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers, emulated_devices
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.remarks import remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import managers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import resource_refusals
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import Lost, Place, located
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import shown
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, snapshot

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/guests.md").read_text("utf-8")
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([\w]+)` \| ([^|]+) \|$", PAGE, re.MULTILINE)

ADDRESS = "<address domain='0x0000' bus='0x3b' slot='0x02' function='0x1'/>"
PCI = f"<hostdev type='pci'><source>{ADDRESS}</source></hostdev>"
VIRTIOFS = "<filesystem><driver type='virtiofs'/><source dir='/srv'/></filesystem>"
OLD, NEW = (7, 2, 0), (10, 2, 0)

#: What is in <devices>, and what the host tells.
DEVICES = {
    "fill_unfinished": (
        (
            "<disk type='file'><target dev='vda'/><source file='/img/a.qcow2'/><backingStore type='network'>"
            "<source protocol='nbd' name='disk'>"
            "<host transport='unix' socket='/run/kvmops/fill/fill-0123abcd/0'/></source>"
            "</backingStore></disk>"
        ),
        {},
    ),
    "hostdev": (PCI, {}),
    "mdev": ("<hostdev type='mdev'><source><address uuid='4b20'/></source></hostdev>", {}),
    "hostdev_interface": (
        f"<interface type='hostdev'><mac address='52:54:00:00:00:01'/><source>{ADDRESS}</source></interface>",
        {},
    ),
    "passed_through": (PCI, {"qemu": NEW, "drivers": {"0000:3b:02.1": "mlx5_vfio_pci"}}),
    "vhost_vdpa": (
        "<interface type='vdpa'><mac address='52:54:00:00:00:01'/><source dev='/dev/vhost-vdpa-0'/></interface>",
        {"qemu": OLD},
    ),
    "usb_hostdev": ("<hostdev type='usb'><source><vendor id='0x1234'/><product id='0xbeef'/></source></hostdev>", {}),
    "virgl": ("<video><model type='virtio'><acceleration accel3d='yes'/></model></video>", {}),
    "smartcard": ("<smartcard mode='host'/>", {}),
    "host_serial": ("<serial type='dev'><source path='/dev/ttyS0'/></serial>", {}),
    "host_parallel": ("<parallel type='dev'><source path='/dev/parport0'/></parallel>", {}),
    "host_input": ("<input type='evdev'><source dev='/dev/input/event1'/></input>", {}),
    "shmem": ("<shmem name='bus'><model type='ivshmem-plain'/></shmem>", {}),
    "usb_serial": ("<serial type='pty'><target type='usb-serial'/></serial>", {}),
    "usb_sound": ("<sound model='usb'/>", {}),
    "virtio_sound": ("<sound model='virtio'/>", {}),
    "crypto": ("<crypto model='virtio'/>", {}),
    "usb_net": ("<interface type='user'><model type='usb-net'/></interface>", {}),
    "usb_mtp": ("<filesystem><driver type='mtp'/><source dir='/srv'/></filesystem>", {}),
    "virtio_pmem": ("<memory model='virtio-pmem'/>", {}),
    "amd_iommu": ("<iommu model='amd'/>", {"qemu": OLD}),
    "vdagent": ("<channel type='qemu-vdagent'/>", {"qemu": OLD}),
    "virtio_gpu_blob": ("<video><model type='virtio' blob='on'/></video>", {"qemu": OLD}),
    "nvme_emulation": ("<disk type='file'><source file='/a'/><target dev='nvme0n1' bus='nvme'/></disk>", {}),
    "virtiofs": (VIRTIOFS, {"libvirt": (9, 0, 0)}),
    "virtiofs_local": (VIRTIOFS, {"local_places": {"/srv": "ext4"}}),
    "mounted_9p": ("<filesystem><source dir='/srv'/></filesystem>", {}),
    "host_drive": ("<disk type='block' device='cdrom'><source dev='/dev/sr0'/><target dev='sda'/></disk>", {}),
    "vhostuser_disk": ("<disk type='vhostuser'><source path='/run/v.sock'/><target dev='vda'/></disk>", {}),
    "nvme_disk": (f"<disk type='nvme'><source>{ADDRESS}</source><target dev='vda'/></disk>", {}),
    "transient_disk": ("<disk type='file'><source file='/a'/><target dev='vda'/><transient/></disk>", {}),
    "vvfat": ("<disk type='dir'><source dir='/srv'/><target dev='vda'/></disk>", {}),
    "image_format": (
        "<disk type='file'><driver type='vmdk'/><source file='/a.vmdk'/><target dev='vda'/></disk>",
        {},
    ),
    "scsi_reservations": (
        (
            "<disk type='block' device='lun'><source dev='/dev/sdb'><reservations managed='yes'/></source>"
            "<target dev='sda'/></disk>"
        ),
        {},
    ),
    "device_mounted": (
        "<disk type='block'><source dev='/dev/sdb'/><target dev='vdb'/></disk>",
        {"mounted": {"/dev/sdb": "/mnt"}},
    ),
    "block_job": ("<disk type='file'><source file='/a'/><mirror type='file'/><target dev='vda'/></disk>", {}),
    "tpm_passthrough": ("<tpm><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>", {}),
    "tpm_shared_state": ("<tpm><backend type='emulator'/></tpm>", {"tpm_shared": True, "swtpm_shared": False}),
}
#: What is in the definition besides <devices>, and what the host tells.
OTHERS = {
    "hyperv_passthrough": ("<features><hyperv mode='passthrough'/></features>", {}),
    "hyperv_reenlightenment": ("<features><hyperv><reenlightenment state='on'/></hyperv></features>", {}),
    "invtsc": ("<cpu><feature policy='require' name='invtsc'/></cpu>", {}),
    "cpu_not_migratable": ("<cpu mode='host-passthrough' migratable='off'/>", {}),
    "confidential": ("<launchSecurity type='sev'/>", {}),
    "snapshots": ("", {"snapshots": 2}),
    "autodestroy": ("", {"autodestroy": True}),
    "nvram_local": (
        "<os><nvram type='block'><source dev='/dev/vg0/nv'/></nvram></os>",
        {"local_places": {"/dev/vg0/nv": "local block device sda"}},
    ),
    "qemu_arguments": (
        "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg/></q:commandline>",
        {},
    ),
}
LOCAL = Place(False, "ext4")
SHARED = Place(True, "nfs4 (nas:/g)")
#: A disk, where its image is, and where its layers are.
DISKS = {
    "undeclared_share": (
        {"source": "/mfs/a.qcow2", "type": "file"},
        Place(False, "fuse.moosefs (m:9421)", "/mfs"),
        [],
    ),
    "unshared_layer": (
        {"source": "/g/a.qcow2", "type": "file", "layers": [{"source": "/srv/a.raw", "role": "data"}]},
        SHARED,
        [LOCAL],
    ),
    "volume_not_found": (
        {"source": "images/web1", "type": "volume"},
        Place(
            False, lost=Lost("is in storage pool images of this host, which is not active", "virsh pool-start images")
        ),
        [],
    ),
    "local_server": ({"source": "nbd+localhost:x", "type": "network"}, Place(False, "nbd on localhost"), []),
}
#: What web1 names on h1, and what of that h2 tells.
NEEDS = {
    "no_bridge": ({"kind": "bridge", "name": "br0"}, {}),
    "no_network": ({"kind": "network", "name": "front"}, {}),
    "network_inactive": ({"kind": "network", "name": "front"}, {"networks": {"front": False}}),
    "no_link": ({"kind": "link", "name": "eno2"}, {}),
    "no_filter": ({"kind": "filter", "name": "clean-traffic"}, {}),
    "no_pool": ({"kind": "pool", "name": "images"}, {}),
    "pool_inactive": ({"kind": "pool", "name": "images"}, {"pools": {"images": False}}),
    "no_secret": ({"kind": "secret", "name": "4dea22b3"}, {}),
    "no_file": ({"kind": "file", "name": "/boot/vmlinuz", "what": "kernel"}, {}),
    "no_volume": ({"kind": "volume", "name": "iso/a.iso", "what": "medium in sda"}, {}),
    "no_device": ({"kind": "file", "name": "/dev/vg0/db", "what": "disk vda"}, {}),
    "device_mounted_there": (
        {"kind": "file", "name": "/dev/sdb", "what": "device of disk vda", "alone": True},
        {"mounted": {"/dev/sdb": "/mnt"}},
    ),
    "no_emulator": ({"kind": "emulator", "name": "/opt/qemu"}, {}),
    "no_cpus": ({"kind": "cpus", "name": "40-43"}, {"cpus": "0-15"}),
    "no_cells": ({"kind": "cells", "name": "3"}, {}),
    "no_address": ({"kind": "address", "name": "192.0.2.1"}, {}),
    "no_security_driver": ({"kind": "security_model", "name": "apparmor"}, {}),
    "no_partition": ({"kind": "partition", "name": "/machine/gold"}, {}),
}


def said(code):
    """Whether it is a blocker or a remark, and its reason; None for a code that is not exemplified here."""
    if code == "managed":
        found = managers.managed(domain(managed_by="OpenStack"), intent.normalise({}))
        return "permitted", found["reason"]
    if code in DISKS:
        disk, top, below = DISKS[code]
        found = located({"target": "vda", **disk}, top, below)["uncopyable"]
        assert found["code"] == code
        return "no", found["reason"]
    if code in NEEDS:
        requirement, resources = NEEDS[code]
        found = resource_refusals.lack(requirement, domain("web1"), snapshot("h1"), snapshot("h2", resources=resources))
        assert found["code"] == code
        return "if", found["reason"]
    if code == "dropped_medium":
        disk = {"target": "sda", "source": "/iso/a.iso", "startup_policy": "optional", "shared": False}
        (found,) = remarks(ET.fromstring("<domain/>"), Facts(), [disk])
        return "remark", found["reason"]
    if code not in {**DEVICES, **OTHERS}:
        return None
    inner, facts = DEVICES.get(code) or OTHERS[code]
    inner = f"<devices>{inner}</devices>" if code in DEVICES else inner
    root, given = ET.fromstring(f"<domain type='kvm'><name>web1</name>{inner}</domain>"), Facts(**facts)
    kinds = (("no", blockers.blockers(root, given)), ("remark", remarks(root, given, [])))
    return next((kind, one["reason"]) for kind, found in kinds for one in found if one["code"] == code)


def test_the_page_has_rows():
    assert len(ROWS) > 50
    assert len({code for _what, _moves, code, _said in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("what", "moves", "code", "text"), ROWS, ids=[row[2] for row in ROWS])
def test_each_row_says_what_the_code_says(what, moves, code, text):
    example = said(code)
    if example is None:
        sources = (path.read_text("utf-8") for path in (ROOT / "plugins/module_utils").rglob("*.py"))
        assert any(f'"{code}"' in source for source in sources), f"no code says {code}"
        return
    kind, reason = example
    assert text == reason
    assert moves.split()[0] in ({"no", "from"} if kind == "no" else {kind})


@pytest.mark.parametrize("code", [*DEVICES, *OTHERS, *DISKS, *NEEDS, "managed", "dropped_medium"])
def test_each_rule_has_a_row(code):
    assert code in {row[2] for row in ROWS}


@pytest.mark.parametrize("device", emulated_devices.DEVICES, ids=[one.code for one in emulated_devices.DEVICES])
def test_versions_of_emulated_devices(device):
    (moves,) = [row[1] for row in ROWS if row[2] == device.code]
    assert moves == (f"from QEMU {shown(device.since)}" if device.since else "no")


def test_no_rule_is_without_an_example():
    """Each code that a rule can yield is in this file, so a new rule needs a row."""
    folder = ROOT / "plugins/module_utils/core/blockers"
    text = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    codes = set(re.findall(r'refusal\(\s*"(\w+)"', text))
    codes |= {"mdev", "hostdev"} | {one.code for one in emulated_devices.DEVICES}
    assert codes - {"hypervisor"} <= {*DEVICES, *OTHERS, "dropped_medium"}
