# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the connections over which a QEMU sends its guest, and what may wait unsent in them.
#
# They belong to QEMU, which has no option for it, and a sysctl would be for all connections of the host. So each is
# borrowed for a moment, and one option is set: the option ends with the connection, and nothing has to be given back,
# whatever becomes of this process.

from __future__ import annotations

import contextlib
import os
import socket
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.beside import beside
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_connections import (
    Name,
    QemuConnections,
    pid_of,
)

#: New connections are looked for this often: parallel ones and that of post-copy come later than the first.
POLL_S = 0.1
#: From linux/tcp.h. Python has a name for it from 3.12 on.
TCP_NOTSENT_LOWAT = 25


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
    with beside(f"unsent-{guest}", lambda over: _limit_connections(guest, limit_bytes, tell, over)):
        yield


def _limit_connections(guest: str, limit_bytes: int, tell: t.Callable[[str], None], over: threading.Event) -> None:
    try:
        with QemuConnections(pid_of(guest)) as connections:
            told, done = False, set[Name]()
            while not over.wait(POLL_S):
                if limit(connections, limit_bytes, done) and not told:
                    told = True
                    tell(f"at most {human_bytes(limit_bytes)} are unsent in its connection, for a shorter downtime")
    except (OSError, ValueError, AttributeError) as error:
        # AttributeError: a Python or a C library without the calls.
        tell(f"the unsent bytes in its connection cannot be limited, which costs some downtime: {_why(error)}")


def limit(connections: QemuConnections, limit_bytes: int, done: set[Name]) -> int:
    """Set the limit on every migration connection that has none yet. Returns: on how many.

    Args:
        done: those that have it. New ones are added.
    """
    count = 0
    for name, borrowed in connections.each(without=done):
        borrowed.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, limit_bytes)
        done.add(name)
        count += 1
    return count


def _why(error: Exception) -> str:
    if isinstance(error, PermissionError):
        who = "root of this host" if os.geteuid() == 0 else "a user who is not root"
        return f"{who} may not access QEMU ({error.strerror})"
    return str(error)
