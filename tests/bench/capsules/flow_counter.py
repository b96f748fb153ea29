# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes on a host's cable to the migration network, by what they are for: disks that libvirt copies, memory, ssh.

Frames are read outside of the hosts, at the machine's end of the cable, in both directions and with all headers. A
connection whose server begins with NBD's greeting carries a disk. Others between QEMUs carry memory.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from lab import Lab

ALL_FRAMES, IPV4, TCP, SSH = 0x0003, 0x0800, 6, 22
GREETING = b"NBDMAGIC"
ETHERNET_BYTES = 14
#: Enough of a frame for all its headers and the greeting.
READ_BYTES = 256
BUFFER_BYTES = 64 << 20

#: Address and port of both ends, the lower one first.
Connection = tuple[tuple[str, int], tuple[str, int]]


@dataclass
class Flow:
    """What one connection has carried: when, in seconds of the monotonic clock, and how many bytes."""

    kind: str
    frames: list[tuple[float, int]] = field(default_factory=list)

    def bytes_until(self, moment: float) -> int:
        """Return what it had carried at a moment."""
        return sum(length for at, length in self.frames if at <= moment)

    @property
    def ended_at(self) -> float:
        """When its last frame went."""
        return self.frames[-1][0]


class FlowCounter:
    """Counts, from entering to leaving the `with` block."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._link = lab.networks.migration.link(lab.settings.prefix, host)
        self._flows: dict[Connection, Flow] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES))

    def __enter__(self) -> FlowCounter:
        # SO_RCVBUFFORCE: the machine's usual limit is a few hundred frames.
        self._socket.setsockopt(socket.SOL_SOCKET, 33, BUFFER_BYTES)
        self._socket.bind((self._link, ALL_FRAMES))
        self._socket.settimeout(0.1)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def flows(self, kind: str) -> list[Flow]:
        """Return the connections of a kind: `disk`, `memory` or `ssh`."""
        return [flow for flow in list(self._flows.values()) if flow.kind == kind]

    def carried(self, kind: str, until: float | None = None) -> int:
        """Return what all connections of a kind have carried, perhaps until a moment."""
        moment = time.monotonic() if until is None else until
        return sum(flow.bytes_until(moment) for flow in self.flows(kind))

    def _work(self) -> None:
        frame = bytearray(READ_BYTES)
        while not self._stop.is_set():
            try:
                # MSG_TRUNC: the length of the whole frame.
                length = self._socket.recv_into(frame, READ_BYTES, socket.MSG_TRUNC)
            except TimeoutError:
                continue
            self._take(bytes(frame[:length]), length)

    def _take(self, frame: bytes, length: int) -> None:
        if len(frame) < ETHERNET_BYTES + 40 or struct.unpack_from(">H", frame, 12)[0] != IPV4:
            return
        if frame[ETHERNET_BYTES + 9] != TCP:
            return
        start = ETHERNET_BYTES + (frame[ETHERNET_BYTES] & 15) * 4
        source, destination = (socket.inet_ntoa(frame[at : at + 4]) for at in (26, 30))
        ports = struct.unpack_from(">HH", frame, start)
        ends = sorted([(source, ports[0]), (destination, ports[1])])
        flow = self._flows.setdefault((ends[0], ends[1]), Flow("ssh" if SSH in ports else "memory"))
        if len(flow.frames) < 16 and frame[start + (frame[start + 12] >> 4) * 4 :].startswith(GREETING):
            flow.kind = "disk"
        flow.frames.append((time.monotonic(), length))
