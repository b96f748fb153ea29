# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: an end for a command on a host that has lost its power. Its ssh would wait for a quarter of
# an hour: neither Ansible nor ssh asks by default whether the other end still is there.

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure


class NoAnswerError(AnsibleConnectionFailure):
    """A host has not answered in time."""


@contextlib.contextmanager
def answered_within(seconds: float) -> t.Iterator[None]:
    """Let what is called take so long, in the main thread of a worker. What it has started is ended then.

    Raises: NoAnswerError.
    """

    def expired(_number: int, _frame: t.Any) -> t.NoReturn:
        _end_children()
        raise NoAnswerError(f"no answer within {seconds:g} s")

    # The task may have a timeout of its own, which Ansible keeps by the same timer.
    left, _interval = signal.getitimer(signal.ITIMER_REAL)
    if 0 < left <= seconds:
        yield
        return
    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, expired)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - started)))


def _end_children() -> None:
    """End the programs that this process has started."""
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError, ValueError):
            for child in (task / "children").read_text(encoding="ascii").split():
                os.kill(int(child), signal.SIGTERM)
