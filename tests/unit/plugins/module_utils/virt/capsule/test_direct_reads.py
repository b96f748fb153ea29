# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import direct_reads
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.direct_reads import DirectReads
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer


def extent(start, length, depth=0, **more):
    row = {"start": start, "length": length, "depth": depth, "present": True, "zero": False, "data": True}
    return {**row, **more}


#: As qemu-img of QEMU 10 describes a layer on a base: own content, zeros, content of the base, compressed content.
DESCRIPTION = [
    extent(0, 100, offset=10),
    extent(100, 50, zero=True, data=False),
    extent(150, 100, depth=1, offset=150),
    extent(250, 6, compressed=True),
]


@pytest.fixture
def layers(tmp_path):
    (tmp_path / "top").write_bytes(bytes(10) + b"T" * 100)
    (tmp_path / "base").write_bytes(b"B" * 200)
    return [Layer(str(tmp_path / "top"), "qcow2", 256, 65536), Layer(str(tmp_path / "base"), "raw", 256)]


def test_content_comes_from_the_file_that_has_it(layers):
    extents = direct_reads.parsed(json.dumps(DESCRIPTION), layers, 256)
    asked = []

    def ask(offset, length):
        asked.append((offset, length))
        return b"C" * length

    reads = DirectReads(extents, layers, ask)
    whole = b"T" * 100 + bytes(50) + b"B" * 50 + bytes(50) + b"C" * 6
    assert reads.read(0, 256) == whole
    for start, length in [(0, 1), (99, 2), (120, 10), (149, 60), (199, 2), (251, 5), (90, 166)]:
        assert reads.read(start, length) == whole[start : start + length]
    assert set(asked) == {(250, 6), (251, 5)}
    reads.close()


@pytest.mark.parametrize(
    "description",
    [
        "",
        "{}",
        "[7]",
        json.dumps([extent(0, 100, offset=0)]),
        json.dumps([extent(0, 100, offset=0), extent(120, 136, offset=0)]),
        json.dumps([extent(0, 256, depth=2, offset=0)]),
        json.dumps([extent(0, 256, offset="x")]),
        json.dumps([extent(0, 0, offset=0), extent(0, 256, offset=0)]),
    ],
)
def test_what_is_not_understood_is_left_to_the_server(layers, description):
    assert direct_reads.parsed(description, layers, 256) is None
