# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether what a directory holds is encrypted on the disk. The store encrypts nothing itself:
# libvirt restores memory from a plain file only, so it must be the block device below that encrypts.

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

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


def memory_refusal(directory: str, guest: str, host: str, sysfs: Path = Path("/sys")) -> Refusal | None:
    """Why the memory of a guest must not come into a directory that is to be encrypted, or None.

    Args:
        directory: of the store; it may not be there yet.
        guest: whose memory it is.
        host: name of this host.
        sysfs: where devices are looked up.
    """
    there = directory
    while not os.path.isdir(there) and there != "/":
        there = os.path.dirname(there)
    encrypted = is_encrypted(there, sysfs)
    if encrypted:
        return None
    if encrypted is None:
        return refusal(
            "encryption_unknown",
            f"the memory of {guest} has its secrets, and nobody can tell whether {directory} on {host} is encrypted"
            " (require_encrypted)",
            "mount a file system on a LUKS device there, or set capsule_dir to one; if that file system encrypts by"
            f" itself, set require_encrypted: false for {host}",
        )
    return refusal(
        "not_encrypted",
        f"the memory of {guest} has its secrets, and {directory} on {host} is not encrypted (require_encrypted)",
        f"open the LUKS device and mount it there (cryptsetup open DEVICE NAME && mount /dev/mapper/NAME {directory}),"
        " or set capsule_dir to a directory on one",
    )


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
