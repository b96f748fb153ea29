# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What copying an image sends. The file system is a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import disk_sizes

UNIT = disk_sizes.UNIT_BYTES
MIB = 1 << 20


@pytest.fixture
def image(tmp_path):
    """Makes an image of 64 MiB with so many bytes of data at these offsets."""

    def made(*pieces, name="vm.qcow2"):
        path = tmp_path / name
        with path.open("wb") as file:
            for offset, count in pieces:
                file.seek(offset)
                file.write(b"x" * count)
            file.truncate(64 * MIB)
        return str(path)

    return made


def local(path, **changes):
    found = {"type": "file", "source": path, "backing": [], "shared": False, "shared_why": "ext4"}
    return {**found, **changes}


def keeps_holes(path):
    return Path(path).stat().st_blocks * 512 < 32 * MIB


def test_holes_are_not_sent_and_units_are_sent_whole(image):
    path = image((0, 4096), (4096, 100), (10 * UNIT, 1), (20 * UNIT - 1, 2))
    if not keeps_holes(path):
        pytest.skip("this file system has no holes")
    # The second piece is in the unit of the first one, and the last one is in two.
    assert disk_sizes.data_bytes(local(path)) == 4 * UNIT


def test_an_image_that_is_all_hole(image):
    path = image()
    if not keeps_holes(path):
        pytest.skip("this file system has no holes")
    assert disk_sizes.data_bytes(local(path)) == 0


def test_a_full_image(image):
    assert disk_sizes.data_bytes(local(image((0, 64 * MIB)))) == 64 * MIB


def test_all_layers_are_sent(image):
    base, top = image((0, UNIT), name="base"), image((UNIT, 2 * UNIT), name="top")
    if not keeps_holes(base):
        pytest.skip("this file system has no holes")
    assert disk_sizes.data_bytes(local(top, backing=[base])) == 3 * UNIT


def test_an_image_in_very_many_pieces_is_as_full_as_its_start(image, monkeypatch):
    path = image(*[(number * MIB, UNIT) for number in range(64)])
    if not keeps_holes(path):
        pytest.skip("this file system has no holes")
    monkeypatch.setattr(disk_sizes, "MOST_PIECES", 8)
    assert disk_sizes.data_bytes(local(path)) == pytest.approx(64 * UNIT, rel=0.15)


@pytest.mark.parametrize(
    "changes",
    [
        {"shared": True},
        {"shared": None},
        {"shared_why": "fuse.sshfs"},
        {"type": "block"},
        {"backing": ["rbd:pool/base"]},
        {"backing": ["/no/such/base"]},
        {"source": "/no/such/image"},
        {"source": "/dev/null"},
        {"source": "/proc"},
    ],
)
def test_what_cannot_be_looked_at_is_not_known(image, changes):
    assert disk_sizes.data_bytes(local(image((0, 10)), **changes)) is None
