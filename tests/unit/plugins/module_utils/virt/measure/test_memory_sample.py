# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import memory_sample

ZERO = bytes(4096)
NOISE = random.Random(1).randbytes(4096)
TEXT = (b"the quick brown fox " * 205)[:4096]


def changed(page, count):
    return bytes(255 - one for one in page[:count]) + page[count:]


def test_zero_pages_are_counted_and_do_not_count_as_compressible():
    sample = memory_sample.compare({0: ZERO * 3 + NOISE}, {0: ZERO * 3 + NOISE})
    assert (sample.pages, sample.zero_share) == (4, 0.75)
    assert sample.compressed_share == pytest.approx(1.0)
    assert (sample.changed_pages, sample.changed_share) == (0, None)


def test_text_compresses_and_noise_does_not():
    assert memory_sample.compare({0: TEXT}, {0: TEXT}).compressed_share < 0.05
    assert memory_sample.compare({0: TEXT + NOISE}, {0: TEXT + NOISE}).compressed_share == pytest.approx(0.5, abs=0.03)


def test_a_guest_without_anything_in_memory_has_no_share():
    sample = memory_sample.compare({0: ZERO}, {0: ZERO})
    assert (sample.zero_share, sample.compressed_share) == (1.0, None)
    assert memory_sample.compare({}, {}).pages == 0


@pytest.mark.parametrize(("count", "share"), [(8, 8 / 4096), (4096, 1.0)])
def test_a_sparse_writer_differs_from_one_that_rewrites_whole_pages(count, share):
    sample = memory_sample.compare({0: NOISE * 2}, {0: changed(NOISE, count) + NOISE})
    assert sample.changed_pages == 1
    assert sample.changed_share == pytest.approx(share)


def test_what_changes_is_compressed_apart_and_as_it_is_then():
    sample = memory_sample.compare({0: TEXT * 3 + TEXT}, {0: TEXT * 3 + NOISE})
    assert sample.compressed_share < 0.05
    assert sample.changed_compressed_share == pytest.approx(1.0)
    assert memory_sample.compare({0: NOISE + NOISE}, {0: NOISE + TEXT}).changed_compressed_share < 0.05
    assert memory_sample.compare({0: NOISE}, {0: NOISE}).changed_compressed_share is None


def test_what_was_not_read_again_tells_nothing_of_changes_but_all_the_rest():
    sample = memory_sample.compare({0: NOISE, 8192: ZERO, 16384: TEXT}, {16384: NOISE})
    assert (sample.pages, sample.zero_share) == (3, pytest.approx(1 / 3))
    assert (sample.changed_pages, sample.changed_compressed_share) == (1, pytest.approx(1.0))


class Guest:
    """A guest whose memory grows by one in every byte that is looked at again."""

    def __init__(self, mib):
        self.kib = mib * 1024
        self.places = []

    def info(self):
        return [1, self.kib, self.kib, 1, 0]

    def memoryPeek(self, start, size, flags):  # noqa: N802
        assert flags == 2
        assert start >= 1 << 20
        assert start + size <= self.kib * 1024
        self.places.append(start)
        return bytes([self.places.count(start)]) * size


def test_each_place_is_read_and_none_outside_the_guest(cluster):
    guest = Guest(64)
    wanted = memory_sample.spread(guest, 5)
    first = memory_sample.read(guest, wanted, least=1, budget_s=60)
    second = memory_sample.read(guest, first, least=1, budget_s=60)
    assert guest.places == [*wanted, *wanted]
    assert len(set(wanted)) == 5
    sample = memory_sample.compare(first, second)
    assert sample.changed_pages == sample.pages == 5 * memory_sample.CHUNK // 4096


@pytest.mark.parametrize("least", [1, 16])
def test_a_budget_that_is_used_up_ends_it_after_the_least(cluster, least):
    guest = Guest(64)
    assert len(memory_sample.read(guest, memory_sample.spread(guest, 500), least=least, budget_s=0)) == least


def test_pieces_are_evenly_spread_from_the_first_on_and_never_outside():
    size = 256 << 20
    for offset in (0.0, 0.5, 0.999):
        found = memory_sample.places(size, 128, offset)
        assert len(set(found)) == 128
        assert min(found) >= memory_sample.LOWEST
        assert max(found) + memory_sample.CHUNK <= size
        assert all(place % memory_sample.PAGE == 0 for place in found)
        for begun in (16, 64, 128):
            halves = [sum(place < size // 2 for place in found[:begun]), begun]
            assert abs(halves[0] / halves[1] - 0.5) < 0.07
            ordered = sorted(found[:begun])
            gaps = [after - before for before, after in itertools.pairwise(ordered)]
            assert max(gaps) < 1.1 * size / begun


def test_a_small_guest_has_fewer_places():
    assert len(memory_sample.places(1 << 20, 10, 0.5)) == 1
    assert len(set(memory_sample.places((1 << 20) + 5 * memory_sample.CHUNK, 10, 0.5))) == 4


@pytest.mark.parametrize("offset", [0.0, 0.9999])
def test_every_piece_ends_within_the_memory(offset):
    size, length = 8 << 20, 65536
    found = memory_sample.places(size, 20, offset, length)
    assert len(found) == 20
    assert max(found) + length <= size
