# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import io
import struct

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import qcow2_metadata

CLUSTER = 65536


def image(l1_at, l1, counts_at, counts, length=16):
    """A file with two tables of tables."""
    file = io.BytesIO(bytes(length * CLUSTER))
    for at, content in (
        (36, struct.pack(">IQQI", len(l1), l1_at * CLUSTER, counts_at * CLUSTER, 1)),
        (l1_at * CLUSTER, b"".join(struct.pack(">Q", entry) for entry in l1)),
        (counts_at * CLUSTER, b"".join(struct.pack(">Q", entry) for entry in counts)),
    ):
        file.seek(at)
        file.write(content)

    def read(at, size):
        file.seek(at)
        return file.read(size)

    return read


def test_header_tables_and_what_they_name_are_metadata():
    copied = 1 << 63
    read = image(3, [copied | 4 * CLUSTER, 0, copied | 9 * CLUSTER], 1, [2 * CLUSTER, 12 * CLUSTER])
    assert qcow2_metadata.clusters(read, CLUSTER) == {0, 1, 2, 3, 4, 9, 12}


def test_a_table_of_several_clusters():
    read = image(5, [0] * (CLUSTER // 8 + 1), 1, [2 * CLUSTER])
    assert qcow2_metadata.clusters(read, CLUSTER) == {0, 1, 2, 5, 6}


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (b"short", "it is cut off within its header"),
        (struct.pack(">IQQI", 0xFFFFFFFF, CLUSTER, CLUSTER, 1), "a table has 34359738360 bytes"),
        (struct.pack(">IQQI", 1, CLUSTER, CLUSTER, 1000), "a table has 65536000 bytes"),
    ],
)
def test_a_damaged_file_is_refused(head, why):
    with pytest.raises(ValueError, match=why):
        qcow2_metadata.clusters(lambda at, length: head if at == 36 else b"", CLUSTER)
