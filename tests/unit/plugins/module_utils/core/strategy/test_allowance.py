# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import memory_demand
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.allowance import allowance
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, MIB, domain

OVERHEAD = memory_demand.overhead_bytes(domain(memory_bytes=8 * GIB))


def left(utilisation=0.0, *, memory=None, rss=8 * GIB, vcpus=2, **limits):
    told = {"memory_bytes": memory, "cpus": None, "emulator_cpus": None, "vcpu_cpus": None, **limits}
    guest = domain("db 1", memory_bytes=8 * GIB, vcpus=vcpus, balloon={"rss_bytes": rss}, limits=told)
    return allowance(guest, utilisation)


def test_a_guest_without_limits():
    for guest in (domain(), domain(limits=None)):
        found = allowance(guest, 0.5)
        assert (found.cache_bytes, found.cpus, found.utilisation, found.ruled_out) == (None, None, None, {})


def test_what_a_memory_limit_leaves_for_a_cache():
    """The guest may touch all of its memory while it moves; QEMU has its own besides, as estimated or as seen."""
    assert left(memory=9 * GIB).cache_bytes == int((GIB - OVERHEAD) / 1.02)
    assert left(memory=9 * GIB, rss=8 * GIB + 512 * MIB).cache_bytes == int(512 * MIB / 1.02)
    assert left(memory=9 * GIB, rss=None).ruled_out == {}


def test_no_room_for_a_cache():
    found = left(memory=8 * GIB + OVERHEAD + 32 * MIB)
    assert found.ruled_out == {"xbzrle": "its memory limit of 8.1 GiB leaves no room for a cache of xbzrle"}
    assert found.bounds == {
        "memory": (
            "its memory limit of 8.1 GiB leaves no room for a cache of xbzrle",
            "raise its memory limit (virsh memtune 'db 1' --live --hard-limit …)",
        )
    }
    assert left(memory=GIB).cache_bytes == 0


def test_huge_pages_do_not_count_in_a_memory_limit():
    parts = [{"bytes": 8 * GIB, "page_bytes": 2 * MIB, "host_cells": None}]
    told = {"memory_bytes": GIB, "cpus": None, "emulator_cpus": None, "vcpu_cpus": None}
    guest = domain(memory_bytes=8 * GIB, memory_parts=parts, limits=told, balloon={"rss_bytes": 60 * MIB})
    assert allowance(guest, 0.0).cache_bytes == int((GIB - OVERHEAD) / 1.02)


@pytest.mark.parametrize(
    ("limits", "utilisation", "cpus"),
    [
        ({"cpus": 4.0}, 0.5, 3.0),
        ({"cpus": 4.0}, None, 4.0),
        ({"cpus": 4.0, "emulator_cpus": 1.5}, 0.5, 1.5),
        ({"emulator_cpus": 2.0}, 1.0, 2.0),
        # No vCPU can use more than its own quota.
        ({"cpus": 4.0, "vcpu_cpus": 0.25}, 1.0, 3.5),
        ({"vcpu_cpus": 0.25}, 1.0, None),
    ],
)
def test_cpus_for_compression(limits, utilisation, cpus):
    found = left(utilisation, **limits)
    assert (found.cpus, found.ruled_out) == (cpus, {})


@pytest.mark.parametrize(
    ("limits", "utilisation", "reason", "setting"),
    [
        ({"cpus": 0.5}, 0.15, "its CPU quota of 0.5 leaves 0.2 CPUs to compress with", "global_quota"),
        ({"cpus": 2.0}, 1.0, "its CPU quota of 2 leaves 0 CPUs to compress with", "global_quota"),
        ({"cpus": 2.0}, 1.5, "its CPU quota of 2 leaves 0 CPUs to compress with", "global_quota"),
        ({"emulator_cpus": 0.4}, 0.0, "its CPU quota of 0.4 leaves 0.4 CPUs to compress with", "emulator_quota"),
        (
            {"cpus": 9.0, "emulator_cpus": 0.4},
            0.0,
            "its CPU quota of 0.4 leaves 0.4 CPUs to compress with",
            "emulator_quota",
        ),
    ],
)
def test_too_few_cpus_for_compression(limits, utilisation, reason, setting):
    found = left(utilisation, **limits)
    assert found.ruled_out == {"parallel-zstd": reason}
    assert found.bounds["cpu"] == (
        reason,
        f"raise its CPU quota (virsh schedinfo 'db 1' --live --set {setting}=…)",
    )
    assert found.cpus > 0, "a forecast divides by it"


@pytest.mark.parametrize(
    ("limits", "most"),
    [({"cpus": 1.0}, 0.5), ({"vcpu_cpus": 0.3}, 0.3), ({"cpus": 1.0, "vcpu_cpus": 0.3}, 0.3), ({"cpus": 8.0}, None)],
)
def test_the_cpu_time_that_a_guest_can_use(limits, most):
    assert left(**limits).utilisation == most
