# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the TCP connection of an ssh that this host runs. It is borrowed for a moment: to set how a
# silent cut is noticed, and to read from the kernel what went over it.

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import typing as t

#: The same on all machines but Alpha. Python has no function for it.
SYS_PIDFD_GETFD = 438
#: From linux/tcp.h: Python 3.9 has no names for some of these.
TCP_USER_TIMEOUT, TCP_NOTSENT_LOWAT = 18, 25
#: What was sent and not answered for so long is on a link that is cut. ssh's own question would wait behind the data.
CUT_S = 30
#: On a connection on which nothing is sent, the kernel asks after so many seconds, and then again.
IDLE_S, AGAIN_S, TIMES = 15, 5, 4
#: So much waits in the kernel unsent, so that what the rate or the far end says is acted on soon.
UNSENT_BYTES = 128 * 1024
#: Ethernet, IP and TCP with the time stamps that Linux uses.
HEADER_BYTES = {socket.AF_INET: 14 + 20 + 32, socket.AF_INET6: 14 + 40 + 32}
#: Of C(struct tcp_info): bytes received, segments out and in, and bytes sent, retransmissions included.
_INFO_BYTES = 216
_RECEIVED, _SEGMENTS, _SENT = 128, 136, 200


class Traffic(t.NamedTuple):
    """Bytes on the link, headers and retransmissions included."""

    out: int
    back: int


class LinkSocket:
    """The TCP connection of a process.

    Args:
        pid: of the process, which must be a child of this one or belong to the same user.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._socket: socket.socket | None = None
        self._seen = Traffic(0, 0)

    def attach(self) -> bool:
        """Find the connection and set how a cut is noticed; false as long as there is none, or it cannot be had."""
        if self._socket is None:
            with contextlib.suppress(OSError, AttributeError, ValueError):
                self._socket = _tcp_socket(self._pid)
                if self._socket is not None:
                    notice_cuts(self._socket)
        return self._socket is not None

    def traffic(self) -> Traffic | None:
        """What went over the connection so far; None where the kernel does not say."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
                if len(info) >= _SENT + 8:
                    (received,) = struct.unpack_from("=Q", info, _RECEIVED)
                    out, back = struct.unpack_from("=II", info, _SEGMENTS)
                    (sent,) = struct.unpack_from("=Q", info, _SENT)
                    header = HEADER_BYTES[self._socket.family]
                    self._seen = Traffic(sent + out * header, received + back * header)
            return self._seen
        return None

    def close(self) -> None:
        """Give the connection back."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def notice_cuts(connection: socket.socket) -> None:
    """Let the kernel end a connection over which nothing comes through any more."""
    connection.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, CUT_S * 1000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, AGAIN_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, TIMES)
    connection.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def watch_ancestor() -> bool:
    """Set the same on the connection of the sshd that started this process; false where it cannot be found.

    Without it, a receiver whose link was cut silently would wait for hours.
    """
    pid = os.getppid()
    for dummy in range(8):
        name, parent = _name_and_parent(pid)
        if name.startswith("sshd"):
            with contextlib.suppress(OSError, AttributeError, ValueError):
                connection = _tcp_socket(pid)
                if connection is not None:
                    with contextlib.closing(connection):
                        notice_cuts(connection)
                    return True
        if parent <= 1:
            break
        pid = parent
    return False


def _name_and_parent(pid: int) -> tuple[str, int]:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return "", 0
    name, dummy, rest = text.partition("(")[2].rpartition(")")
    return name, int(rest.split()[1])


def _tcp_socket(pid: int) -> socket.socket | None:
    """A second descriptor of the process's connected TCP socket, for the caller to close."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    try:
        for number in sorted(map(int, os.listdir(f"/proc/{pid}/fd"))):
            if not _is_socket(pid, number):
                continue
            descriptor = libc.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
            if descriptor < 0:
                continue
            found = socket.socket(fileno=descriptor)
            with contextlib.suppress(OSError):
                if found.family in HEADER_BYTES and found.type == socket.SOCK_STREAM and found.getpeername():
                    return found
            found.close()
    finally:
        os.close(pidfd)
    return None


def _is_socket(pid: int, number: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:")
    except OSError:
        return False
