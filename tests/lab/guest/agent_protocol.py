# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk to the agent in a guest: the Python side of agent/protocol.h."""

from __future__ import annotations

import random
import socket
import struct
import time
from dataclasses import dataclass

from lab.common.errors import LabError

MAGIC = 0x424C564B
PORT = 7
REQUEST = struct.Struct("<IIQQ")
REPLY = struct.Struct("<II18QIIII")
RECORD = struct.Struct("<IIQQQQQQ")


@dataclass(frozen=True)
class Reply:
    """All that an agent tells about itself."""

    magic: int
    version: int
    sequence: int
    sent_ns: int
    guest_ns: int
    boot_id: int
    pages_touched: int
    pages_total: int
    pages_written: int
    pages_dropped: int
    pages_verified: int
    pages_bad: int
    disk_written: int
    disk_verified: int
    disk_bad: int
    disk_errors: int
    memory_checked: int
    memory_found_bad: int
    disk_checked: int
    disk_found_bad: int
    memory_token: int
    disk_token: int
    has_disk: int
    disk_slowest_ms: int

    @property
    def ready(self) -> bool:
        """Whether all its memory has been touched."""
        return self.pages_touched >= self.pages_total


def ask(address: str, *, token: int = 0, timeout: float = 1.0) -> Reply | None:
    """Ask an agent once; None when it does not answer."""
    sequence = random.getrandbits(48)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        channel.settimeout(timeout)
        try:
            channel.sendto(REQUEST.pack(MAGIC, token, sequence, time.monotonic_ns()), (address, PORT))
            data = channel.recv(1024)
        except OSError:
            return None
    if len(data) != REPLY.size:
        return None
    reply = Reply(*REPLY.unpack(data))
    return reply if reply.magic == MAGIC and reply.sequence == sequence else None


def wait_ready(address: str, patience: float) -> Reply | None:
    """Wait until an agent answers and has touched its memory."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        reply = ask(address, timeout=0.5)
        if reply is not None and reply.ready:
            return reply
        time.sleep(0.1)
    return None


def verify(address: str, patience: float) -> Reply:
    """Make an agent check all its memory and its disk; return its answer."""
    token = random.randrange(1, 1 << 32)
    deadline = time.monotonic() + patience
    last: Reply | None = None
    while time.monotonic() < deadline:
        reply = ask(address, token=token)
        if reply is not None and reply.memory_token == token and reply.disk_token == token:
            return reply
        last = reply or last
        time.sleep(0.1)
    state = "it does not answer" if last is None else "it answers, but its check did not end"
    raise LabError(f"guest at {address}: not verified within {patience:g} s: {state}", "Look at its console file.")
