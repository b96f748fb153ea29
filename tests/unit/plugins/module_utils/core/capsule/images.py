# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Images for tests: random, with holes, of awkward sizes."""

from __future__ import annotations

import hashlib
import random

from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import BLOCK_BYTES, SEGMENT_BYTES


def noise(seed, length=BLOCK_BYTES):
    """Bytes that do not compress, the same ones for the same seed."""
    return random.Random(seed).randbytes(length) if length else b""


def image(seed, size_bytes, zero_share=0.3):
    """An image in which so many of the blocks are zero, in runs and alone."""
    dice = random.Random(seed)
    blocks, zero = [], False
    for number in range(-(-size_bytes // BLOCK_BYTES)):
        if number % dice.choice((1, 3, 40)) == 0:
            zero = dice.random() < zero_share
        blocks.append(bytes(BLOCK_BYTES) if zero else noise((seed, number).__hash__()))
    return b"".join(blocks)[:size_bytes]


def changed(content, seed, share):
    """The same with so many of its blocks changed, each in one bit at least."""
    dice, made = random.Random(seed), bytearray(content)
    for start in range(0, len(made), BLOCK_BYTES):
        if dice.random() < share:
            at = start + dice.randrange(min(BLOCK_BYTES, len(made) - start))
            made[at] ^= 1 << dice.randrange(8)
    return bytes(made)


def sha256(data):
    return hashlib.sha256(data).digest()


#: Sizes around the edges of blocks and segments, up to three segments.
sizes = st.one_of(
    st.integers(0, 3 * SEGMENT_BYTES),
    st.sampled_from([0, 1, 511, 512, 4095, 4096, 4097, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1]),
)
seeds = st.integers(0, 10**6)
