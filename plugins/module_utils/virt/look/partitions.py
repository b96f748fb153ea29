# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the resource partitions of this host, as libvirt names them.

from __future__ import annotations

import os
import re
from pathlib import Path

#: Where units of systemd are.
UNITS = ("etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system")
#: Hierarchies of cgroups: the only one of version 2, and those of version 1 that have slices.
HIERARCHIES = ("sys/fs/cgroup", "sys/fs/cgroup/systemd", "sys/fs/cgroup/cpu", "sys/fs/cgroup/memory")
#: Partitions are not nested deeper.
MOST_LEVELS = 6
#: What libvirt adds to the names of cgroups that are partitions, where there is no systemd.
_SUFFIX = ".partition"


def partitions(root: Path = Path("/")) -> list[str] | None:
    """Names such as C(/machine/gold), in order; None if the host has no cgroups that can be read.

    Under systemd a partition is a slice, as a unit or as a cgroup. Without systemd it is a cgroup.
    """
    readable = [root / hierarchy for hierarchy in HIERARCHIES if os.access(root / hierarchy, os.R_OK)]
    if not readable:
        return None
    found = {_of_slice(name) for directory in UNITS for name in _listed(root / directory) if name.endswith(".slice")}
    for hierarchy in readable:
        found.update(_below(hierarchy, "", MOST_LEVELS))
    return sorted(found)


def _below(directory: Path, name: str, levels: int) -> set[str]:
    """The partitions among the cgroups of a directory."""
    found: set[str] = set()
    for entry in _listed(directory) if levels else ():
        if not (directory / entry).is_dir():
            continue
        if entry.endswith(".slice"):
            found.add(_of_slice(entry))
            found |= _below(directory / entry, "", levels - 1)
        elif entry.endswith(_SUFFIX) or (not name and entry == "machine"):
            own = f"{name}/{entry.removesuffix(_SUFFIX)}"
            found |= {own, *_below(directory / entry, own, levels - 1)}
    return found


def _of_slice(unit: str) -> str:
    """
    >>> _of_slice("machine-gold.slice"), _of_slice("machine-a\\\\x2db.slice")
    ('/machine/gold', '/machine/a-b')
    """
    parts = unit.removesuffix(".slice").split("-")
    return "/" + "/".join(re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), part) for part in parts)


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
