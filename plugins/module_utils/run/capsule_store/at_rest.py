# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether what a directory holds is encrypted on the disk. The store encrypts nothing itself:
# libvirt restores memory from a plain file only, so it must be the block device below that encrypts.

from __future__ import annotations

import os
from pathlib import Path

#: How the device mapper calls devices of dm-crypt (LUKS and plain).
_CRYPT = "CRYPT-"
_MOST_LAYERS = 16


def is_encrypted(directory: str, sysfs: Path = Path("/sys")) -> bool | None:
    """Whether the file system of a directory is on devices that encrypt, all of them.

    None where that is not known: the file system is on a network or in memory, or encrypts by itself (ZFS, fscrypt).

    Args:
        directory: such as that of the store.
        sysfs: where devices are looked up.
    """
    try:
        device = os.stat(directory).st_dev
    except OSError:
        return None
    return _device(sysfs / "dev/block" / f"{os.major(device)}:{os.minor(device)}", _MOST_LAYERS)


def _device(entry: Path, most: int) -> bool | None:
    """The same for one block device."""
    try:
        if not entry.exists() or most == 0:
            return None
        uuid = entry / "dm/uuid"
        if uuid.is_file() and uuid.read_text(encoding="ascii").startswith(_CRYPT):
            return True
        folder = entry / "slaves"
        below = sorted(folder.iterdir()) if folder.is_dir() else []
        # A part of a disk has no such folder; its disk is what is below it.
        if not below and (entry / "partition").exists():
            below = [Path(os.path.realpath(entry)).parent]
    except (OSError, UnicodeDecodeError):
        return None
    answers = [_device(one, most - 1) for one in below]
    if None in answers:
        return None
    return bool(answers) and all(answers)
