# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import Changes, OverlayFile
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import guest_layers
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import merging
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import LiveLines
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.run.capsule_store.test_store import (
    AT,
    UUID,
    XML,
    capsule,
)

SIZE = 8192


class Library:
    """What is used of libvirt."""

    VIR_CONNECT_LIST_DOMAINS_ACTIVE = 1

    class libvirtError(Exception):  # noqa: N801 - its name
        pass


class Host:
    """A host whose guest db1 runs on layers, all saved but the top one; it is connection and domain, too."""

    def __init__(self, folder):
        self.folder = folder
        self.store = CapsuleStore(str(folder / "capsules"))
        self.store.prepare()
        (folder / "definition").write_bytes(XML)
        self.images, self.files, self.polls = [], [folder / "db1.raw"], []
        self.job = None
        self.fails = False
        self.files[0].write_bytes(b"0" * SIZE)
        self.record(b"0" * SIZE, self.files[0], "raw", None)
        for number in (1, 2, 3, 4):
            self.overlay(number)
            if number < 4:
                self.record(bytes([number]) * SIZE, self.files[-1], "qcow2", self.images[-1])

    def overlay(self, number):
        below = self.files[-1]
        path = self.folder / f"db1.kvmops-{number}.qcow2"
        self.write(path, below)
        self.files.append(path)

    @staticmethod
    def write(path, below):
        form = "raw" if below.suffix == ".raw" else "qcow2"
        overlay = OverlayFile(SIZE, str(below), form, Changes(()))
        path.write_bytes(b"".join(piece.content or bytes(piece.length) for piece in overlay.pieces()))

    def record(self, content, path, form, backing):
        manifest = manifest_of([content])
        facts = file_facts(str(path))
        given = {
            "kind": "disk",
            "path": str(path),
            "form": form,
            "size_bytes": SIZE,
            "facts": facts,
            "backing": backing,
        }
        record = image_record.record_of(manifest.name, sealed_at=AT, trust_domain="default", **given)
        self.store.add_image(record, manifest)
        self.images.append(manifest.name)

    def keep(self, *numbers):
        """Have capsules of these layers only."""
        for number in numbers:
            image = self.images[number]
            disk = {"target": "vda", "size_bytes": SIZE, "image": image, "base": None}
            disk["layers"] = [{"number": number, "image": image}]
            data = capsule("", number, disks=[disk])
            self.store.add_capsule(data, None, {"definition": str(self.folder / "definition")})

    def chain(self):
        return [layer.path for layer in chain(str(self.files[4]), "qcow2")]

    def merge(self):
        found = merging.planned(self.store, self)
        return [fault for one in found for fault in merging.merge(self.store, self, one, LiveLines(Progress(None)))]

    def rows(self):
        return [one.row() for one in merging.planned(self.store, self)]

    def listAllDomains(self, _flags):  # noqa: N802
        return [self]

    def lookupByUUIDString(self, uuid):  # noqa: N802
        assert uuid == UUID
        return self

    def name(self):
        return "db1"

    def UUIDString(self):  # noqa: N802
        return UUID

    def XMLDesc(self, _flags):  # noqa: N802
        root = ET.Element("domain")
        disk = ET.SubElement(ET.SubElement(root, "devices"), "disk", type="file")
        ET.SubElement(disk, "driver", type="qcow2")
        ET.SubElement(disk, "source", file=str(self.files[4]))
        ET.SubElement(disk, "target", dev="vda")
        return ET.tostring(root, encoding="unicode")

    def blockCommit(self, target, base, top, _bandwidth, flags):  # noqa: N802
        assert (target, flags) == ("vda", 0)
        self.job = (base, top)

    def blockJobInfo(self, _target, _flags):  # noqa: N802
        if self.job is None:
            return {}
        self.polls.append(self.job)
        if len(self.polls) < 2:
            return {"cur": 0, "end": SIZE}
        base, top = self.job
        self.job = None
        if not self.fails:
            above = next(path for path in self.files if str(path) == self.chain()[self.chain().index(top) - 1])
            # What libvirt commits is written to the lowest file, whose facts so change.
            path = next(path for path in self.files if str(path) == base)
            path.write_bytes(path.read_bytes() + bytes(512))
            self.write(above, path)
        return {}


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.setattr(virt, "libvirt", Library)
    monkeypatch.setattr(merging.time, "sleep", lambda _seconds: None)
    return Host(tmp_path)


def test_layers_that_no_capsule_needs_are_merged_into_the_lowest_of_them(host):
    host.keep(3)
    files = [str(path) for path in host.files]
    assert host.rows() == [
        {"guest": "db1", "target": "vda", "image": host.images[3], "into": files[0], "files": files[3:0:-1]}
    ]
    assert host.merge() == []
    assert host.chain() == [files[4], files[0]]
    assert [path.exists() for path in host.files] == [True, False, False, False, True]
    # What was saved is found where it is now, and the next save takes it as what is below.
    record = host.store.image(host.images[3])
    assert (record["path"], record["format"], record["backing"]) == (files[0], "raw", None)
    assert host.store.changed(record) is None
    assert list(host.store.images()) == [host.images[3]]
    assert guest_layers.image_at(host.store, UUID, files[0]) == record
    assert host.rows() == []


def test_what_a_capsule_needs_stays_a_file_of_its_own(host):
    host.keep(1, 3)
    files = [str(path) for path in host.files]
    assert [(row["image"], row["into"], row["files"]) for row in host.rows()] == [
        (host.images[3], files[2], files[3:4]),
        (host.images[1], files[0], files[1:2]),
    ]
    assert host.merge() == []
    assert host.chain() == [files[4], files[2], files[0]]
    kept = {name: record["path"] for name, record in host.store.images().items()}
    assert kept == {host.images[1]: files[0], host.images[3]: files[2]}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_is_in_use_is_not_merged(host, number):
    host.keep(3)
    with host.store.using([host.images[number]], "it is sent to h3"):
        into = [row["into"] for row in host.rows()]
    assert str(host.files[number]) not in into


def test_what_another_image_stands_on_is_not_merged(host):
    host.keep(3)
    other = host.folder / "other.qcow2"
    host.write(other, host.files[2])
    host.record(b"x" * SIZE, other, "qcow2", host.images[2])
    assert [row["into"] for row in host.rows()] == [str(host.files[0])]
    assert [row["image"] for row in host.rows()] == [host.images[2]]


def test_a_base_is_not_merged(host):
    host.keep(3)
    base = host.store.image(host.images[0])
    host.store.add_image({**base, "base": True}, host.store.manifest(host.images[0]))
    assert [row["into"] for row in host.rows()] == [str(host.files[1])]


def test_a_file_that_somebody_has_written_to_is_not_merged(host):
    host.keep(3)
    host.files[0].write_bytes(b"1" * SIZE + bytes(512))
    assert [row["into"] for row in host.rows()] == [str(host.files[1])]


def test_a_merge_that_libvirt_ends_early_changes_no_record_and_no_file(host):
    host.keep(3)
    before, chained = host.store.images(), host.chain()
    host.fails = True
    [fault] = host.merge()
    assert fault == (
        "the layers of disk vda of db1 were not merged: libvirt has ended the merge without doing it; the guest runs "
        "on 5 files as before; see why: journalctl -u libvirtd -u virtqemud"
    )
    assert (host.store.images(), host.chain()) == (before, chained)
    host.fails, host.polls = False, []
    assert host.merge() == []


def test_another_block_job_is_not_disturbed(host):
    host.keep(3)
    host.job = ("a", "b")
    host.polls = []
    host.blockJobInfo = lambda _target, _flags: {"cur": 1, "end": 2}
    [fault] = host.merge()
    assert fault == (
        "the layers of disk vda of db1 were not merged: another block job works on disk vda of db1; "
        "run the task again later"
    )
    assert host.job == ("a", "b")


def test_a_guest_that_changed_since_is_left_alone(host):
    host.keep(3)
    [one] = merging.planned(host.store, host)
    host.keep(2)
    assert merging.merge(host.store, host, one, LiveLines(Progress(None))) == []
    assert host.polls == []
    assert all(path.exists() for path in host.files)
