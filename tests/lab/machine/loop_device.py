# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices of the lab: loop devices, which all hosts see, as they would a disk in an enclosure that they share.

Their numbers are far above those that others use, a range for each lab, so that a later run finds what a killed one
left. Guests use a second name, a symbolic link as udev makes it on a real host: the kernel's own name may mean another
device on each host.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping
from pathlib import Path

from lab.common.command import run
from lab.common.settings import Settings

FIRST = 10_000
FOR_EACH_LAB = 1_000
MAJOR = 7
BLOCK_DEVICES = Path("/sys/block")
#: Where udev makes names that are the same on all hosts.
NAMES = "/dev/disk/by-id"
CONTROL = Path("/dev/loop-control")
#: LOOP_CTL_REMOVE of linux/loop.h.
REMOVE = 0x4C81


def number_of(instance: int, guest: int) -> int:
    """Return the number of a guest's loop device."""
    return FIRST + instance * FOR_EACH_LAB + guest


def path_of(instance: int, guest: int) -> str:
    """Return the kernel's name of a guest's device."""
    return f"/dev/loop{number_of(instance, guest)}"


def name_of(guest: str) -> str:
    """Return the name by which the guest uses its device, on every host."""
    return f"{NAMES}/kvmops-lab-{guest}"


def boot_lines(instance: int, guests: Mapping[str, int]) -> str:
    """Return what makes the devices in a host's /dev, now and at each boot: lines for systemd-tmpfiles.

    Args:
        guests: numbers by name.
    """
    lines = []
    for guest, number in guests.items():
        device = path_of(instance, number)
        lines.append(f"b {device} 0660 root disk - {MAJOR}:{number_of(instance, number)}\n")
        lines.append(f"L+ {name_of(guest)} - - - - {os.path.relpath(device, NAMES)}\n")
    return "".join(lines)


def of_lab(settings: Settings) -> list[int]:
    """Return the numbers of the loop devices of a lab that exist."""
    first = FIRST + settings.instance * FOR_EACH_LAB
    numbers = (int(entry.name.removeprefix("loop")) for entry in BLOCK_DEVICES.glob("loop[0-9]*"))
    return sorted(number for number in numbers if first <= number < first + FOR_EACH_LAB)


def make(settings: Settings, guest: int, mib: int) -> None:
    """Make a guest's device anew, with nothing on it."""
    device = path_of(settings.instance, guest)
    _remove(number_of(settings.instance, guest))
    settings.devices.mkdir(parents=True, exist_ok=True)
    file = settings.devices / f"{guest}.raw"
    file.unlink(missing_ok=True)
    run(["truncate", f"--size={mib}M", file])
    run(["losetup", device, file])


def remove_all(settings: Settings) -> None:
    """Remove every device of the lab."""
    for number in of_lab(settings):
        _remove(number)


def _remove(number: int) -> None:
    run(["losetup", "--detach", f"/dev/loop{number}"], check=False)
    # A device that something still holds goes with its last user.
    with contextlib.suppress(OSError):
        control = os.open(CONTROL, os.O_RDWR)
        try:
            fcntl.ioctl(control, REMOVE, number)
        finally:
            os.close(control)
