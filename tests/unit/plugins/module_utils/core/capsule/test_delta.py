# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import (
    BASE,
    COPY,
    KEEP,
    PREVIOUS,
    SEND,
    ZERO,
    Delta,
    Run,
    Source,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta_bytes import bytes_table
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import (
    BLOCK_BYTES,
    SEGMENT_BYTES,
    segment_of,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.images import (
    changed,
    image,
    noise,
    seeds,
    sizes,
)


def source(kind, content):
    return Source(kind, manifest_of([content]))


def put_together(delta, contents, new):
    """What a far end makes of a delta: its bytes, and how many bytes of blocks were sent to it."""
    by_digest = {manifest_of([content]).image_digest: content for content in contents}
    ground = by_digest[delta.ground.image_digest] if delta.ground else b""
    made, sent = bytearray((ground + bytes(len(new)))[: len(new)]), 0
    for segment in delta.segments():
        blocks = [block for run in segment.runs for block in range(run.first, run.first + run.blocks)]
        assert blocks == list(range(segment.number * 256, segment.number * 256 + len(blocks)))
        for run in segment.runs:
            start, end = run.first * BLOCK_BYTES, min(len(new), (run.first + run.blocks) * BLOCK_BYTES)
            if run.kind == ZERO:
                made[start:end] = bytes(end - start)
            elif run.kind == COPY:
                other = by_digest[delta.sources[run.source].manifest.image_digest]
                made[start:end] = other[run.source_first * BLOCK_BYTES :][: end - start]
            elif run.kind == SEND:
                made[start:end] = new[start:end]
                sent += end - start
        at = segment.number * SEGMENT_BYTES
        assert segment_of(bytes(made[at : at + SEGMENT_BYTES])).digest == segment.digest
    return bytes(made), sent


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, seeds, st.sampled_from([0.0, 0.002, 0.05, 1.0]), st.booleans(), st.booleans())
def test_the_far_end_has_the_image_afterwards_whatever_it_had_before(size, other_size, seed, share, has, has_capsule):
    base = image(seed, other_size)
    new = (changed(base, seed, share) + image(seed + 1, size))[:size]
    earlier = changed(new[: size - size // 7], seed + 2, 0.3)
    contents = [base] * has + [earlier] * has_capsule
    kinds = [BASE] * has + [PREVIOUS] * has_capsule
    delta = Delta(manifest_of([new]), [source(*one) for one in zip(kinds, contents)])
    made, sent = put_together(delta, contents, new)
    assert made == new
    table = bytes_table(delta, base=manifest_of([base]))
    assert table["send_bytes"] == sent
    assert sum(table["avoided_by"].values()) + sent == table["image_bytes"] == len(new)


def test_5_percent_of_scattered_blocks_cost_these_blocks_and_less_than_a_percent():
    old = noise(1, 32 * SEGMENT_BYTES)
    new = changed(old, 2, 0.05)
    delta = Delta(manifest_of([new]), [source(PREVIOUS, old)])
    blocks = sum(old[at : at + 4096] != new[at : at + 4096] for at in range(0, len(old), 4096))
    table = bytes_table(delta)
    assert table["send_bytes"] == blocks * 4096
    # By hand, with the digests of all blocks on the way back: 1.09.
    assert table["digest_bytes"] < 0.001 * len(old)
    assert table["send_bytes"] + table["digest_bytes"] < 1.001 * table["send_bytes"]


def test_what_happens_to_each_block():
    base = b"".join(noise(number) for number in range(8))
    earlier = noise(100) + noise(101) + noise(102)
    wanted = [noise(0), bytes(4096), noise(101), noise(102), noise(50), noise(51), noise(1), noise(7)]
    delta = Delta(manifest_of([b"".join(wanted)]), [source(PREVIOUS, earlier), source(BASE, base)])
    assert [one.kind for one in delta.sources] == [BASE, PREVIOUS]
    assert [segment.runs for segment in delta.segments()] == [
        (
            Run(KEEP, 0, 1),
            Run(ZERO, 1, 1),
            Run(COPY, 2, 2, 1, 1),
            Run(SEND, 4, 2),
            Run(COPY, 6, 1, 0, 1),
            Run(KEEP, 7, 1),
        )
    ]
    assert bytes_table(delta, balloon_bytes=1000) == {
        "image_bytes": 32768,
        "send_bytes": 8192,
        "digest_bytes": 45,
        "avoided_by": {"base": 8192, "zero": 3096, "balloon": 1000, "previous": 0, "hash": 12288},
        "full_because": None,
    }


def test_segments_that_are_there_already_are_skipped():
    old, new = noise(1, 3 * SEGMENT_BYTES), noise(2, 3 * SEGMENT_BYTES)
    delta = Delta(manifest_of([new]), [source(BASE, old)])
    assert delta.changed == (0, 1, 2)
    assert [segment.number for segment in delta.segments(skip={1})] == [0, 2]


def test_what_is_still_as_in_the_base_is_avoided_by_the_base():
    base = noise(1, 2 * SEGMENT_BYTES)
    earlier = noise(2, SEGMENT_BYTES) + base[SEGMENT_BYTES:]
    new = earlier[:-4096] + noise(3)
    table = bytes_table(Delta(manifest_of([new]), [source(PREVIOUS, earlier)]), base=manifest_of([base]))
    assert table["avoided_by"] == {
        "base": SEGMENT_BYTES - 4096,
        "zero": 0,
        "balloon": 0,
        "previous": SEGMENT_BYTES,
        "hash": 0,
    }


@pytest.mark.parametrize("why", [None, "the record of what was written to vda is lost: the host crashed"])
def test_a_full_send_says_why(why):
    table = bytes_table(Delta(manifest_of([noise(1)]), []), full_because=why)
    assert table["send_bytes"] == 4096
    assert table["full_because"] == (why or "the far end has no image that has more in common with this one than zeros")
    assert bytes_table(Delta(manifest_of([bytes(4096)]), []))["full_because"] is None


def test_the_same_image_needs_nothing():
    content = image(1, 2 * SEGMENT_BYTES + 9)
    delta = Delta(manifest_of([content]), [source(BASE, noise(1)), source(PREVIOUS, content)])
    assert delta.changed == ()
    assert list(delta.segments()) == []
    table = bytes_table(delta)
    assert (table["send_bytes"], table["digest_bytes"]) == (0, 0)


def test_random_images_that_share_blocks_in_other_places():
    dice = random.Random(4)
    pool = [noise(number) for number in range(40)] + [bytes(4096)]
    old = b"".join(dice.choice(pool) for dummy in range(700))
    new = b"".join(dice.choice(pool) for dummy in range(600))
    delta = Delta(manifest_of([new]), [source(PREVIOUS, old)])
    made, sent = put_together(delta, [old], new)
    assert (made == new, sent) == (True, 0)
