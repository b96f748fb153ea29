# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: as whom this host is looked at, and what libvirt lets such a user do.

from __future__ import annotations

import os
import pwd
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import host_files

#: Of the daemon for everything, and of the one for QEMU.
_FILES = ("etc/libvirt/libvirtd.conf", "etc/libvirt/virtqemud.conf")


def of_this_process(root: Path = Path("/")) -> dict[str, t.Any]:
    """The user that this process is, whether it is root, and whether libvirt asks polkit about each call."""
    number = os.geteuid()
    return {"user": _name(number), "root": number == 0, "checks_calls": any(_asks(root / file) for file in _FILES)}


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _asks(file: Path) -> bool:
    try:
        drivers = host_files.qemu_conf(file.read_text(encoding="utf-8", errors="replace")).get("access_drivers")
    except OSError:
        return False
    return drivers == "polkit" or (isinstance(drivers, list) and "polkit" in drivers)
