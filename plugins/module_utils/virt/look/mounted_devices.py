# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: block devices and image files that a host has mounted itself.

from __future__ import annotations

import contextlib
import functools
import os
import typing as t
from pathlib import Path


class MountedDevices:
    """Says where a device is mounted: itself, a partition of it, or what rests on it (LVM, encryption, RAID).

    Args:
        sysfs: where block devices are looked up.
        mounted: where devices are mounted (C(core.snapshot.host_files.mounted_devices)).
    """

    def __init__(self, sysfs: Path, mounted: t.Mapping[str, str]) -> None:
        self._folder = sysfs / "class/block"
        self._by_number = mounted
        self._by_name = {
            Path(os.path.realpath(path)).name: at for path, at in mounted.items() if path.startswith("/dev/")
        }

    def of_device(self, path: str) -> str | None:
        """Where the device with this path is mounted, or None."""
        return self._of_name(Path(os.path.realpath(path)).name)

    def of_file(self, path: str) -> str | None:
        """Where an image file is mounted by a loop device, or None.

        Args:
            path: of the file, without symbolic links.
        """
        found = (self._of_name(name) for name in self._loops.get(path, ()))
        return next((at for at in found if at), None)

    @functools.cached_property
    def _loops(self) -> dict[str, list[str]]:
        """Names of the loop devices of each file."""
        loops: dict[str, list[str]] = {}
        for file in self._folder.glob("loop*/loop/backing_file"):
            # It may be taken away meanwhile.
            with contextlib.suppress(OSError):
                loops.setdefault(file.read_text(encoding="utf-8").rstrip("\n"), []).append(file.parts[-3])
        return loops

    def _of_name(self, name: str) -> str | None:
        for one in sorted(self._above(name, set())):
            at = self._by_name.get(one) or self._by_number.get(self._number(one))
            if at:
                return at
        return None

    def _number(self, name: str) -> str:
        try:
            return (self._folder / name / "dev").read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def _above(self, name: str, seen: set[str]) -> set[str]:
        """The device, its partitions, and all that rests on any of them."""
        if name in seen:
            return seen
        seen.add(name)
        entry = self._folder / name
        with contextlib.suppress(OSError):
            parts = [one.name for one in entry.iterdir() if (one / "partition").exists()]
            holders = entry / "holders"
            parts += [one.name for one in holders.iterdir()] if holders.is_dir() else []
            for part in parts:
                self._above(part, seen)
        return seen
