# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import sampled_changes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.sampled_changes import (
    Changes,
    both,
    of_clusters,
    of_disk,
    of_memory,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule import images

MIB = 1 << 20
PAGE = 4096


def pieces(content, every=1, length=4 * PAGE):
    starts = range(0, len(content), length * every)
    return [content[start : start + length] for start in starts]


def saved(content):
    """Memory in a file that has something before it."""
    return manifest_of([images.noise(99, MIB), content])


def test_memory_that_is_as_it_was_saved_has_not_changed():
    memory = images.image(1, 8 * MIB)
    found = of_memory(pieces(memory), saved(memory), len(memory))
    assert found == (0, 1.0, 8 * MIB, 0.0)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.2, 0.7])
def test_changed_pages_are_counted_and_zeros_are_not(monkeypatch, share, small):
    monkeypatch.setattr(sampled_changes, "SMALL_BYTES", (64 if small else 1) * MIB)
    before = images.image(2, 16 * MIB)
    now = images.changed(before, 3, share)
    wiped = bytes(2 * MIB) + now[2 * MIB :]
    differing = sum(
        wiped[at : at + PAGE] != before[at : at + PAGE] and any(wiped[at : at + PAGE])
        for at in range(0, len(wiped), PAGE)
    )
    whole = of_memory(pieces(wiped), saved(before), len(wiped))
    assert (whole.changed_bytes, whole.error) == (differing * PAGE, 0.0)
    sampled = of_memory(pieces(wiped, every=4), saved(before), len(wiped))
    assert sampled.sampled_bytes == len(wiped) // 4
    assert abs(sampled.changed_bytes - whole.changed_bytes) < 4 * sampled.error * whole.changed_bytes


def test_what_changed_is_packed_for_the_share_that_compression_leaves():
    before = images.noise(4, MIB)
    half = images.noise(5, PAGE // 2) + bytes(PAGE // 2)
    now = before[: MIB // 2] + half + before[MIB // 2 + PAGE :]
    found = of_memory(pieces(now), saved(before), MIB)
    assert found.changed_bytes == PAGE
    assert 0.5 < found.compressed_share < 0.52


def test_none_of_a_few_pages_is_no_certainty():
    memory = images.noise(6, 4 * MIB)
    found = of_memory(pieces(memory, every=64), saved(memory), len(memory))
    assert found.changed_bytes == 0
    assert found.error > 1


@pytest.mark.parametrize("memory", [b"", bytes(MIB), images.noise(7, MIB)])
def test_nothing_is_said_where_no_page_is_as_it_was_saved(memory):
    assert of_memory(pieces(memory), saved(images.noise(8, MIB)), MIB) is None


def test_of_a_disk_each_block_is_compared_with_the_one_below_it():
    below = images.image(9, 2 * MIB + 5 * PAGE)
    now = images.changed(below, 10, 0.3)
    cluster = 65536
    own = [(place, now[place : place + cluster]) for place in range(0, len(now), 2 * cluster)]
    written = sum(len(one) for dummy, one in own)
    differing = sum(
        one[at : at + PAGE] != below[place + at : place + at + PAGE]
        for place, one in own
        for at in range(0, len(one), PAGE)
    )
    found = of_disk(own, manifest_of([below]), written)
    assert (found.changed_bytes, found.sampled_bytes, found.error) == (differing * PAGE, written, 0.0)
    moved = of_disk([(place + PAGE, one) for place, one in own], manifest_of([below]), written)
    assert moved.changed_bytes > found.changed_bytes


def test_what_is_beyond_the_end_of_the_disk_below_has_changed():
    found = of_disk([(4 * MIB, images.noise(11, PAGE))], manifest_of([images.noise(12, MIB)]), PAGE)
    assert found.changed_bytes == PAGE


def test_a_layer_with_nothing_says_nothing():
    assert of_disk([], manifest_of([images.noise(13, MIB)]), 0) is None


def test_clusters_whose_place_is_unknown_are_compared_with_all_of_the_image():
    disk = images.noise(7, MIB)
    cluster = disk[8 * PAGE : 16 * PAGE]
    written = cluster[: 3 * PAGE] + images.noise(8, PAGE) + bytes(PAGE) + cluster[5 * PAGE :]
    assert of_clusters([written], manifest_of([disk]), len(written)).changed_bytes == PAGE
    assert of_clusters([written], manifest_of([disk]), 4 * len(written)).changed_bytes == 4 * PAGE
    # Other than memory, nothing needs to be as it was.
    assert of_clusters([images.noise(8, PAGE)], manifest_of([disk]), PAGE).changed_bytes == PAGE
    assert of_clusters([], manifest_of([disk]), 0) is None


def test_two_parts_are_one_estimate():
    assert both(Changes(300, 0.5, 1000, 0.1), Changes(100, 1.0, 500, 0.3)) == (400, 0.625, 1500, 0.1061)
    assert both(Changes(0, 1.0, 1000, 0.1), Changes(0, 1.0, 0, 0.0)) == (0, 1.0, 1000, 0.1)
