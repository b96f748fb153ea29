# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import qcow2_header
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule_image.qcow2_files import (
    BACKING_FORMAT,
    DATA_FILE,
    header,
)


@pytest.mark.parametrize("version", [2, 3])
def test_what_a_header_says(version):
    read = qcow2_header.parsed(header(1024**3, version=version, backing="base.raw", backing_format="raw"))
    assert read == qcow2_header.Qcow2Header(1024**3, "base.raw", "raw", False, False, 65536, False, False, 0)


def test_a_header_without_anything_below():
    assert qcow2_header.parsed(header(512))[:3] == (512, None, None)


@pytest.mark.parametrize(
    ("made", "what"),
    [
        (header(features=4), {"data_file": True}),
        (header(extensions=[(DATA_FILE, b"/etc/shadow")]), {"data_file": True}),
        (header(features=2), {"corrupt": True}),
        (header(features=1), {"dirty": True}),
        (header(encryption=2), {"encrypted": True}),
        (header(snapshots=3), {"snapshots": 3}),
    ],
)
def test_what_must_be_known_before_it_is_opened(made, what):
    assert {key: getattr(qcow2_header.parsed(made), key) for key in what} == what


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (b"", "it is no qcow2 file"),
        (b"\x7fELF" + bytes(200), "it is no qcow2 file"),
        (header()[:50], "it is cut off within its header"),
        (header()[:90], "it is cut off within its header"),
        (header(version=2).replace(b"QFI\xfb\0\0\0\2", b"QFI\xfb\0\0\0\4"), "its version 4 is not known"),
        (header(cluster_bits=40), "its clusters of 2**40 bytes are not possible"),
        (header(backing="b" * 1024), "it is damaged: the name of its backing file has 1024 bytes at 112"),
        (header(backing="base")[:114], "it is damaged: the name of its backing file has 4 bytes at 112"),
        (header(extensions=[(1, b"x" * 8)])[:116], "it is damaged: a part of its header is longer than the header"),
        (header(extensions=[(BACKING_FORMAT, b"\xff")]), "it is damaged: the format of its backing file is no text"),
    ],
)
def test_what_is_damaged_is_said(made, why):
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        qcow2_header.parsed(made)


@given(at=st.integers(0, 200), value=st.integers(0, 255), cut=st.integers(0, 300))
@settings(max_examples=300, deadline=None)
def test_no_header_does_more_than_be_refused(at, value, cut):
    made = bytearray(header(backing="base.raw", backing_format="raw", extensions=[(7, b"abc")])[:300])
    made[at] = value
    try:
        read = qcow2_header.parsed(bytes(made[: 300 - cut]))
    except ValueError:
        return
    assert 512 <= read.cluster_bytes <= 2 * 1024**2
