# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the limits that the kernel keeps for a guest's QEMU, from its control group (v1 and v2).

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import guest_limits
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.guest_limits import Limits

#: The group of QEMU's threads that are no vCPUs, below the group of the guest.
EMULATOR = "emulator"


def limits(root: Path, name: str) -> Limits:
    """The lowest limits of a guest's group and of the groups above it. None of them where that cannot be read.

    Args:
        root: where the host's files are looked up.
        name: the guest's name.
    """
    pid = _text(root / "run/libvirt/qemu" / f"{name}.pid") if "/" not in name else None
    if pid is None or not pid.isdecimal():
        return Limits()
    found = Limits()
    for line in (_text(root / "proc" / pid / "cgroup") or "").splitlines():
        dummy, controllers, path = [*line.split(":", 2), "", ""][:3]
        for group, directory in _groups(root / "sys/fs/cgroup", controllers, path):
            found = found.tightened(_limits_of(directory, group))
    return found


def _groups(mount: Path, controllers: str, path: str) -> t.Iterator[tuple[str, Path]]:
    """The group of a process and those above it, each with its last name; the root has no limits."""
    names = [part for part in path.split("/") if part]
    if ".." in names:
        return
    # v2 has one tree, and v1 one for each controller (or for some together).
    trees = [controllers, *controllers.split(",")] if controllers else ["", "unified"]
    for tree in (mount / name for name in trees):
        if names and (tree / names[0]).is_dir():
            for depth in range(len(names), 0, -1):
                yield names[depth - 1], tree.joinpath(*names[:depth])
            return


def _limits_of(directory: Path, group: str) -> Limits:
    memory = _text(directory / "memory.max") or _text(directory / "memory.limit_in_bytes")
    both = (_text(directory / "cpu.max") or "").split()
    if both:
        cpus = guest_limits.cpu_limit(both[0], both[1] if len(both) > 1 else None)
    else:
        cpus = guest_limits.cpu_limit(_text(directory / "cpu.cfs_quota_us"), _text(directory / "cpu.cfs_period_us"))
    of_emulator = group == EMULATOR
    return Limits(
        memory_bytes=guest_limits.memory_limit(memory),
        cpus=None if of_emulator else cpus,
        emulator_cpus=cpus if of_emulator else None,
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
