# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import manifest_format
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    ManifestBuilder,
    manifest_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.images import image, seeds, sizes

SIZE = 2 * SEGMENT_BYTES + 5000
REMEDY = "send its capsule again from a host that has it (capsule_send); a base is hashed anew by capsule_base"


def encoded(content):
    return b"".join(manifest_format.encoded(manifest_of([content])))


def sealed(body):
    """The bytes with a checksum that fits, as somebody who forges them would make."""
    return bytes(body) + hashlib.sha256(bytes(body)).digest()


def refused(data):
    with pytest.raises(CapsuleError) as error:
        manifest_format.parsed(data, "vda of db1")
    return error.value.refusal


@settings(max_examples=25, deadline=None)
@given(sizes, seeds)
def test_what_is_written_is_read_again(size_bytes, seed):
    made = manifest_of([image(seed, size_bytes)])
    data = b"".join(manifest_format.encoded(made))
    read = manifest_format.parsed(data, "vda of db1")
    assert (read.size_bytes, read.image_digest, list(read.segments)) == (
        made.size_bytes,
        made.image_digest,
        list(made.segments),
    )
    assert b"".join(manifest_format.encoded(read)) == data


def test_an_empty_gibibyte_has_a_byte_for_each_segment_and_a_full_one_less_than_half_a_percent():
    builder = ManifestBuilder()
    builder.hole(1024**3)
    empty = builder.finish()
    assert len(b"".join(manifest_format.encoded(empty))) == 58 + 1024 + 32
    assert len(encoded(image(1, SIZE, zero_share=0.0))) < 0.005 * SIZE


def test_every_flipped_bit_is_found():
    data = encoded(image(3, SEGMENT_BYTES // 8 + 77))
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        why = refused(bytes(broken))
        assert why["code"] in {"manifest_damaged", "manifest_version"}, at


def test_every_truncation_is_found():
    data = encoded(image(3, SEGMENT_BYTES // 8 + 77))
    for length in range(len(data)):
        assert refused(data[:length])["code"] == "manifest_damaged"


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_forged_manifest_is_read_or_refused_and_nothing_else(data):
    body = bytearray(encoded(image(5, SEGMENT_BYTES + 77))[:-32])
    for _time in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    with contextlib.suppress(CapsuleError):
        read = manifest_format.parsed(sealed(body), "vda of db1")
        # One manifest has one encoding.
        assert b"".join(manifest_format.encoded(read)) == sealed(body)


def test_what_an_operator_reads():
    data = encoded(image(3, SIZE))
    damaged = "the block manifest of vda of db1 cannot be used: "
    assert refused(b"") == {
        "code": "manifest_damaged",
        "reason": damaged + "it has 0 bytes only",
        "remedy": REMEDY,
    }
    assert refused(b"QFI\xfb" + data[4:])["reason"] == damaged + "it is something else, as its first bytes show"
    assert refused(data[:200] + b"!" + data[201:])["reason"] == damaged + "its checksum does not match"
    assert refused(sealed(data[:-33]))["reason"] == damaged + "it ends within segment 2 of 3"
    assert refused(sealed(data[:58]))["reason"] == damaged + "it ends before segment 0 of 3"
    assert refused(sealed(data[:-32] + b"??"))["reason"] == damaged + "2 bytes follow its last segment"
    assert refused(sealed(data[:58] + b"\x07" + data[59:-32]))["reason"] == (
        damaged + "segment 0 is of the unknown kind 7"
    )
    assert refused(sealed(data[:57] + b"\x00" + data[58:-32]))["reason"] == (
        damaged + "the digest of the image does not match those of its segments"
    )
    assert refused(sealed(data[:18] + b"\xff" * 8 + data[26:-32]))["reason"] == (
        damaged + "its image would have 18446744073709551615 bytes, and 70368744177664 is the most"
    )
    assert refused(sealed(data[:8] + b"\x00\x02" + data[10:-32])) == {
        "code": "manifest_version",
        "reason": "the block manifest of vda of db1 has version 2 with blocks of 4096 and segments of 1048576 bytes;"
        " this host reads version 1 with 4096 and 1048576",
        "remedy": "use the same version of kvmops.cluster on both hosts",
    }


@pytest.mark.parametrize("zeros", [b"\x00", b"\x0f", b"\x10", b"\xff"])
def test_zero_blocks_that_another_kind_is_for_or_that_do_not_exist_are_refused(zeros):
    data = encoded(b"x" * 4096 + bytes(4096) + b"x" * 8192)
    at = 58 + 1 + 32
    assert data[at : at + 1] == b"\x02"
    why = refused(sealed(data[:at] + zeros + data[at + 1 : -32]))
    assert why["reason"].endswith("the zero blocks of segment 0 are not possible")
