# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import struct
import types
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import capsule_changes
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule import images
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule_image.qcow2_files import (
    header as qcow2_header,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_save.fake_host import (
    LIBVIRT,
    LibvirtError,
)

MIB = 1 << 20
CLUSTER = 65536
UUID = "f1a24cff-0e6b-59b9-9f38-9a92a8c0a153"
XML = """<domain><devices><disk type='file' device='disk'><driver name='qemu' type='%s'/><source file='%s'/>
<target dev='vda'/></disk></devices></domain>"""


class Guest:
    def __init__(self, memory, top, form="qcow2"):
        self.memory, self.top, self.form = memory, top, form

    def name(self):
        return "db1"

    def UUIDString(self):  # noqa: N802
        return UUID

    def isPersistent(self):  # noqa: N802
        return False

    def isActive(self):  # noqa: N802
        return True

    def state(self):
        return (1, 1)

    def XMLDesc(self, _flags):  # noqa: N802
        return XML % (self.form, self.top)

    def info(self):
        return (1, len(self.memory) // 1024)

    def maxMemory(self):  # noqa: N802
        return len(self.memory) // 1024

    def memoryPeek(self, place, length, _flags):  # noqa: N802
        return self.memory[place : place + length]


class Store:
    def __init__(self, path, disk, memory):
        self.manifests = {"blocks:disk": manifest_of([disk]), "blocks:memory": manifest_of([memory])}
        self.path, self.below = path, disk

    def manifest(self, name):
        if name not in self.manifests:
            raise CapsuleError("manifest_missing", f"there is no manifest of {name}", "make it")
        return self.manifests[name]

    def image(self, _name):
        return {"path": self.path}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A guest with 8 MiB of memory, and a disk of 1 MiB of which it wrote two clusters since."""
    monkeypatch.setattr(virt, "libvirt", types.SimpleNamespace(**vars(LIBVIRT), VIR_MEMORY_PHYSICAL=2))
    disk, memory = images.noise(1, MIB), images.noise(2, 8 * MIB)
    top, below = tmp_path / "top", tmp_path / "below"
    # Both of its tables of tables are in its fourth cluster.
    tables = struct.pack(">IQQI", 1, 3 * CLUSTER, 3 * CLUSTER, 1)
    header = qcow2_header(MIB)[:36] + tables + qcow2_header(MIB)[60:]
    top.write_bytes(header + images.changed(disk[:CLUSTER], 3, 0.5) + disk[CLUSTER : 2 * CLUSTER] + bytes(CLUSTER))
    below.write_bytes(disk)
    layers = [Layer(str(top), "qcow2", MIB, CLUSTER), Layer(str(below), "raw", MIB)]
    monkeypatch.setattr(capsule_changes, "chain", lambda *_args: layers)
    rows = [
        {"start": 0, "length": 2 * CLUSTER, "depth": 0, "zero": False, "data": True, "offset": CLUSTER},
        {"start": 2 * CLUSTER, "length": MIB - 2 * CLUSTER, "depth": 1, "zero": False, "data": True, "offset": 0},
    ]
    told = {"rows": json.dumps(rows), "asked": []}

    def described(_image, *, in_use):
        told["asked"].append(in_use)
        return told["rows"]

    monkeypatch.setattr(capsule_changes.direct_reads, "described", described)
    document = {
        "number": 7,
        "memory": {"image": "blocks:memory"},
        "disks": [{"target": "vda", "image": "blocks:disk"}],
    }
    capsule = types.SimpleNamespace(document=document, digest="sha256:1f")
    changed = sum(
        disk[at : at + 4096] != top.read_bytes()[CLUSTER + at : CLUSTER + at + 4096] for at in range(0, CLUSTER, 4096)
    )
    return types.SimpleNamespace(
        guest=Guest(memory, str(top)),
        store=Store(str(below), disk, memory),
        capsule=capsule,
        told=told,
        changed=changed,
    )


def look(place):
    return capsule_changes.look(place.guest, place.store, place.capsule, 5.0)


def test_memory_and_disks_are_compared_with_the_capsule(place):
    found = look(place)
    assert found["guest"] == {"name": "db1", "uuid": UUID}
    assert (found["number"], found["digest"]) == (7, "sha256:1f")
    assert found["memory"]["changed_bytes"] == 0
    assert (found["memory"]["sampled_bytes"], found["memory"]["error"]) == (8 * MIB, 0.0)
    assert found["disks"]["vda"]["changed_bytes"] == place.changed * 4096 > 0
    assert found["disks"]["vda"]["sampled_bytes"] == 2 * CLUSTER
    assert found["disks"]["vda"]["unflushed_seen"] is True
    # The guest writes to the layer meanwhile.
    assert place.told["asked"] == [True]


def test_what_the_guest_has_not_flushed_is_found_without_its_place(place):
    """No table names the cluster. It has one block that the guest wrote, and what was copied around it."""
    before = place.store.below[5 * CLUSTER : 6 * CLUSTER]
    with Path(place.guest.top).open("ab") as top:
        top.write(before[:8192] + images.noise(9, 4096) + before[12288:])
    found = look(place)["disks"]["vda"]
    assert found["changed_bytes"] == (place.changed + 1) * 4096
    assert found["sampled_bytes"] == 3 * CLUSTER
    assert found["error"] == 0.0


@pytest.mark.parametrize("spoil", ["large", "table"])
def test_what_is_not_flushed_stays_unseen_where_it_cannot_be_told(place, monkeypatch, spoil):
    if spoil == "large":
        monkeypatch.setattr(capsule_changes, "MOST_COMPARED_BYTES", MIB - 1)
    else:
        with Path(place.guest.top).open("r+b") as top:
            top.seek(36)
            top.write(b"\xff\xff\xff\xff")
    found = look(place)["disks"]["vda"]
    assert (found["changed_bytes"], found["unflushed_seen"]) == (place.changed * 4096, False)


def test_of_a_large_guest_evenly_spread_pieces_are_read(place, monkeypatch):
    monkeypatch.setattr(capsule_changes, "WHOLE_BYTES_PER_S", MIB)
    monkeypatch.setattr(capsule_changes, "MOST_PIECES", 20)
    found = look(place)["memory"]
    assert (found["sampled_bytes"], found["changed_bytes"]) == (20 * CLUSTER, 0)
    assert capsule_changes.look(place.guest, place.store, place.capsule, 0.0)["memory"]["sampled_bytes"] == 16 * CLUSTER


def test_of_a_large_layer_evenly_spread_pieces_are_read(place, monkeypatch):
    monkeypatch.setattr(capsule_changes, "MOST_DISK_BYTES", CLUSTER)
    found = look(place)["disks"]["vda"]
    assert (found["sampled_bytes"], found["changed_bytes"]) == (CLUSTER, 2 * place.changed * 4096)


@pytest.mark.parametrize(
    "broken",
    [
        lambda place: place.told.update(rows=None),
        lambda place: place.told.update(rows="no JSON"),
        lambda place: place.store.manifests.pop("blocks:disk"),
        lambda place: setattr(place.store, "path", "/elsewhere"),
        lambda place: setattr(place.guest, "form", "raw"),
        lambda place: place.capsule.document.update(disks=[{"target": "vdb", "image": "blocks:disk"}]),
    ],
)
def test_a_disk_of_which_it_cannot_be_told_is_left_out(place, broken):
    broken(place)
    found = look(place)
    assert found["disks"] == {}
    assert found["memory"]["changed_bytes"] == 0


def unreadable(*_args):
    raise LibvirtError("it is off")


@pytest.mark.parametrize(
    "broken",
    [
        lambda place: setattr(place.guest, "memoryPeek", unreadable),
        lambda place: place.store.manifests.pop("blocks:memory"),
        lambda place: place.capsule.document.update(memory=None),
    ],
)
def test_memory_of_which_it_cannot_be_told_is_null(place, broken):
    broken(place)
    found = look(place)
    assert found["memory"] is None
    assert found["disks"]["vda"]["changed_bytes"] > 0


def test_the_newest_capsule_is_taken():
    class Some:
        def __init__(self, *numbers):
            self.numbers = numbers

        def capsules(self, uuid):
            assert uuid == UUID
            return [types.SimpleNamespace(document={"number": number}) for number in self.numbers]

    assert capsule_changes.newest(Some(3, 11, 2), UUID).document["number"] == 11
    assert capsule_changes.newest(Some(), UUID) is None


def test_a_store_that_cannot_be_read_has_none():
    class Damaged:
        def capsules(self, _uuid):
            raise CapsuleError("damaged", "it is damaged", "repair it")

    assert capsule_changes.newest(Damaged(), UUID) is None
