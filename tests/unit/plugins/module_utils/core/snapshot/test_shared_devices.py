# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.shared_devices import (
    NAMES_OF_ONE_HOST,
    is_listed,
    pattern_refusal,
)

#: Names that the kernel gives, and those of partitions.
KERNEL_NAMES = [
    "/dev/sda",
    "/dev/sdaa12",
    "/dev/vdb",
    "/dev/xvda1",
    "/dev/hda",
    "/dev/nvme0n1",
    "/dev/nvme10n1p3",
    "/dev/dm-0",
    "/dev/md0",
    "/dev/md127",
    "/dev/loop0",
    "/dev/loop10001",
    "/dev/nbd0",
    "/dev/rbd1",
    "/dev/mmcblk0p1",
    "/dev/pmem0",
    "/dev/bcache0",
    "/dev/dasda",
    "/dev/zd0",
]
WIDE = ["*", "/*", "/d*", "/dev*", "/dev/*", "/dev/[x]*", "?dev/x", "/dev/s*", "/dev/sd*", "/dev/sd[a-c]", "/dev/d*"]
WIDE += ["/dev/dm-*", "/dev/l*", "/dev/loop1????", "/dev/nvme?n1", "/dev/m*", "/dev/?d?", "/dev/[!a]da", "[/]dev/sda"]
LASTING = [
    "/dev/disk/by-id/wwn-0x5",
    "/dev/disk/by-id/*",
    "/dev/disk/*",
    "/dev/disk*",
    "/dev/mapper/*",
    "/dev/mapper/mpath[ab]",
    "/dev/vg0/*",
    "/dev/vg*",
    # Volume groups whose names begin as those of the kernel do.
    "/dev/sdvg/root",
    "/dev/mdata/*",
    "/dev/md/backup",
    "/dev/rbd/pool/image",
    "/dev/zvol/tank/*",
    "/dev/drbd*",
    "/dev/etherd/e1.0",
    # These match nothing; a typing error is no danger.
    "",
    "sda",
    "/dev/SDA",
    "/srv/*",
]


@pytest.mark.parametrize("pattern", [*KERNEL_NAMES, *WIDE])
def test_what_can_match_a_name_of_one_host_is_refused(pattern):
    found = pattern_refusal(["/dev/disk/by-id/wwn-*", pattern])
    assert found["code"] == "bad_option"
    assert f"shared_devices has {pattern!r}, which can match /dev/" in found["reason"]


@pytest.mark.parametrize("pattern", LASTING)
def test_names_that_mean_one_device_are_accepted(pattern):
    assert pattern_refusal([pattern]) is None
    assert not [name for name in KERNEL_NAMES if is_listed(name, [pattern])]


def test_no_pattern_is_no_problem():
    assert pattern_refusal([]) is None


def test_the_refusal_says_what_to_list_and_where_to_find_it():
    assert pattern_refusal(["/dev/sdb", "/dev/disk/by-id/*", "/dev/sd[c-e]", "/dev/loop1????"]) == {
        "code": "bad_option",
        "reason": (
            "shared_devices has '/dev/sdb', '/dev/sd[c-e]' and '/dev/loop1????', which can match /dev/sd... and "
            "/dev/loop...; the kernel gives such names in the order in which it finds devices, so on another host "
            "such a name may be another disk, and a guest would overwrite that one"
        ),
        "remedy": (
            "list names that are the same on all hosts (/dev/disk/by-id/..., /dev/mapper/..., /dev/VG/LV) in "
            "kvmops_cluster_shared_devices, and use them in the guest's definition; see which there are: "
            "ls -l /dev/disk/by-id"
        ),
    }


@pytest.mark.parametrize("path", ["/dev/disk/by-id/wwn-0x5", "/dev/disk//by-id/./wwn-0x5", "//dev/disk/by-id/wwn-0x5"])
def test_a_device_is_known_by_the_name_in_the_definition(path):
    assert is_listed(path, ["/dev/mapper/*", "/dev/disk/by-id/wwn-*"])


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/dev/disk/by-id/../../sda", "/dev/disk/by-id/*"),
        ("/dev/mapper/../sda", "/dev/mapper/../sd*"),
        ("//dev/sda", "//dev/sd*"),
        ("/dev//sda", "/dev//sda"),
        ("/dev/./sda", "/dev/./sd*"),
        ("/dev/disk/by-id/wwn-0x5", "/dev/disk/by-id/WWN-*"),
    ],
)
def test_no_way_of_writing_makes_a_name_of_the_kernel_a_lasting_one(path, pattern):
    assert pattern_refusal([pattern]) is None
    assert not is_listed(path, [pattern])


def test_devices_of_a_network_are_names_of_all_hosts_for_the_planner():
    assert [name for name in KERNEL_NAMES if not NAMES_OF_ONE_HOST.fullmatch(name)] == [
        "/dev/nbd0",
        "/dev/rbd1",
        "/dev/mmcblk0p1",
        "/dev/pmem0",
        "/dev/bcache0",
        "/dev/dasda",
        "/dev/zd0",
    ]
