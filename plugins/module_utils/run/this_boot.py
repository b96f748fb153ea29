# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which boot of this host it is, and how long it has lasted. Nobody can set that clock.

from __future__ import annotations

import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id(path: Path = BOOT_ID) -> str | None:
    """Names this boot of this host; None where the kernel does not say."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def uptime_s() -> float:
    """Seconds since this boot, those included in which the host was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
