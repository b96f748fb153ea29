# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import Changes, OverlayFile
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import sending
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.disk_digests import DigestWriter, segments
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.old_copy import NoDeltaError, OldCopy
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import disk_deltas
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.disk_delta import test_layers

BLOCK = 4096
SIZE = 3 << 20
UUID = test_layers.UUID


class Library(test_layers.Library):
    """What is used of libvirt."""

    VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM = 1
    VIR_ERR_NO_STORAGE_VOL = 50


class Guest(test_layers.Domain):
    """A guest with one disk, which writes blocks each time that an overlay was laid."""

    def __init__(self, path):
        super().__init__(vda=path)
        self.now = {}
        self.frozen = {}
        self.layers = {}
        self.writes = iter(())

    def blockInfo(self, _target, _flags):  # noqa: N802
        return [SIZE, SIZE, SIZE]

    def snapshotCreateXML(self, xml, flags):  # noqa: N802
        super().snapshotCreateXML(xml, flags)
        self.frozen = dict(self.now)
        self.write(next(self.writes, ()))

    def write(self, blocks):
        path = self.images["vda"]
        held = self.layers.setdefault(path, set())
        held |= set(blocks)
        self.now |= {block: os.urandom(BLOCK) for block in blocks}
        overlay = OverlayFile(SIZE, "/images/below", "raw", Changes(tuple((block, 1) for block in sorted(held))))
        with Path(path).open("wb") as file:
            for piece in overlay.pieces():
                if piece.kind == "hole":
                    file.seek(piece.length, os.SEEK_CUR)
                    continue
                end = piece.first_block + piece.length // BLOCK
                file.write(piece.content or b"".join(self.now[block] for block in range(piece.first_block, end)))
            file.truncate(overlay.length)
            os.fsync(file.fileno())


class Image:
    """What a guest sees of its disk."""

    size_bytes = SIZE

    def __init__(self, guest):
        self._content = guest.frozen

    def read(self, offset, length):
        first, end = offset // BLOCK, (offset + length) // BLOCK
        return b"".join(self._content.get(block, bytes(BLOCK)) for block in range(first, end))

    def data(self):
        return [(0, SIZE)]


class Destination:
    """A host with one pool, over libvirt: connection, pool, and its streams."""

    def __init__(self, folder):
        self.folder, self.full = folder, False

    def storagePoolLookupByName(self, name):  # noqa: N802
        assert name == "images"
        return self

    def storageVolLookupByName(self, name):  # noqa: N802
        if not (self.folder / name).exists():
            error = Library.libvirtError("no such volume")
            error.get_error_code = lambda: Library.VIR_ERR_NO_STORAGE_VOL
            raise error
        return Volume(self, name)

    def createXML(self, xml, _flags):  # noqa: N802
        if self.full:
            raise Library.libvirtError("No space left on device")
        root = ET.fromstring(xml)
        (self.folder / root.findtext("name")).write_bytes(bytes(int(root.findtext("capacity"))))
        return Volume(self, root.findtext("name"))

    def newStream(self, _flags):  # noqa: N802
        return Stream()


class Volume:
    def __init__(self, host, name):
        self._host, self._path = host, host.folder / name

    def connect(self):
        return self._host

    def upload(self, stream, offset, _length, _flags):
        stream.path, stream.at = self._path, offset

    def download(self, stream, offset, length, _flags):
        stream.left = self._path.read_bytes()[offset : offset + length]

    def delete(self, _flags):
        self._path.unlink()


class Stream:
    """Puts what is sent at its place in a file, or gives what was read."""

    left, path, at = b"", None, 0

    def send(self, data):
        with self.path.open("r+b") as file:
            file.seek(self.at)
            file.write(data)
        self.at += len(data)
        return len(data)

    def sendHole(self, length, _flags):  # noqa: N802
        self.at += length

    def recv(self, length):
        found, self.left = self.left[:length], self.left[length:]
        return found

    def finish(self):
        pass

    def abort(self):
        pass


class Case:
    """A guest on h2 that has an old copy of its disk, all zeros, on h1."""

    def __init__(self, tmp_path):
        self.here, self.there, self.state = tmp_path / "h2", tmp_path / "h1", tmp_path / "state"
        for folder in (self.here, self.there):
            folder.mkdir()
            (folder / "a.raw").write_bytes(bytes(SIZE))
        self.guest = Guest(str(self.here / "a.raw"))
        self.destination = Destination(self.there)
        self.left = {"size_bytes": SIZE, "mtime_ns": (self.there / "a.raw").stat().st_mtime_ns}
        with DigestWriter(str(self.there / "a.raw.kvmops-digests"), SIZE) as writer:
            for number, segment in segments(Image(self.guest)):
                writer.add(number, segment)
            writer.finish((self.there / "a.raw").stat())
        self.old = OldCopy("vda", "images", "a.raw", "/images/a.raw", "raw", self.left)
        self.deltas = disk_deltas.DiskDeltas(str(self.state))
        self.told = []

    @contextlib.contextmanager
    def opened(self, path, _form):
        assert path == str(self.here / "a.raw")
        yield Image(self.guest)

    def send(self, check=lambda: None):
        disk = {"target": "vda", "source": str(self.here / "a.raw"), "format": "raw"}
        guest = {"name": "web1", "uuid": UUID, "disks": [disk]}
        return self.deltas.send(
            self.destination, self.guest, guest, "h1", {"vda": self.old}, lambda *told: self.told.append(told), check
        )

    def names(self, folder):
        return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.setattr(virt, "libvirt", Library)
    monkeypatch.setattr(test_layers.layers, "POLL_S", 0)
    found = Case(tmp_path)
    monkeypatch.setattr(sending, "opened", found.opened)
    return found


LAST_HERE = ["a.kvmops-home-1.qcow2", "a.kvmops-home-2.qcow2"]


def test_the_last_round_is_named_before_and_made_when_it_is_asked_for(case):
    case.guest.now = {1: b"1" * BLOCK, 300: b"2" * BLOCK}
    [disk] = case.send()
    assert disk.overlays == LAST_HERE
    assert disk.top == "/images/a.kvmops-home-2.qcow2"
    assert LAST_HERE[0] in case.names(case.there)
    assert LAST_HERE[1] not in case.names(case.there) + case.names(case.here)
    # A run that finds this record takes away what there may be by then.
    [begun] = begun_copies.read(str(case.state), UUID, "h1")["disks"]
    assert begun["delta"]["overlays"] == LAST_HERE
    before = disk.sent_bytes
    assert 2 * BLOCK < before < 3 * BLOCK
    case.guest.write([7, 9])
    case.deltas.send_rest(UUID)
    assert [name for name in LAST_HERE if name in case.names(case.there)] == LAST_HERE
    assert case.guest.images["vda"] == str(case.here / LAST_HERE[1])
    assert 2 * BLOCK < disk.sent_bytes - before < 3 * BLOCK
    held = (case.there / LAST_HERE[1]).read_bytes()
    assert all(case.guest.now[block] in held for block in (7, 9))
    assert b"/images/a.kvmops-home-1.qcow2" in held[:BLOCK]


def test_rounds_go_on_while_each_leaves_less(case):
    case.guest.writes = iter([range(100), range(50), range(10)])
    [disk] = case.send()
    # The first is compared, two have more than a little; the last one is yet to come.
    assert len(disk.overlays) == 4
    assert [LAST_HERE[0], "a.kvmops-home-4.qcow2"] == [disk.overlays[0], disk.overlays[-1]]
    assert "a.kvmops-home-4.qcow2" not in case.names(case.there)


@pytest.mark.parametrize(("writes", "rounds"), [([100, 90, 80], 3), ([400, 200, 100, 50, 40, 30], sending.MOST_ROUNDS)])
def test_rounds_end_where_they_gain_nothing_or_are_many(case, writes, rounds):
    case.guest.writes = iter([range(count) for count in writes])
    [disk] = case.send()
    assert len(disk.overlays) == rounds + (writes[0] > 100)


def test_a_full_disk_in_the_last_round_is_named_and_leaves_nothing(case):
    [disk] = case.send()
    case.destination.full = True
    with pytest.raises(virt.VirtError) as caught:
        case.deltas.send_rest(UUID)
    assert caught.value.refusal["reason"] == "what the guest wrote last could not be sent: No space left on device"
    assert case.deltas.failed(case.destination, case.guest, "h1") == []
    assert case.names(case.here) == ["a.raw"]
    assert case.names(case.there) == ["a.raw", "a.raw.kvmops-digests"]
    assert case.guest.images == {"vda": disk.below}


def test_digests_of_another_state_are_of_no_use(case):
    case.left["mtime_ns"] = 8
    with pytest.raises(NoDeltaError, match=r"the digests of /images/a.raw on h1 are of an older state of it"):
        case.send()
    assert case.names(case.here) == ["a.raw"]


def test_damaged_digests_are_found_and_nothing_is_left(case):
    path = case.there / "a.raw.kvmops-digests"
    data = bytearray(path.read_bytes())
    # Behind the header: the digest of the first segment, and what its row is checked with.
    data[80] ^= 1
    data[80 + 32] ^= 1
    path.write_bytes(data)
    case.guest.now = {1: b"1" * BLOCK}
    with pytest.raises(NoDeltaError, match="the file of digests is damaged"):
        case.send()
    assert (case.names(case.here), case.names(case.there)) == (["a.raw"], ["a.raw", "a.raw.kvmops-digests"])
    assert case.guest.images == {"vda": str(case.here / "a.raw")}


def test_an_operator_who_ends_it_finds_the_guest_on_its_image(case):
    def check():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        case.send(check)
    assert (case.names(case.here), case.names(case.there)) == (["a.raw"], ["a.raw", "a.raw.kvmops-digests"])
    assert case.guest.images == {"vda": str(case.here / "a.raw")}
    assert begun_copies.read(str(case.state), UUID, "h1") is None
