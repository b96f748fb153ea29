# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spoil a page of a guest's memory behind its back, to show that the lab would notice.

A check that never fails proves nothing. The page is changed in QEMU's own memory, as a faulty migration would do it.
"""

from __future__ import annotations

import re
import struct
from itertools import pairwise
from pathlib import Path

from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.machine import cgroup

PAGE = 4096
SPOIL = b"spoiled!"
# How the agent gets from one word of a page to the next (agent.c). It tells its pages from the kernel's own, which
# must not be touched: the guest would crash instead of finding a bad page.
MULTIPLIER, INCREMENT, MODULUS = 6364136223846793005, 1442695040888963407, 1 << 64


def spoil_page(settings: Settings, host: str, guest: str, memory_mib: int) -> None:
    """Overwrite a few bytes in the middle of one page that the guest's agent filled."""
    pid = _qemu(settings, host, guest)
    start, end = _guest_memory(pid, memory_mib << 20)
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        for place in range(start, end, PAGE):
            memory.seek(place)
            if is_agents(memory.read(PAGE)):
                memory.seek(place + PAGE // 2)
                memory.write(SPOIL)
                return
    raise LabError(f"guest {guest}: no page of its agent found", "Give the guest some touched_mib.")


def is_agents(page: bytes) -> bool:
    """Return whether a page holds what the agent writes; the first word may be newer than the rest."""
    words = struct.unpack_from("<5Q", page)
    return any(words) and all(
        (first * MULTIPLIER + INCREMENT) % MODULUS == second for first, second in pairwise(words[1:])
    )


def _qemu(settings: Settings, host: str, guest: str) -> int:
    wanted = f"guest={guest},".encode()
    for pid in cgroup.members(settings.control_group(host)):
        try:
            if wanted in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        except OSError:
            continue
    raise LabError(f"guest {guest} has no QEMU on {host}", "Ask `status` where it runs.")


def _guest_memory(pid: int, size: int) -> tuple[int, int]:
    """Return the mapping that is exactly as large as the guest's memory."""
    for line in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines():
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
        if match and int(match[2], 16) - int(match[1], 16) == size:
            return int(match[1], 16), int(match[2], 16)
    raise LabError(f"process {pid}: no mapping of {size} bytes", "Is it really the guest's QEMU?")
