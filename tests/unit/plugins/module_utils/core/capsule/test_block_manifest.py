# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import (
    MOST_IMAGE_BYTES,
    BlockManifest,
    ManifestBuilder,
    manifest_of,
    refreshed,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    SEGMENT_BYTES,
    segment_of,
    segments_in,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.images import (
    changed,
    image,
    noise,
    seeds,
    sha256,
    sizes,
)


def by_the_book(content):
    """The digests as the documentation of the format defines them, without the code under test."""
    segment_digests, block_digests = [], []
    for start in range(0, len(content), SEGMENT_BYTES):
        segment, whole = content[start : start + SEGMENT_BYTES], b"kvmops.segment/1\0"
        for at in range(0, len(segment), BLOCK_BYTES):
            block = segment[at : at + BLOCK_BYTES]
            zero = not any(block)
            whole += bytes(32) if zero else sha256(block)
            block_digests.append(None if zero else sha256(block)[:16])
        segment_digests.append(sha256(whole))
    numbers = b"".join(number.to_bytes(8, "big") for number in (len(content), 4096, 1048576))
    return sha256(b"kvmops.image/1\0" + numbers + b"".join(segment_digests)), segment_digests, block_digests


@settings(max_examples=25, deadline=None)
@given(sizes, seeds)
def test_the_digests_are_those_of_the_documented_format(size_bytes, seed):
    content = image(seed, size_bytes)
    made = manifest_of([content])
    whole, segment_digests, block_digests = by_the_book(content)
    assert made.size_bytes == size_bytes
    assert made.image_digest == whole
    assert [segment.digest for segment in made.segments] == segment_digests
    assert [digest for segment in made.segments for digest in segment.listed()] == block_digests


@settings(max_examples=25, deadline=None)
@given(sizes, seeds)
def test_pieces_of_any_size_and_holes_make_the_same_manifest(size_bytes, seed):
    content, dice, builder, at = image(seed, size_bytes, zero_share=0.6), random.Random(seed), ManifestBuilder(), 0
    while at < len(content):
        piece = content[at : at + dice.choice((1, 512, 5000, 4096, 65536, SEGMENT_BYTES, 3 * SEGMENT_BYTES))]
        if any(piece):
            builder.feed(piece)
        else:
            builder.hole(len(piece))
        at += len(piece)
    made = builder.finish()
    assert made.image_digest == manifest_of([content]).image_digest
    assert list(made.segments) == list(manifest_of([content]).segments)


def test_a_known_image_has_a_digest_that_never_changes():
    content = bytes(range(256)) * 16 * 300 + bytes(SEGMENT_BYTES) + b"end"
    assert manifest_of([content]).name == ("blocks:705246b5fb3ce332b34af2693f8ac2272f92208be31998a36e058e858d8ff5de")


@pytest.mark.parametrize("where", [0, 4095, 4096, SEGMENT_BYTES - 1, SEGMENT_BYTES, 2 * SEGMENT_BYTES + 99])
def test_one_flipped_bit_changes_the_digest_of_its_block_its_segment_and_the_image(where):
    content = image(7, 2 * SEGMENT_BYTES + 100, zero_share=0.0)
    flipped = bytearray(content)
    flipped[where] ^= 0x10
    old, new = manifest_of([content]), manifest_of([bytes(flipped)])
    assert old.image_digest != new.image_digest
    number = where // SEGMENT_BYTES
    assert [one for one in range(3) if old.segments[one].digest != new.segments[one].digest] == [number]
    pairs = zip(old.segments[number].listed(), new.segments[number].listed())
    assert [one for one, (a, b) in enumerate(pairs) if a != b] == [where % SEGMENT_BYTES // BLOCK_BYTES]


def test_two_blocks_that_change_places_change_the_digest():
    one, two = noise(1), noise(2)
    assert manifest_of([one + two]).image_digest != manifest_of([two + one]).image_digest


def test_zeros_at_the_end_count():
    assert len({manifest_of([b"x" + bytes(more)]).image_digest for more in (0, 1, 4095, 4096, SEGMENT_BYTES)}) == 5


def test_an_empty_tebibyte_takes_no_time_and_no_memory_for_its_content():
    builder = ManifestBuilder()
    builder.feed(b"boot")
    builder.hole(1024**4 - 4)
    made = builder.finish()
    assert len(made.segments) == 1024**2
    assert made.segments[0].listed()[1:] == [None] * 255
    assert len({id(segment) for segment in made.segments[1:]}) == 1


def test_an_image_that_is_too_large_is_refused_before_it_takes_memory():
    builder = ManifestBuilder()
    with pytest.raises(ValueError, match=f"an image has 0 to {MOST_IMAGE_BYTES} bytes, not {MOST_IMAGE_BYTES + 1}"):
        builder.hole(MOST_IMAGE_BYTES + 1)
    with pytest.raises(ValueError, match="1048577 bytes have 2 segments, not 1"):
        BlockManifest(SEGMENT_BYTES + 1, [segment_of(b"x")])
    with pytest.raises(ValueError, match="a segment has 1 to 1048576 bytes, not 1048577"):
        segment_of(bytes(SEGMENT_BYTES + 1))


@settings(max_examples=15, deadline=None)
@given(sizes, sizes, seeds)
def test_a_refreshed_manifest_is_that_of_the_new_image(size_before, size_now, seed):
    before = image(seed, size_before)
    now = changed((before + image(seed + 1, size_now))[:size_now], seed, 0.002)
    hashed = {}
    for number in range(segments_in(size_now)):
        start = number * SEGMENT_BYTES
        if before[start : start + SEGMENT_BYTES] != now[start : start + SEGMENT_BYTES]:
            hashed[number] = segment_of(now[start : start + SEGMENT_BYTES])
    made = refreshed(manifest_of([before]), size_now, hashed)
    assert made.image_digest == manifest_of([now]).image_digest


def test_a_segment_that_has_grown_must_be_read_again():
    with pytest.raises(ValueError, match="segment 0 is new or has another length, and was not read"):
        refreshed(manifest_of([b"abc"]), 4, {})
    with pytest.raises(ValueError, match="segment 1 is new or has another length, and was not read"):
        refreshed(manifest_of([bytes(SEGMENT_BYTES)]), SEGMENT_BYTES + 1, {})
    with pytest.raises(ValueError, match="segment 0 has 1 blocks, not 2"):
        refreshed(manifest_of([b""]), 5000, {0: segment_of(b"abc")})
