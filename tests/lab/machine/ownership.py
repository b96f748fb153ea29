# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which folder a lab's names belong to: two labs of the same number, in two folders, would kill each other's hosts."""

from __future__ import annotations

from pathlib import Path

from lab.common.errors import LabError
from lab.common.settings import Settings

from . import cgroup, network

PLACE = Path("/run")


def _mark(settings: Settings) -> Path:
    return PLACE / f"kvmops-lab-{settings.instance}.owner"


def check(settings: Settings) -> None:
    """Refuse to touch a lab that was started with another state folder, as long as anything of it exists."""
    mark = _mark(settings)
    owner = mark.read_text(encoding="utf-8") if mark.exists() else str(settings.state)
    if owner != str(settings.state) and (cgroup.of_lab(settings) or network.links(settings)):
        raise LabError(
            f"lab {settings.instance} is up already, with its state in {owner}",
            "Set KVMOPS_LAB_INSTANCE to another number, or take that one down first.",
        )


def claim(settings: Settings) -> None:
    """Say that these names are in use from now on."""
    check(settings)
    _mark(settings).write_text(str(settings.state), encoding="utf-8")


def release(settings: Settings) -> None:
    """Say that they are free."""
    _mark(settings).unlink(missing_ok=True)
