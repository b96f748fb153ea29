# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: ends the connections of a migration over which nothing is acknowledged any more, while the
# guest stands still for it.
#
# At the switchover, QEMU writes the state of devices and answers nobody until that is sent: also no abort. The kernel
# gives up a silent connection after a quarter of an hour, and the guest would stand still for that long. A connection
# that ends is a failed migration: in pre-copy the guest then goes on where it was. In post-copy it would be split, so
# nothing is ended there.

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.beside import beside
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_connections import (
    QemuConnections,
    pid_of,
)

POLL_S = 1.0
#: After so long without an acknowledgement of what was sent, a guest waits no longer. The longest interruption of a
#: link that routing or bonding mends by itself takes a few seconds.
SILENT_S = 10.0
#: The beginning of struct tcp_info (linux/tcp.h): eight bytes, of which the fourth counts probes of a full window, and
#: 32-bit numbers, of which the fifth counts segments that are not acknowledged, and the thirteenth has the milliseconds
#: since the last acknowledgement came.
_TCP_INFO = struct.Struct("=3xB4x16xI28xI")


@contextlib.contextmanager
def ended_when_dead(guest: str, stands_still: t.Callable[[], bool], tell: t.Callable[[str], None]) -> t.Iterator[None]:
    """While inside, end the connections over which a guest is sent, once they are dead and it stands still for them.

    Args:
        guest: its name on this host.
        stands_still: whether it waits for the end of its pre-copy; asked from another thread.
        tell: is told, from another thread, when connections were ended.
    """
    with beside(f"dead-connection-{guest}", lambda over: _watch(guest, stands_still, tell, over)):
        yield


def _watch(
    guest: str, stands_still: t.Callable[[], bool], tell: t.Callable[[str], None], over: threading.Event
) -> None:
    # Where connections cannot be borrowed, the kernel gives them up, later.
    with contextlib.suppress(OSError, ValueError, AttributeError), QemuConnections(pid_of(guest)) as connections:
        while not over.wait(POLL_S):
            if not stands_still():
                continue
            silent_s = max((silence(borrowed) for dummy, borrowed in connections.each()), default=0.0)
            if silent_s >= SILENT_S and stands_still():
                _end(connections)
                tell(
                    f"the other end has acknowledged nothing for {silent_s:.0f} s while the guest stands still, so the"
                    " connection was ended: the guest goes on where it was"
                )
                return


def silence(connection: socket.socket) -> float:
    """Seconds for which nothing was acknowledged of what was sent over a connection; 0 where all of it was."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    probes, not_acknowledged, since_ms = _TCP_INFO.unpack_from(info)
    return float(since_ms) / 1000 if probes or not_acknowledged else 0.0


def _end(connections: QemuConnections) -> None:
    for dummy, borrowed in connections.each():
        with contextlib.suppress(OSError):
            borrowed.shutdown(socket.SHUT_RDWR)
