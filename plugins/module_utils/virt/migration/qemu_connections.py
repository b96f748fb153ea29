# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the connections over which a QEMU sends its guest.
#
# They belong to QEMU, so each is borrowed for a moment with pidfd_getfd.

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import FIRST_PORT, LAST_PORT

#: libvirt keeps the process id of each QEMU here.
PID_FILES = Path("/run/libvirt/qemu")
PROC = Path("/proc")
#: The same on all machines but Alpha. Python has no function for it.
SYS_PIDFD_GETFD = 438

#: A descriptor of QEMU's with the name of its socket. The number may come to mean another socket, the pair does not.
Name = tuple[str, str]


def pid_of(guest: str) -> int:
    """The process id of a guest's QEMU, by the guest's name.

    Raises: OSError or ValueError when it has none.
    """
    return int((PID_FILES / f"{guest}.pid").read_text(encoding="ascii"))


class QemuConnections:
    """The migration connections of a QEMU. The process is held, so that its number cannot come to mean another one.

    Raises: OSError or AttributeError (an old Python or C library) where connections cannot be borrowed.
    """

    def __init__(self, pid: int) -> None:
        self._descriptors = PROC / str(pid) / "fd"
        #: Sockets that are none, so that nobody borrows them again and again.
        self._others: set[Name] = set()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._pidfd = os.pidfd_open(pid)

    def __enter__(self) -> QemuConnections:
        return self

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold the process no longer."""
        os.close(self._pidfd)

    def each(self, without: t.Container[Name] = ()) -> t.Iterator[tuple[Name, socket.socket]]:
        """Every migration connection, borrowed until the next one is asked for.

        Args:
            without: connections that nobody wants to look at.
        """
        for name in self._sockets():
            if name in self._others or name in without:
                continue
            borrowed = self._borrow(int(name[0]))
            if borrowed is None:
                continue
            try:
                found = _is_migration(borrowed)
                if found:
                    yield name, borrowed
                elif found is False:
                    self._others.add(name)
            finally:
                borrowed.close()

    def _sockets(self) -> t.Iterator[Name]:
        # QEMU opens and closes them meanwhile, and is gone when the move has ended.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for number in os.listdir(self._descriptors):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    name = os.readlink(self._descriptors / number)
                    if name.startswith("socket:"):
                        yield number, name

    def _borrow(self, number: int) -> socket.socket | None:
        """A second descriptor of the socket, for the caller to close; None where QEMU has closed it meanwhile."""
        descriptor = self._libc.syscall(SYS_PIDFD_GETFD, self._pidfd, number, 0)
        if descriptor < 0:
            code = ctypes.get_errno()
            error = OSError(code, os.strerror(code))
            if not isinstance(error, ProcessLookupError) and error.errno != errno.EBADF:
                raise error
            return None
        return socket.socket(fileno=descriptor)


def _is_migration(borrowed: socket.socket) -> bool | None:
    """Whether it is a migration connection; None where that cannot be told yet."""
    if borrowed.family not in (socket.AF_INET, socket.AF_INET6) or borrowed.type != socket.SOCK_STREAM:
        return False
    try:
        peer = borrowed.getpeername()
    except OSError:
        # Not connected yet, or no longer.
        return None
    return FIRST_PORT <= int(peer[1]) <= LAST_PORT
