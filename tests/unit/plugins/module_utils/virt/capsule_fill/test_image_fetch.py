# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An image goes from a reader into a real store. It is memory by its kind here, so nothing needs QEMU."""

import contextlib
import random
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import manifest_format
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill import image_fetch
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.image_fetch import Fetch
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.capsules import (
    capsule as document_of,
)

MIB = 1024**2


class Reader:
    """A disk at the source; it dies after so many reads."""

    def __init__(self, data, dies_after=None):
        self.data = data
        self.left = dies_after
        self.expected = []
        self.reads = []
        self.read_bytes = 0

    def expect(self, pieces):
        self.expected = list(pieces)

    def read(self, offset, length):
        if self.left is not None:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        self.reads.append((offset, length))
        self.read_bytes += length
        return self.data[offset : offset + length]


@pytest.fixture(autouse=True)
def raw(monkeypatch):
    """Images that come are raw files, which this process reads and writes itself."""
    monkeypatch.setattr(image_fetch, "DISK", "memory")


@pytest.fixture
def store(tmp_path):
    found = CapsuleStore(str(tmp_path / "capsules"))
    found.prepare()
    return found


def content(seed, zeros=()):
    data = bytearray(random.Random(seed).randbytes(4 * MIB + 8192))
    for number in zeros:
        data[number * MIB : (number + 1) * MIB] = bytes(MIB)
    return bytes(data)


def fetch(store, data, told=None, number=7, base=None):
    name = manifest_of([data]).name
    layers = [{"number": number, "image": name}]
    disk = {"target": "vda", "size_bytes": len(data), "image": name, "base": base, "layers": layers}
    document = document_of(number=number, disks=[disk])
    capsule = StoredCapsule(document, "sha256:" + "0" * 64, b"", None, "")
    return Fetch(store, "h2", "h1", capsule, "vda", None, told or (lambda *_all: None))


def path_of(store, data):
    return Path(store.image(manifest_of([data]).name)["path"])


def test_all_of_it_comes_into_the_store_and_holes_are_not_read(store):
    data, told = content(1, zeros=[1, 2]), []
    one, reader = fetch(store, data, lambda *all_: told.append(all_)), Reader(data)
    assert not one.is_here()
    one.run(manifest_of([data]), reader)
    assert one.is_here()
    assert path_of(store, data).read_bytes() == data
    assert reader.reads == reader.expected
    assert reader.read_bytes == 2 * MIB + 8192
    assert told[-1] == (2 * MIB + 8192, 2 * MIB + 8192)


def test_only_what_differs_from_an_image_that_is_here_is_read(store):
    first = content(1)
    fetch(store, first).run(manifest_of([first]), Reader(first))
    second = first[:4096] + b"x" * 4096 + first[8192 : 2 * MIB] + b"y" * 8192 + first[2 * MIB + 8192 :]
    reader = Reader(second)
    fetch(store, second, number=8, base=manifest_of([first]).name).run(manifest_of([second]), reader)
    assert reader.reads == [(4096, 4096), (2 * MIB, 8192)]
    assert path_of(store, second).read_bytes() == second


def test_what_has_come_before_a_death_is_not_read_again(store):
    data = content(1)
    with contextlib.suppress(KeyboardInterrupt):
        fetch(store, data).run(manifest_of([data]), Reader(data, dies_after=3))
    reader = Reader(data)
    fetch(store, data).run(manifest_of([data]), reader)
    assert reader.reads[0] == (3 * MIB, MIB)
    assert path_of(store, data).read_bytes() == data


def test_wrong_data_from_the_source_is_never_used(store):
    data = content(1)
    wrong = data[: 2 * MIB + 4096] + b"x" + data[2 * MIB + 4097 :]
    with pytest.raises(CapsuleError) as error:
        fetch(store, data).run(manifest_of([data]), Reader(wrong))
    refusal = error.value.refusal
    assert refusal["reason"].startswith("what h1 gave of disk vda is not what capsule 7 says (block 513 of blocks:")
    assert refusal["remedy"] == "see on h1 who has written to it (capsule_verify); the guest goes on meanwhile"
    assert not fetch(store, data).is_here()


def test_the_digests_must_be_those_of_the_image_in_the_capsule(store):
    data, other = content(1), content(2)
    one = fetch(store, data)
    assert one.checked_manifest(b"".join(manifest_format.encoded(manifest_of([data])))).name == one.name
    with pytest.raises(CapsuleError, match=r"h1 has blocks:.* as disk vda, and the capsule says blocks:"):
        one.checked_manifest(b"".join(manifest_format.encoded(manifest_of([other]))))
    with pytest.raises(CapsuleError, match="disk vda on h1"):
        one.checked_manifest(b"nonsense")
