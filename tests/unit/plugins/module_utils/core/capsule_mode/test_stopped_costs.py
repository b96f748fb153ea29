# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Seeds, lazy disks and the balloon; bands; what is avoided."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode import bytes_avoided, mode_choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.cost_bands import bands
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.disk_writes import DiskWrites
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.mode_costs import Cost, NoCost
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.moved_guest import Disk, Guest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.stopped_costs import suspended
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.thin_path import Overheads, thin_path
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, working_set

MIB = 1024**2
KBIT_384 = 48_000.0
PERMITTED = {"allow_suspend": True, "allow_storage_copy": True}


def guest(*disks, touched_mib=64, memory_mib=96, hot_bytes=40_000, share=0.4, **more):
    made = working_set(domain("db1", memory_bytes=memory_mib * MIB), hot_bytes=hot_bytes)
    made = {**made, "touched_bytes": touched_mib * MIB, "compressed_share": share, "hot_compressed_share": None}
    return Guest(made, disks, **more)


def test_a_large_disk_follows_a_small_memory():
    path = thin_path(2.5e6, 0.04)
    one = guest(Disk("vda", 10_000 * MIB))
    found = suspended(one, path, 500)
    assert found.settings == {"seeds": 0, "lazy": True, "balloon": False}
    # 64 MiB, of which 0.4 is left, at 2.5 MB/s.
    assert 10.7 < found.downtime_s < 14
    assert found.useful_s < 15
    assert found.fill_bytes == pytest.approx(10_000 * MIB - 65536)
    assert found.fill_s == pytest.approx(found.fill_bytes / 2.5e6)
    slow = suspended(one, path, 500, fill_bytes_per_s=1e6)
    assert slow.fill_s == pytest.approx(found.fill_bytes / 1e6)
    whole = suspended(one, path, 500, lazy_disks=False)
    assert whole.useful_s > 4000
    assert (whole.fill_s, whole.settings["lazy"]) == (0, False)


def test_a_small_disk_comes_with_the_memory():
    found = suspended(guest(Disk("vda", 2 * MIB)), thin_path(2.5e6, 0.04), 500)
    assert found.settings["lazy"] is False
    assert found.fill_s == 0


def test_a_host_without_lazy_disks_gets_no_lazy_suspend():
    old = refusal("lazy_libvirt", "libvirt 9.0 of h3 cannot wait for a disk", "upgrade libvirt on h3 to 9.2")
    one = guest(Disk("vda", 1000 * MIB))
    path = thin_path(2.5e6, 0.04)
    with_lazy = mode_choice.choose(one, path, PERMITTED, lazy_start=True)
    without = mode_choice.choose(one, path, PERMITTED, refused={"lazy": old}, lazy_start=True)
    assert mode_choice.choose(one, path, PERMITTED)["modes"]["suspended"]["settings"]["lazy"] is False
    assert with_lazy["modes"]["suspended"]["settings"]["lazy"] is True
    assert without["modes"]["suspended"]["settings"]["lazy"] is False
    assert without["modes"]["lazy"]["ruled_out"] == old


def test_a_second_seed_takes_what_changed_during_the_first():
    writes = DiskWrites(1, 4096, 64 * MIB)
    one = guest(Disk("vda", 64 * MIB, layer_bytes=16 * MIB, base_there=True, writes=writes))
    path = thin_path(100_000, 0.0)
    never = suspended(one, path, 10**9, lazy_disks=False)
    found = suspended(one, path, 12_000, lazy_disks=False)
    assert never.settings["seeds"] == 0
    assert found.settings["seeds"] > 1
    assert found.downtime_s < 0.05 * never.downtime_s
    assert found.useful_s < 1.1 * never.useful_s


@pytest.mark.parametrize(("tasks_s", "seeds"), [(0.0, 2), (10.0, 1), (60.0, 0)])
def test_a_further_seed_must_save_three_times_what_it_adds(tasks_s, seeds):
    writes = DiskWrites(1, 4096, 64 * MIB)
    one = guest(Disk("vda", 64 * MIB, layer_bytes=16 * MIB, base_there=True, changed_bytes=0, writes=writes))
    found = suspended(one, thin_path(48_000, 0.0, overheads=Overheads(tasks_s=tasks_s)), 500, lazy_disks=False)
    assert found.settings["seeds"] == seeds


def test_the_balloon_takes_what_the_guest_does_not_use():
    path = thin_path(KBIT_384, 0.04)
    plain = suspended(guest(), path, 10**9)
    ballooned = suspended(guest(balloon_bytes=32 * MIB), path, 10**9)
    assert plain.sent_bytes - ballooned.sent_bytes == pytest.approx(0.4 * 32 * MIB)
    assert ballooned.settings["balloon"] is True
    # The guest runs while the balloon takes its memory.
    taken_s = 32 * MIB / Overheads().balloon_bytes_per_s
    assert ballooned.running_s - ballooned.downtime_s == pytest.approx(taken_s + path.connect_s)


def test_bands_hold_all_errors_together():
    one = guest(Disk("vda", 64 * MIB, compressed_share=0.5, writes=DiskWrites(1, 4096, MIB)))
    path = thin_path(KBIT_384, 0.04)

    def cost(of, over):
        return suspended(of, over, 10**9, lazy_disks=False)

    found = bands(cost(one, path), cost, one, path)
    seconds = found["useful_s"]
    assert seconds["low"] < seconds["value"] < seconds["high"]
    # Links that err by 4 %, memory and disks that compress to 10 % more or less, as independent errors.
    assert 0.08 < seconds["high"] / seconds["value"] - 1 < 0.2
    # A link errs in time, not in bytes.
    assert found["bytes"]["high"] / found["bytes"]["value"] < seconds["high"] / seconds["value"]
    assert found["fill_s"] == {"value": 0, "low": 0, "high": 0}


def test_a_mode_that_may_never_end_has_no_upper_end():
    one, path = guest(), thin_path(KBIT_384, 0.0)

    def cost(dummy, over):
        return NoCost("it writes too much", "") if over.bytes_per_s < KBIT_384 else Cost(1e6, 20, 21, 1)

    assert bands(Cost(1e6, 20, 21, 1), cost, one, path)["running_s"] == {"value": 20, "low": 20, "high": None}


def test_what_is_avoided_and_what_is_sent_make_the_whole_guest():
    disk = Disk(
        "vda",
        data_bytes=48 * MIB,
        size_bytes=64 * MIB,
        layer_bytes=16 * MIB,
        base_there=True,
        changed_bytes=4 * MIB,
        hashed_bytes=MIB,
        compressed_share=0.5,
    )
    one = guest(disk, balloon_bytes=10 * MIB, seed_age_s=1.0)
    found = bytes_avoided.document(bytes_avoided.avoided_as_capsule(one))
    assert found["base"] == 32 * MIB
    assert found["zero"] == 16 * MIB + 32 * MIB
    assert found["balloon"] == 10 * MIB
    assert found["hash"] == MIB
    assert sum(found.values()) + one.memory_bytes + one.disk_bytes == pytest.approx(160 * MIB, abs=8)
    assert found["previous"] > 50 * MIB
    unknown = dataclasses.replace(one, disks=(dataclasses.replace(disk, hashed_bytes=None),))
    assert bytes_avoided.avoided_as_capsule(unknown).hash is None
    assert bytes_avoided.avoided_by_migration(one).base == 32 * MIB


def test_a_seed_never_costs_more_than_the_whole():
    # A guest that rewrites all its memory at once.
    one = guest(hot_bytes=64 * MIB, seed_age_s=3600)
    assert one.memory_bytes == pytest.approx(0.4 * 64 * MIB, rel=0.01)


def test_tasks_before_the_guest_stops_do_not_keep_it_down():
    slow = thin_path(KBIT_384, 0.04, overheads=Overheads(tasks_s=30.0))
    found, quick = suspended(guest(), slow, 10**9), suspended(guest(), thin_path(KBIT_384, 0.04), 10**9)
    assert found.downtime_s == quick.downtime_s
    assert found.useful_s == pytest.approx(quick.useful_s + 30.0)


def test_memory_compresses_better_on_a_slow_link():
    one = guest()
    thin, fast = thin_path(KBIT_384, 0.04), thin_path(125e6, 0.01)
    assert thin.pack_exponent > fast.pack_exponent > 1.0
    kept = dataclasses.replace(one, pack_exponent=thin.pack_exponent)
    assert kept.memory_bytes < one.memory_bytes
    random = dataclasses.replace(guest(share=1.0), pack_exponent=thin.pack_exponent)
    assert random.memory_bytes == guest(share=1.0).memory_bytes
