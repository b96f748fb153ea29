# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the lock under which a record is read, changed and written. It ends with its process.

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import make_directory

POLL_S = 0.02


class StillLockedError(Exception):
    """Another process has had the lock for longer than was to be waited."""


@contextlib.contextmanager
def locked(path: str, timeout_s: float, poll_s: float = POLL_S) -> t.Iterator[None]:
    """Hold a lock for the block.

    Args:
        path: the file that is locked; made if it is missing, with its directory (mode 0755).
        timeout_s: how long to wait for another process.

    Raises:
        StillLockedError: it could not be had.
        OSError: the file cannot be made.
    """
    make_directory(os.path.dirname(path), 0o755)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + timeout_s
        while not _try_lock(descriptor):
            if time.monotonic() >= end:
                raise StillLockedError(path)
            time.sleep(poll_s)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
