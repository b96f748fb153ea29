# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import receive_state
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receive_state import ReceiveState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES

NAME, GROUND = "blocks:" + "a" * 64, "blocks:" + "0" * 64
SIZE = 5 * SEGMENT_BYTES + 8192


def state():
    made = ReceiveState(NAME, GROUND, SIZE)
    for number in (0, 1, 3):
        made.segment_verified(number)
    made.blocks_arrived(1024, 9)
    made.blocks_arrived(1030, 1)
    made.blocks_arrived(1280, 2)
    return made


def test_what_is_written_is_read_again():
    document = json.loads(json.dumps(state().document()))
    assert document == {
        "schema": "kvmops.receive_state/1",
        "image": NAME,
        "ground": GROUND,
        "size_bytes": SIZE,
        "verified": [[0, 2], [3, 1]],
        "begun": [[1024, 9], [1280, 2]],
    }
    read = receive_state.from_document(document, "vda of db1")
    assert read.document() == document
    assert (read.verified, read.begun) == ({0, 1, 3}, {4: set(range(1024, 1033)), 5: {1280, 1281}})


def test_a_damaged_segment_counts_for_nothing():
    made = state()
    made.segment_damaged(4)
    made.segment_damaged(3)
    assert (made.verified, made.begun) == ({0, 1}, {5: {1280, 1281}})
    made.segment_verified(5)
    assert (made.verified, made.begun) == ({0, 1, 5}, {})


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"schema": "kvmops.receive_state/2"}, "its schema is not kvmops.receive_state/1"),
        ({"size_bytes": "5"}, "its size_bytes is '5'"),
        ({"size_bytes": True}, "its size_bytes is True"),
        ({"size_bytes": 2**60}, f"its size_bytes is {2**60}"),
        ({"image": "blocks:XYZ"}, "it does not name its images"),
        ({"ground": 5}, "it does not name its images"),
        ({"verified": None}, "its verified is no list of at most 4096 ranges"),
        ({"verified": [[0, 1]] * 4097}, "its verified is no list of at most 4096 ranges"),
        ({"verified": [[0]]}, "its verified has a range that is no pair of numbers"),
        ({"verified": [[0, True]]}, "its verified has a range that is no pair of numbers"),
        ({"verified": [[0, 7]]}, "its verified has the range 0, 7, which is out of order or of 0 to 6"),
        ({"verified": [[3, 1], [2, 1]]}, "its verified has the range 2, 1, which is out of order or of 0 to 6"),
        ({"begun": [[0, 10**15]]}, f"its begun has the range 0, {10**15}, which is out of order or of 0 to 1282"),
        ({"begun": [[0, 1]]}, "block 0 is of a segment that is verified"),
    ],
)
def test_a_damaged_state_says_what_to_do(edit, why):
    with pytest.raises(CapsuleError) as error:
        receive_state.from_document({**state().document(), **edit}, "vda of db1")
    assert error.value.refusal == {
        "code": "receive_state_damaged",
        "reason": f"how far vda of db1 was received cannot be read: {why}",
        "remedy": "remove that file; the image is then sent from its begin, and what the base has is not sent",
    }


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 2000)))
def test_ranges_have_the_same_numbers(numbers):
    ranges = receive_state.as_ranges(numbers)
    assert [number for first, count in ranges for number in range(first, first + count)] == sorted(numbers)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 60)), st.sets(st.integers(0, 60)))
def test_a_range_goes_on_over_what_is_not_needed_and_over_nothing_else(numbers, needed):
    ranges = receive_state.as_ranges(numbers, needed)
    covered = {number for first, count in ranges for number in range(first, first + count)}
    assert covered >= numbers
    assert (covered & needed) <= numbers
    ends = [first + count for first, count in ranges]
    for end, (first, _count) in zip(ends, ranges[1:]):
        assert not needed or needed & set(range(end, first)), "two ranges that could be one"


def test_a_state_with_too_many_gaps_leaves_out_the_rest():
    made = ReceiveState(NAME, None, 20_000 * SEGMENT_BYTES)
    for number in range(0, 20_000, 2):
        made.segment_verified(number)
    document = made.document(range(20_000))
    assert document["verified"] == [[number, 1] for number in range(0, 8192, 2)]
    assert receive_state.from_document(document, "x").verified == set(range(0, 8192, 2))
    assert made.document(range(0, 20_000, 2))["verified"] == [[0, 19_999]]
