# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that outlive the command which began them, remembered so that only they are ever ended.

A process id alone says nothing after a while; together with the time the process began it names one process for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path


def start_time(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot, or None when there is none (or only its corpse)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name, in brackets, may itself hold blanks and brackets.
    rest = text.rpartition(")")[2].split()
    return None if rest[0] in "ZX" else int(rest[19])


def remember(record: Path, pid: int) -> None:
    """Write down a process that was just started."""
    record.parent.mkdir(parents=True, exist_ok=True)
    draft = record.with_suffix(".new")
    draft.write_text(json.dumps({"pid": pid, "started": start_time(pid)}), encoding="ascii")
    draft.replace(record)


def recall(record: Path) -> int | None:
    """Return the process that was written down, when it is still that very one."""
    try:
        data = json.loads(record.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    pid = data.get("pid")
    if not isinstance(pid, int) or data.get("started") is None:
        return None
    return pid if start_time(pid) == data["started"] else None


def end(record: Path, *, patience: float = 5.0) -> None:
    """End a process that was written down, and forget it."""
    pid = recall(record)
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        if not wait_gone(record, patience):
            _signal(pid, signal.SIGKILL)
            wait_gone(record, patience)
    record.unlink(missing_ok=True)


def wait_gone(record: Path, patience: float) -> bool:
    """Wait until a recorded process is gone; return whether it is."""
    deadline = time.monotonic() + patience
    while recall(record) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(word) for word in text.split()]
