# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.changed_ranges import Hint
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import hash_workers, hashing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.hashing import hashed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import opened

MIB = SEGMENT_BYTES
SIZE = 70 * MIB + 5000


@pytest.fixture
def image(tmp_path):
    """A sparse file: content at its begin, in its middle and at its end."""
    path = tmp_path / "image.raw"
    dice = random.Random(7)
    with path.open("wb") as file:
        file.write(dice.randbytes(3 * MIB + 100))
        file.seek(40 * MIB - 1000)
        file.write(dice.randbytes(2000))
        file.seek(SIZE - 10)
        file.write(b"x" * 10)
    return path


def changed(path, offset, content):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("least", [1, hash_workers.LEAST_BYTES])
def test_the_manifest_is_that_of_the_content_and_holes_are_not_read(image, monkeypatch, least):
    monkeypatch.setattr(hash_workers, "LEAST_BYTES", least)
    told = []
    with opened(str(image), "raw") as opened_image:
        found = hashed(opened_image, "vda", progress=lambda done, total: told.append((done, total)))
    assert found.manifest.name == manifest_of([image.read_bytes()]).name
    assert found.full_because == "there is no block manifest of an earlier capsule of vda here"
    assert found.read_bytes == 6 * MIB + 5000
    assert told[-1] == (6 * MIB + 5000, 6 * MIB + 5000)
    assert [done for done, dummy in told] == sorted({done for done, dummy in told})


def test_only_what_a_hint_names_is_read(image):
    earlier = manifest_of([image.read_bytes()])
    changed(image, 50 * MIB + 17, b"new")
    with opened(str(image), "raw") as opened_image:
        hint = Hint(earlier.name, ((50 * MIB, 4096),))
        found = hashed(opened_image, "vda", earlier=earlier, hint=hint, turn=1)
    assert found.manifest.name == manifest_of([image.read_bytes()]).name
    # Segment 50, and segment 1 as a control.
    assert (found.full_because, found.read_bytes) == (None, 2 * MIB)


def test_a_hint_that_is_wrong_costs_a_whole_read_and_says_so(image):
    earlier = manifest_of([image.read_bytes()])
    changed(image, 2 * MIB + 17, b"new")
    with opened(str(image), "raw") as opened_image:
        found = hashed(opened_image, "vda", earlier=earlier, hint=Hint(earlier.name), turn=2)
    assert found.manifest.name == manifest_of([image.read_bytes()]).name
    assert found.full_because == (
        "the record of what was written to vda is wrong: it does not name segment 2 (bytes from 2097152),"
        " which has changed"
    )


def test_an_image_that_becomes_shorter_meanwhile_is_an_error(image):
    with opened(str(image), "raw") as opened_image:
        os.truncate(image, 10)
        with pytest.raises(CapsuleError, match="has become shorter while it was read"):
            opened_image.read(0, 4096)


def test_a_process_that_was_killed_is_an_error(image, monkeypatch):
    monkeypatch.setattr(hash_workers, "segment_of", lambda _content: os._exit(9))
    with opened(str(image), "raw") as opened_image, pytest.raises(CapsuleError) as caught:
        list(hash_workers.hashed_by(2, opened_image, [(0, MIB), (1, MIB)]))
    assert caught.value.refusal["reason"] == "a process that hashed was killed"


def test_an_error_in_another_process_is_told(image):
    with opened(str(image), "raw") as opened_image:
        os.truncate(image, 10)
        with pytest.raises(CapsuleError, match="has become shorter while it was read"):
            list(hash_workers.hashed_by(2, opened_image, [(0, MIB), (1, MIB)]))


def test_requests_are_large_and_in_order():
    assert list(hashing._requests(6 * MIB + 10, [0, 1, 2, 3, 4, 6])) == [
        (0, 4 * MIB),
        (4, MIB),
        (6, 10),
    ]


def test_a_raw_image_is_written_and_made_zero(image):
    content = bytearray(image.read_bytes())
    with opened(str(image), "raw", writable=True) as opened_image:
        opened_image.write(5, b"hello")
        opened_image.zero(MIB, MIB + 7)
        opened_image.flush()
    content[5:10] = b"hello"
    content[MIB : 2 * MIB + 7] = bytes(MIB + 7)
    assert image.read_bytes() == bytes(content)


def test_an_empty_image_has_a_manifest(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    with opened(str(tmp_path / "empty"), "raw") as opened_image:
        assert hashed(opened_image, "vda").manifest.name == manifest_of([b""]).name
