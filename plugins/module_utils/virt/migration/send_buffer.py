# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the connections over which a QEMU sends its guest, and what may wait unsent in them.
#
# They belong to QEMU, which has no option for it, and a sysctl would be for all connections of the host. So each is
# borrowed for a moment with pidfd_getfd, and one option is set: the option ends with the connection, and nothing has
# to be given back, whatever becomes of this process.

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import threading
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import FIRST_PORT, LAST_PORT
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes

#: libvirt keeps the process id of each QEMU here.
PID_FILES = Path("/run/libvirt/qemu")
PROC = Path("/proc")
#: New connections are looked for this often: parallel ones and that of post-copy come later than the first.
POLL_S = 0.1
#: From linux/tcp.h. Python has a name for it from 3.12 on.
TCP_NOTSENT_LOWAT = 25
#: The same on all machines but Alpha. Python has no function for it.
SYS_PIDFD_GETFD = 438


@contextlib.contextmanager
def limited_send_buffer(guest: str, limit_bytes: int | None, tell: t.Callable[[str], None]) -> t.Iterator[None]:
    """While inside, no connection over which a guest is sent has more than so much waiting unsent.

    Args:
        guest: its name on this host.
        limit_bytes: how much may wait; None leaves everything as it is.
        tell: is told, from another thread, once that it was done, or once why it cannot be; the move goes on then.
    """
    if limit_bytes is None:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(
        target=_limit_connections, args=(guest, limit_bytes, tell, over), name=f"unsent-{guest}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _limit_connections(guest: str, limit_bytes: int, tell: t.Callable[[str], None], over: threading.Event) -> None:
    try:
        with _Process(_pid(guest)) as process:
            told = False
            while not over.wait(POLL_S):
                if process.limit(limit_bytes) and not told:
                    told = True
                    tell(f"at most {human_bytes(limit_bytes)} are unsent in its connection, for a shorter downtime")
    except (OSError, ValueError, AttributeError) as error:
        # AttributeError: a Python or a C library without the calls.
        tell(f"the unsent bytes in its connection cannot be limited, which costs some downtime: {_why(error)}")


def _pid(guest: str) -> int:
    return int((PID_FILES / f"{guest}.pid").read_text(encoding="ascii"))


def _why(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"root of this host may not access QEMU ({error.strerror})"
    return str(error)


class _Process:
    """A QEMU, held so that its number cannot come to mean another process."""

    def __init__(self, pid: int) -> None:
        self._descriptors = PROC / str(pid) / "fd"
        self._done: set[tuple[str, str]] = set()
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._pidfd = os.pidfd_open(pid)

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *dummy: object) -> None:
        os.close(self._pidfd)

    def limit(self, limit_bytes: int) -> int:
        """Set the limit on every migration connection that has none yet. Returns: on how many."""
        count = 0
        for number, name in self._sockets():
            if (number, name) in self._done:
                continue
            with self._borrowed(int(number)) as borrowed:
                if borrowed is None or not _is_migration(borrowed):
                    continue
                borrowed.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, limit_bytes)
            self._done.add((number, name))
            count += 1
        return count

    def _sockets(self) -> t.Iterator[tuple[str, str]]:
        # QEMU opens and closes them meanwhile, and is gone when the move has ended.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for number in os.listdir(self._descriptors):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    name = os.readlink(self._descriptors / number)
                    if name.startswith("socket:"):
                        yield number, name

    @contextlib.contextmanager
    def _borrowed(self, number: int) -> t.Iterator[socket.socket | None]:
        """A second descriptor of the socket, closed again at once; None where it is closed meanwhile."""
        descriptor = self._libc.syscall(SYS_PIDFD_GETFD, self._pidfd, number, 0)
        if descriptor < 0:
            code = ctypes.get_errno()
            error = OSError(code, os.strerror(code))
            if not isinstance(error, ProcessLookupError) and not _is_closed(error):
                raise error
            yield None
            return
        with socket.socket(fileno=descriptor) as borrowed:
            yield borrowed


def _is_closed(error: OSError) -> bool:
    return error.errno == errno.EBADF


def _is_migration(borrowed: socket.socket) -> bool:
    if borrowed.family not in (socket.AF_INET, socket.AF_INET6) or borrowed.type != socket.SOCK_STREAM:
        return False
    try:
        peer = borrowed.getpeername()
    except OSError:
        # Not connected yet, or no longer.
        return False
    return FIRST_PORT <= int(peer[1]) <= LAST_PORT
