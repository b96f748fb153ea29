# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.mounted_devices import MountedDevices


@pytest.fixture
def sysfs(tmp_path):
    """sdb has a partition, on which a logical volume rests; loop0 is an image file."""
    block, devices = tmp_path / "class/block", tmp_path / "devices"
    block.mkdir(parents=True)
    for name, where, number in (
        ("sdb", "sdb", "8:16"),
        ("sdb1", "sdb/sdb1", "8:17"),
        ("sdc", "sdc", "8:32"),
        ("dm-0", "dm-0", "253:0"),
        ("loop0", "loop0", "7:0"),
    ):
        (devices / where / "holders").mkdir(parents=True)
        (devices / where / "dev").write_text(number + "\n", encoding="ascii")
        (block / name).symlink_to(devices / where)
    (devices / "sdb/sdb1/partition").write_text("1\n", encoding="ascii")
    (devices / "sdb/sdb1/holders/dm-0").symlink_to(devices / "dm-0")
    # A RAID that is being taken apart may show itself.
    (devices / "dm-0/holders/dm-0").symlink_to(devices / "dm-0")
    (devices / "loop0/loop").mkdir()
    (devices / "loop0/loop/backing_file").write_text("/images/two words.raw\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("mounted", "device", "at"),
    [
        ({}, "sdb", None),
        ({"8:16": "/mnt"}, "sdb", "/mnt"),
        ({"8:16": "/mnt"}, "sdc", None),
        # A partition, and what rests on it.
        ({"8:17": "/mnt"}, "sdb", "/mnt"),
        ({"253:0": "/mnt"}, "sdb", "/mnt"),
        # The disk below is the guest's only in part.
        ({"8:16": "/mnt"}, "sdb1", None),
        ({"253:0": "/mnt"}, "dm-0", "/mnt"),
        # Btrfs tells no number.
        ({"/dev/sdb1": "/srv"}, "sdb", "/srv"),
        ({"8:16": "/mnt"}, "sdz", None),
    ],
)
def test_a_device_that_its_host_has_mounted(sysfs, mounted, device, at):
    assert MountedDevices(sysfs, mounted).of_device(f"/dev/{device}") == at


@pytest.mark.parametrize(
    ("path", "mounted", "at"),
    [
        ("/images/two words.raw", {"7:0": "/mnt"}, "/mnt"),
        ("/images/two words.raw", {"7:1": "/mnt"}, None),
        ("/images/other.raw", {"7:0": "/mnt"}, None),
    ],
)
def test_an_image_that_its_host_has_mounted(sysfs, path, mounted, at):
    assert MountedDevices(sysfs, mounted).of_file(path) == at
