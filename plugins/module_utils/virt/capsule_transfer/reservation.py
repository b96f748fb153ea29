# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: space of a file system that is kept for an image that is about to come.

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes

#: Beside the image, for tables of qcow2 and for the files of the store.
MARGIN_BYTES = 8 * 1024**2


class Reservation:
    """A file that takes the space. It shrinks as the image grows.

    Args:
        path: of the file; it is beside the image, so on its file system.
        host: name of this host, for messages.
    """

    def __init__(self, path: str, host: str) -> None:
        self._path = path
        self._host = host
        self._left = 0

    def take(self, size_bytes: int, what: str) -> None:
        """Reserve so much. What an earlier run had reserved is given back first.

        Args:
            what: is to come, for the message.

        Raises:
            CapsuleError: there is less.
        """
        self.release()
        wanted = size_bytes + MARGIN_BYTES
        free = free_bytes(os.path.dirname(self._path))
        if free < wanted:
            raise no_space(self._host, os.path.dirname(self._path), what, wanted, free)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if _allocate(descriptor, size_bytes):
                self._left = size_bytes
        except OSError as error:
            os.close(descriptor)
            descriptor = -1
            self.release()
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise no_space(self._host, os.path.dirname(self._path), what, wanted, free) from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def give(self, size_bytes: int) -> None:
        """Give so much back, as the image is about to take it."""
        if self._left:
            self._left = max(0, self._left - size_bytes)
            with contextlib.suppress(OSError):
                os.truncate(self._path, self._left)

    def release(self) -> None:
        """Give all of it back."""
        self._left = 0
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)


def free_bytes(folder: str) -> int:
    """What may still be written to the file system of a folder."""
    there = os.statvfs(folder)
    return there.f_bavail * there.f_frsize


def no_space(host: str, folder: str, what: str, wanted: int, free: int) -> CapsuleError:
    """The refusal of what does not fit."""
    return CapsuleError(
        "no_space",
        f"{what} needs {human_bytes(wanted)} in {folder} on {host}, and {human_bytes(free)} are free there",
        f"free {human_bytes(wanted - free)} there (capsule_prune removes old capsules), or set capsule_dir to a larger"
        " file system",
    )


def _allocate(descriptor: int, size_bytes: int) -> bool:
    """Take space for a file; false where the file system cannot. The C library's own way would write all of it."""
    if not size_bytes:
        return False
    fallocate: t.Any = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong)
    if fallocate(descriptor, 0, 0, size_bytes) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code))
