# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import zlib

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.payload import (
    ZLIB,
    packed,
    unpacked,
    zlib_stream,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.images import noise


def test_what_compresses_is_compressed_and_what_does_not_is_not():
    text, codec = b"kvm" * 4096, ZLIB["zlib"]
    number, payload = packed(text, codec)
    assert (number, len(payload) < 200) == (1, True)
    assert unpacked(number, payload, len(text), ZLIB) == text
    assert packed(noise(1), codec) == (0, noise(1))
    assert packed(text, None) == (0, text)


@pytest.mark.parametrize(
    ("number", "payload", "why"),
    [
        (0, b"x" * 9, "it has 9 bytes, not 10"),
        (0, b"x" * 11, "it has 11 bytes, not 10"),
        (1, zlib.compress(b"x" * 9), "it has 9 bytes, not 10"),
        (1, zlib.compress(b"x" * 11), r"it cannot be unpacked \(it is cut off, or too long\)"),
        (1, zlib.compress(b"x" * 10)[:-1], r"it cannot be unpacked \(it is cut off, or too long\)"),
        (1, zlib.compress(b"x" * 10) + b"more", r"it cannot be unpacked \(it is cut off, or too long\)"),
        (1, zlib.compress(bytes(10**8), 9), r"it cannot be unpacked \(it is cut off, or too long\)"),
        (1, b"no zlib", r"it cannot be unpacked \(.*\)"),
        (7, b"x" * 10, "the codec 7 was not agreed on"),
    ],
    ids=range(9),
)
def test_what_unpacks_to_something_else_is_refused(number, payload, why):
    with pytest.raises(ValueError, match=f"^{why}$"):
        unpacked(number, payload, 10, ZLIB)


def test_a_stream_remembers_what_went_before_and_sends_also_what_does_not_compress():
    ours, theirs = zlib_stream(), zlib_stream()
    sizes = []
    for content in (noise(1), noise(1), noise(2), b"kvm" * 999, noise(1)):
        number, payload = packed(content, ours)
        assert number == ours.number
        assert unpacked(number, payload, len(content), {"zlib-stream": theirs}) == content
        sizes.append(len(payload))
    assert sizes[0] > 4096
    assert sizes[1] < 100
    assert sizes[4] < 100


def test_a_stream_is_unpacked_to_no_more_than_was_announced():
    ours, theirs = zlib_stream(), zlib_stream()
    with pytest.raises(ValueError, match=r"^it cannot be unpacked \(it is too long\)$"):
        unpacked(ours.number, ours.pack(bytes(10**8)), 4096, {"zlib-stream": theirs})
    with pytest.raises(ValueError, match=r"^it has 9 bytes, not 10$"):
        unpacked(ours.number, zlib_stream().pack(b"x" * 9), 10, {"zlib-stream": zlib_stream()})
