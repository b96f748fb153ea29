# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One command at a time changes a lab."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from lab.common.errors import LabError
from lab.common.settings import Settings


@contextlib.contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """Keep a second command from changing the lab at the same time. The kernel drops the lock of a killed one."""
    settings.state.mkdir(parents=True, exist_ok=True)
    with (settings.state / "lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("another lab command is at work", "Wait for its end, then try again.") from None
        yield
