# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: who writes to an image, or would when it starts.

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each

#: QEMU keeps a lock on this byte of each image that it may write to (block/file-posix.c: RAW_LOCK_PERM_BASE, and
#: BLK_PERM_WRITE as its bit).
_WRITE_BYTE = 101
#: struct flock of Linux on 64-bit machines: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")


def writing_guests(connection: t.Any, path: str) -> list[str]:
    """The guests of a host that have an image as a disk to write to, whether they run or not, by name.

    A guest that stands on it with a layer of its own does not write to it. What cannot be asked counts for nothing.

    Args:
        connection: to the host's libvirtd; read-only is enough.
        path: of the image.
    """
    wanted = os.path.realpath(path)
    domains = connection.listAllDomains(0)
    found = set()
    for flags in (0, virt.libvirt.VIR_DOMAIN_XML_INACTIVE):

        def description(domain: t.Any, flags: int = flags) -> tuple[str, str]:
            return domain.name(), domain.XMLDesc(flags)

        for told in each(domains, description):
            if isinstance(told, tuple) and wanted in _written(told[1]):
                found.add(told[0])
    return sorted(found)


def _written(xml: str) -> set[str]:
    """Paths of the disks that a guest writes to."""
    found = set()
    for disk in xml_text.parsed(xml).iterfind("./devices/disk"):
        source = disk.find("./source")
        if source is None or disk.find("./readonly") is not None or disk.get("device") in ("cdrom", "floppy"):
            continue
        found |= {os.path.realpath(path) for key in ("file", "dev") for path in [source.get(key)] if path}
    return found


def is_written_by_qemu(path: str) -> bool:
    """Whether a QEMU of any kind has an image open to write to it, also one that libvirt does not know.

    False where that cannot be told: the lock is looked at, and a file system may have none.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _WRITE_BYTE, 1, 0)
            answer = _FLOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))
            return bool(answer[0] != fcntl.F_UNLCK)
        finally:
            os.close(descriptor)
    return False
