# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: counts what the mirror of a guest's disks sends.
#
# libvirt's figures are the progress of the mirror, which counts holes as well and stands still once memory is sent. The
# kernel counts what each connection of QEMU has carried.

from __future__ import annotations

import socket
import struct
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.copied_bytes import sent_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_connections import (
    Name,
    QemuConnections,
    pid_of,
)

#: Where tcpi_bytes_acked is in the kernel's struct tcp_info (linux/tcp.h, Linux 4.1 and later).
BYTES_ACKED_AT = 120
TCP_INFO_BYTES = 192


class DiskCounter:
    """Counts what a guest's disks put on the wire. Entered before the migration starts.

    Args:
        guest: its name on this host.
        data_bytes: what a copy sends of the images as they are now, without their holes.
        capacity_bytes: size of the disks as the guest sees them.

    Attributes:
        sent_bytes: so far.
    """

    def __init__(self, guest: str, data_bytes: int, capacity_bytes: int) -> None:
        self._guest = guest
        self._data_bytes = data_bytes
        self._capacity_bytes = capacity_bytes
        self._connections: QemuConnections | None = None
        self._countable = True
        self._port: int | None = None
        self._carried: dict[Name, int] = {}
        self._before: frozenset[Name] = frozenset()
        self.sent_bytes = 0

    def __enter__(self) -> DiskCounter:
        if self._capacity_bytes > 0:
            # A display may have a client whose port looks like that of a migration.
            self._before = frozenset(self._seen() or ())
        return self

    def __del__(self) -> None:
        # Who watches a migration that another run began has no end to close it at.
        self.close()

    def __exit__(self, *dummy: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold QEMU no longer. A second call changes nothing."""
        if self._connections is not None:
            self._connections.close()
            self._connections = None

    def look(self, statistics: t.Mapping[str, t.Any]) -> int:
        """Count once more, and return all that was sent so far.

        Args:
            statistics: the job's, as libvirt has them.
        """
        processed, total = int(statistics.get("disk_processed", 0)), int(statistics.get("disk_total", 0))
        if total > 0:
            sent = self._counted(memory_flows=int(statistics.get("memory_processed", 0)) > 0)
            if sent is None:
                sent = sent_bytes(processed, total, self._data_bytes, self._capacity_bytes)
            self.sent_bytes = max(self.sent_bytes, sent)
        return self.sent_bytes

    def _counted(self, *, memory_flows: bool) -> int | None:
        """What the connections of the mirror have carried; None where that cannot be seen."""
        seen = self._seen()
        if seen is None:
            # It may have gone in the end.
            return sum(self._carried.values()) if self._carried else None
        if self._port is None:
            self._port = _port_of_disks({port for port, dummy in seen.values() if port}, memory_flows=memory_flows)
        if self._port is None:
            return None
        self._carried.update({name: carried for name, (port, carried) in seen.items() if port == self._port})
        return sum(self._carried.values())

    def _seen(self) -> dict[Name, tuple[int, int]] | None:
        """The new connections of QEMU, each with its port and what it has carried; None where that cannot be seen."""
        if not self._countable:
            return None
        try:
            if self._connections is None:
                self._connections = QemuConnections(pid_of(self._guest))
            return {name: _carried(one) for name, one in self._connections.each(without=self._before)}
        except (OSError, ValueError, AttributeError, struct.error):
            # AttributeError: a Python or a C library without the calls.
            self._countable = False
            return None


def _port_of_disks(ports: t.Collection[int], *, memory_flows: bool) -> int | None:
    """The port to which disks are sent, or None where that cannot be told.

    They are sent before memory is. Where both are under way, libvirt has taken the lower port for memory first.
    """
    if not ports or (memory_flows and len(ports) == 1):
        return None
    return max(ports)


def _carried(connection: socket.socket) -> tuple[int, int]:
    """The port at the other end, and the bytes that it has received."""
    try:
        port = int(connection.getpeername()[1])
    except OSError:
        # It was closed a moment ago.
        return 0, 0
    found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
    return port, int(struct.unpack_from("=Q", found, BYTES_ACKED_AT)[0])
