# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One control group for each host: it says for certain which processes belong to the lab.

Whatever began in it (the supervisor, nspawn, everything in the container) stays in it or below, even when the records
of a killed run are lost. On a machine with the old hierarchies there is one such group in each of them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from lab.common.settings import Settings

ROOT = Path("/sys/fs/cgroup")


def _hierarchies() -> list[Path]:
    """Return every hierarchy that this kernel has: libvirtd makes the groups of its guests in each of them."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    # Two names of one hierarchy (cpu and cpu,cpuacct) are a folder and links to it.
    return sorted(path for path in ROOT.iterdir() if not path.is_symlink() and (path / "cgroup.procs").exists())


def join(name: str, memory_mib: int) -> None:
    """Move the calling process into the control group of that name; made when missing."""
    for hierarchy in _hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for limit in ("memory.limit_in_bytes", "memory.max"):
            if (group / limit).exists():
                (group / limit).write_text(str(memory_mib << 20), encoding="ascii")
        for share in ("cpuset.mems", "cpuset.cpus"):
            # A new group of the old hierarchy has neither, and takes no process before it has both.
            if (group / share).exists() and (hierarchy / "cgroup.sane_behavior").exists():
                (group / share).write_text((hierarchy / share).read_text(encoding="ascii"), encoding="ascii")
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def _below(group: Path) -> Iterator[Path]:
    """Return a group and all below it, the deepest first."""
    for folder, dummy, dummy in os.walk(group, topdown=False):
        yield Path(folder)


def members(name: str) -> set[int]:
    """Return all processes of a control group."""
    found: set[int] = set()
    for hierarchy in _hierarchies():
        for group in _below(hierarchy / name):
            try:
                text = (group / "cgroup.procs").read_text(encoding="ascii")
            except OSError:
                continue
            found |= {int(line) for line in text.split()}
    # A process of another PID namespace would read as 0.
    return found - {0, os.getpid()}


def remove(name: str, patience: float = 10.0) -> None:
    """Kill all that is in a control group and remove it."""
    deadline = time.monotonic() + patience
    while (pids := members(name)) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for hierarchy in _hierarchies():
        for group in _below(hierarchy / name):
            with contextlib.suppress(OSError):
                group.rmdir()


def of_lab(settings: Settings) -> list[str]:
    """Return the names of all control groups of a lab."""
    names = {path.name for hierarchy in _hierarchies() for path in hierarchy.glob(f"{settings.prefix}-*")}
    return sorted(names)


def of_other_labs(settings: Settings) -> list[str]:
    """Return the names of the control groups of all labs but this one."""
    names = {path.name for hierarchy in _hierarchies() for path in hierarchy.glob("kvl?-*")}
    return sorted(name for name in names if not name.startswith(f"{settings.prefix}-"))
