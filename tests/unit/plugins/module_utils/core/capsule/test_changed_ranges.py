# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.changed_ranges import (
    Hint,
    hash_plan,
    missed,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES, segment_of

SIZE = 130 * SEGMENT_BYTES
EARLIER = manifest_of([bytes(SIZE - 3), b"end"])


def plan(*ranges, size_bytes=SIZE, turn=0):
    return hash_plan("vda", size_bytes, EARLIER, Hint(EARLIER.name, ranges), turn)


def test_only_the_segments_that_a_hint_names_and_the_control_are_read():
    found = plan((SEGMENT_BYTES - 1, 2), (5 * SEGMENT_BYTES, 4096), (9 * SEGMENT_BYTES, 0))
    assert found.segments == [0, 1, 5, 64, 128]
    assert found.control == (64, 128)
    assert found.full_because is None


def test_each_segment_is_in_the_control_once_in_64_capsules():
    seen = [number for turn in range(7, 7 + 64) for number in plan(turn=turn).control]
    assert sorted(seen) == list(range(130))


def test_what_has_grown_or_was_cut_is_read():
    assert plan(turn=3, size_bytes=SIZE + 5).segments == [3, 67, 130]
    assert plan(turn=3, size_bytes=SIZE - 5).segments == [3, 67, 129]


@pytest.mark.parametrize(
    ("earlier", "hint", "why"),
    [
        (None, Hint(EARLIER.name), "there is no block manifest of an earlier capsule of vda here"),
        (EARLIER, None, "nothing records what is written to vda"),
        (
            EARLIER,
            Hint(EARLIER.name, (), "the bitmap kvmops-7 is marked inconsistent"),
            "the record of what was written to vda is lost: the bitmap kvmops-7 is marked inconsistent",
        ),
        (
            EARLIER,
            Hint("blocks:00"),
            "the record of what was written to vda begins at another image than the earlier capsule",
        ),
        (
            EARLIER,
            Hint(EARLIER.name, ((SIZE - 1, 2),)),
            "the record of what was written to vda names bytes 136314879 to 136314881 of 136314880",
        ),
    ],
)
def test_without_a_hint_that_can_be_used_all_is_read_and_it_says_why(earlier, hint, why):
    found = hash_plan("vda", SIZE, earlier, hint, 0)
    assert list(found.segments) == list(range(130))
    assert found.full_because == why


def test_a_hint_that_misses_a_write_is_not_believed():
    found = plan(turn=1)
    unchanged = {number: EARLIER.segments[number] for number in found.segments}
    assert missed("vda", found, EARLIER, unchanged) is None
    assert missed("vda", found, EARLIER, {**unchanged, 65: segment_of(b"x" + bytes(SEGMENT_BYTES - 1))}) == (
        "the record of what was written to vda is wrong: it does not name segment 65 (bytes from 68157440),"
        " which has changed"
    )


def test_a_hint_may_name_the_last_byte():
    assert plan((SIZE - 5, 5), turn=1).full_because is None
    assert plan((SIZE - 5, 5), turn=1).segments == [1, 65, 129]
