# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.disk_writes import (
    DiskWrites,
    mirror,
    while_memory_goes,
)

MIB = 1024**2


@pytest.mark.parametrize(("granule", "seconds"), [(4096, 5), (4096, 60), (65536, 5), (65536, 60)])
def test_different_bytes_are_those_of_a_simulation(granule, seconds):
    dice, area = random.Random(1), 8 * MIB
    seen = {dice.randrange(area // 4096) * 4096 // granule for dummy in range(100 * seconds)}
    found = DiskWrites(100, 4096, area).different_bytes(seconds, granule)
    assert found == pytest.approx(len(seen) * granule, rel=0.05)


def test_writes_to_ever_new_places_count_each():
    assert DiskWrites(10, 4096).different_bytes(5) == 50 * 4096
    assert DiskWrites(10, 128 * 1024).different_bytes(5, 65536) == 50 * 128 * 1024
    assert DiskWrites().different_bytes(1e9) == 0


def test_a_mirror_that_never_gets_in_step_is_none():
    assert mirror(1e6, [DiskWrites(1000, 65536)], 1e6) is None
    assert mirror(1e6, [], 1e6) == (2 * 0.5, 1e6)


def test_what_is_written_while_memory_goes_is_sent_once_for_each_cluster():
    assert while_memory_goes(10, [], 1e6) == 0
    assert while_memory_goes(1e6, [DiskWrites(1000, 4096, 8 * MIB)], 1e6) == pytest.approx(8 * MIB)
