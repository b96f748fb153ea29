# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look, layers

XML = """<domain><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/a.img' index='2'/>
  <backingStore/><target dev='vda'/></disk>
<disk type='file' device='disk'><source file='/b.qcow2'/><target dev='vdb'/></disk>
<disk type='file' device='cdrom'><source file='/c.iso'/><target dev='sda'/></disk>
</devices></domain>"""


def test_a_definition_stands_on_the_file_that_was():
    before = ET.fromstring(XML)
    after = guest_look.with_layers(before, {"vda": "/a.kvmops-1.qcow2"})
    disk = after.find("devices/disk")
    assert disk.find("source").attrib == {"file": "/a.kvmops-1.qcow2"}
    assert disk.find("driver").get("type") == "qcow2"
    assert disk.find("backingStore/source").get("file") == "/a.img"
    assert disk.find("backingStore/format").get("type") == "raw"
    assert disk.find("backingStore/backingStore") is not None
    assert ET.tostring(before) == ET.tostring(ET.fromstring(XML))
    # A second time changes nothing: a run that died may have done it already.
    assert ET.tostring(guest_look.with_layers(after, {"vda": "/a.kvmops-1.qcow2"})) == ET.tostring(after)


def test_only_disks_that_are_written_to_count():
    found = guest_look.disks_of(ET.fromstring(XML))
    assert [(disk.target, disk.path, disk.form) for disk in found] == [
        ("vda", "/a.img", "raw"),
        ("vdb", "/b.qcow2", "raw"),
    ]


@pytest.mark.parametrize(
    ("label", "group"), [("+64055:+64055", 64055), ("+0:+107", 107), ("libvirt-qemu:kvm", None), ("", None)]
)
def test_the_group_of_qemu_is_what_libvirt_says(label, group):
    xml = (
        "<capabilities><host><secmodel><model>dac</model><doi>0</doi>"
        f"<baselabel type='kvm'>{label}</baselabel></secmodel></host></capabilities>"
    )
    assert guest_look.qemu_group(SimpleNamespace(getCapabilities=lambda: xml)) == group


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/images/web1.qcow2", "/images/web1.kvmops-3.qcow2"),
        ("/images/web1.kvmops-2.qcow2", "/images/web1.kvmops-3.qcow2"),
        ("/images/web1.kvmops-2b.qcow2", "/images/web1.kvmops-3.qcow2"),
        ("/images/web1.img", "/images/web1.kvmops-3.qcow2"),
        ("/images/web1", "/images/web1.kvmops-3.qcow2"),
        ("/images/web.v2", "/images/web.v2.kvmops-3.qcow2"),
    ],
)
def test_layers_are_called_by_the_number_of_their_capsule(path, made):
    assert layers.path_beside(path, 3) == made


def test_no_file_is_taken_that_is_there(tmp_path):
    stem = str(tmp_path / "web1")
    taken = [layers.free_path(stem, 1)]
    (tmp_path / "web1.kvmops-1.qcow2").touch()
    (tmp_path / "web1.kvmops-1a.qcow2").symlink_to("/nowhere")
    assert taken[0].endswith("web1.kvmops-1.qcow2")
    assert layers.free_path(stem, 1).endswith("web1.kvmops-1b.qcow2")
    for letter in "bcdefghijklmnopqrstuvwxyz":
        (tmp_path / f"web1.kvmops-1{letter}.qcow2").touch()
    with pytest.raises(CapsuleError, match="remove those that no guest uses"):
        layers.free_path(stem, 1)


def test_a_layer_that_is_not_there_was_never_written_to(tmp_path):
    assert not layers.is_written(str(tmp_path / "none"))
