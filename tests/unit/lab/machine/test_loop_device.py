# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from lab.machine import loop_device


def test_a_host_makes_each_device_and_its_lasting_name_at_every_boot():
    assert loop_device.boot_lines(0, {"raw": 1, "log": 12}) == (
        "b /dev/loop10001 0660 root disk - 7:10001\n"
        "L+ /dev/disk/by-id/kvmops-lab-raw - - - - ../../loop10001\n"
        "b /dev/loop10012 0660 root disk - 7:10012\n"
        "L+ /dev/disk/by-id/kvmops-lab-log - - - - ../../loop10012\n"
    )


def test_each_lab_has_devices_of_its_own():
    assert loop_device.boot_lines(3, {"raw": 1}).startswith("b /dev/loop13001 0660 root disk - 7:13001\n")
