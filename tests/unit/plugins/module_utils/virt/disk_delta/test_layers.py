# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import layers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.layers import Layer
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.old_copy import OldCopy
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.sending import SentDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import disk_deltas

MIB = 1 << 20
UUID = "7c3c4f8a-63ca-5da2-bb74-dc6f8fc4553a"


class Library:
    """What is used of libvirt."""

    VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY = 16
    VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC = 128
    VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA = 8
    VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT = 32
    VIR_DOMAIN_BLOCK_COMMIT_ACTIVE = 4
    VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT = 2

    class libvirtError(Exception):  # noqa: N801 - its name
        pass


class Domain:
    """A running guest, whose block jobs are ready when they were asked for once."""

    def __init__(self, **images):
        self.images, self.jobs, self.base, self.looks = images, {}, {}, 0
        self.fails = self.ends_early = False
        self.snapshots = []

    def name(self):
        return "web1"

    def UUIDString(self):  # noqa: N802
        return UUID

    def XMLDesc(self, _flags):  # noqa: N802
        root = ET.Element("domain")
        devices = ET.SubElement(root, "devices")
        for target, path in self.images.items():
            disk = ET.SubElement(devices, "disk")
            ET.SubElement(disk, "source", file=path)
            ET.SubElement(disk, "target", dev=target)
            if target in self.jobs:
                ET.SubElement(disk, "mirror", ready="yes" if self.jobs[target] > 1 else "no")
        return ET.tostring(root, encoding="unicode")

    def snapshotCreateXML(self, xml, flags):  # noqa: N802
        if self.fails:
            raise Library.libvirtError("no")
        self.snapshots.append(flags)
        for disk in ET.fromstring(xml).findall("disks/disk"):
            if disk.get("snapshot") == "external":
                self.images[disk.get("name")] = disk.find("source").get("file")

    def blockCommit(self, target, base, top, _bandwidth, flags):  # noqa: N802
        assert (top, flags) == (None, Library.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
        assert target not in self.jobs
        self.jobs[target], self.base[target] = 0, base

    def blockJobInfo(self, target, _flags):  # noqa: N802
        if target not in self.jobs:
            return {}
        self.jobs[target] += 1
        if self.ends_early and self.jobs[target] > 1:
            del self.jobs[target]
            return {}
        return {"type": 4}

    def blockJobAbort(self, target, flags):  # noqa: N802
        assert (self.jobs.pop(target) > 1, flags) == (True, Library.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
        self.images[target] = self.base[target]


@pytest.fixture(autouse=True)
def library(monkeypatch):
    monkeypatch.setattr(virt, "libvirt", Library)
    monkeypatch.setattr(layers, "POLL_S", 0)


@pytest.fixture
def images(tmp_path):
    for name in ("a.raw", "b.raw"):
        (tmp_path / name).write_bytes(bytes(MIB))
    return tmp_path


def layer(images, target="vda", name="a.layer.qcow2", below="a.raw"):
    return Layer(target, str(images / name), str(images / below), "raw", MIB)


def files(images):
    return sorted(path.name for path in images.iterdir())


def test_a_layer_is_laid_over_the_disk_that_is_named_and_over_no_other(images):
    domain = Domain(vda=str(images / "a.raw"), vdb=str(images / "b.raw"))
    layers.lay(domain, [layer(images)])
    assert layers.sources(domain) == {"vda": str(images / "a.layer.qcow2"), "vdb": str(images / "b.raw")}
    assert (images / "a.layer.qcow2").stat().st_mode & 0o777 == 0o600
    assert (images / "a.layer.qcow2").read_bytes()[:4] == b"QFI\xfb"
    assert domain.snapshots == [16 | 128 | 8 | 32]


def test_nothing_is_left_of_layers_that_could_not_be_laid(images):
    domain = Domain(vda=str(images / "a.raw"))
    domain.fails = True
    with pytest.raises(Library.libvirtError):
        layers.lay(domain, [layer(images)])
    assert files(images) == ["a.raw", "b.raw"]


def test_what_is_there_already_is_not_written_over(images):
    (images / "a.layer.qcow2").write_text("precious", encoding="utf-8")
    domain = Domain(vda=str(images / "a.raw"))
    with pytest.raises(FileExistsError):
        layers.lay(domain, [layer(images)])
    assert (images / "a.layer.qcow2").read_text(encoding="utf-8") == "precious"
    assert domain.snapshots == []


@pytest.mark.parametrize("begun", [False, True])
def test_layers_are_merged_also_where_a_run_that_died_has_begun_it(begun):
    domain = Domain(vda="/images/a.2")
    if begun:
        domain.blockCommit("vda", "/images/a", None, 0, 4)
    layers.merge(domain, "vda", "/images/a")
    assert (domain.images, domain.jobs) == ({"vda": "/images/a"}, {})


def test_nothing_is_merged_twice():
    domain = Domain(vda="/images/a")
    layers.merge(domain, "vda", "/images/a")
    assert domain.base == {}


def test_a_merge_that_ends_too_early_is_named():
    domain = Domain(vda="/images/a.2")
    domain.ends_early = True
    with pytest.raises(virt.VirtError, match="disk vda of web1 still has an overlay over /images/a"):
        layers.merge(domain, "vda", "/images/a")
    assert domain.images == {"vda": "/images/a.2"}


def sent(images):
    old = OldCopy("vda", "images", "a.raw", "/images/a.raw", "raw", {})
    disk = SentDisk(old, str(images / "a.raw"), "raw", MIB)
    disk.layers, disk.overlays = [str(images / "a.1"), str(images / "a.2")], ["a.1", "a.2"]
    return disk


@pytest.mark.parametrize("laid", [1, 2])
def test_a_guest_uses_its_image_again_after_a_run_that_died(images, tmp_path, laid):
    disk = sent(images)
    begun = {"schema": begun_copies.SCHEMA, "guest": {"name": "web1", "uuid": UUID}, "destination": "h1"}
    begun_copies.store(str(tmp_path / "state"), {**begun, "disks": [disk_deltas.begun_disk(disk)]})
    for path in disk.layers[:laid]:
        layers._make(layer(images, name=path))
    domain = Domain(vda=disk.layers[laid - 1])
    assert disk_deltas.DiskDeltas(str(tmp_path / "state")).restore_after_crash(domain) == []
    assert domain.images == {"vda": str(images / "a.raw")}
    assert [name for name in files(images) if name.startswith("a.")] == ["a.raw"]


def test_what_cannot_be_merged_stays_and_is_named(images, tmp_path):
    disk = sent(images)
    layers._make(layer(images, name=disk.layers[0]))
    domain = Domain(vda=disk.layers[0])
    domain.ends_early = True
    (fault,) = disk_deltas.DiskDeltas(str(tmp_path)).restore(domain, [disk])
    assert fault.startswith(f"disk vda still has an overlay over {images}/a.raw")
    assert (images / "a.1").exists()
