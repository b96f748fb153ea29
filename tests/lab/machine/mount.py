# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts of the lab: an overlay for each host."""

from __future__ import annotations

import re
from pathlib import Path

from lab.common.command import run
from lab.common.settings import Settings


def mounted() -> list[tuple[str, Path, str]]:
    """Return source, place and kind of every mount."""
    found = []
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        source, place, kind = line.split()[:3]
        plain = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), place)
        found.append((source, Path(plain), kind))
    return found


def of_lab(settings: Settings) -> list[Path]:
    """Return where something is mounted under the lab's folders, the newest first."""
    return [
        place
        for dummy, place, dummy in reversed(mounted())
        if place.is_relative_to(settings.state) or place.is_relative_to(settings.cache)
    ]


def overlay(lower: str, folder: Path) -> None:
    """Mount a host's own layer over a base image, or over several, the uppermost first, at `folder`/root."""
    root = folder / "root"
    if any(place == root for dummy, place, dummy in mounted()):
        return
    for part in ("upper", "work", "root"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    run(["mount", "-t", "overlay", f"kvmops-lab-{folder.name}", "-o", options, root])


def unmount(place: Path) -> None:
    """Unmount; a place that something still holds is detached and goes with its last user."""
    if run(["umount", place], check=False).returncode:
        run(["umount", "--lazy", place], check=False)
