# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: locks of the store. Each ends with its process, however that dies.

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.durable_files import cannot

#: What is done under a lock is a few renames, or the removal of files; a wait for longer than that helps nobody.
WAIT_S = 60.0
_STEP_S = 0.1


@contextlib.contextmanager
def locked(path: str, what: str, *, exclusive: bool, wait_s: float = WAIT_S) -> t.Iterator[None]:
    """Hold a lock.

    Args:
        path: of the file that is locked; it is made, and stays.
        what: is locked, for messages, such as C(the store in /srv).
        exclusive: alone, or with others that are not exclusive.
        wait_s: for so long others may hold it before that is refused.

    Raises:
        CapsuleError: others hold it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise cannot("be opened", path, error) from error
    try:
        _take(descriptor, path, what, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, wait_s)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: str, what: str, mode: int, wait_s: float) -> None:
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                raise cannot("be locked", path, error) from error
        if time.monotonic() >= end:
            raise CapsuleError(
                "store_busy",
                f"{what} is in use by {holders_of(path)}",
                f"wait until that has ended, or see what it does (fuser -v {path}); then run the task again",
            )
        time.sleep(_STEP_S)


def is_held(path: str) -> bool:
    """Whether a living process holds a lock. Reads only: the file is not made."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def holders_of(path: str) -> str:
    """Who holds a lock, for a message: C(process 4711), or C(another task) where the kernel does not say."""
    with contextlib.suppress(OSError, ValueError):
        inode = os.stat(path).st_ino
        with open("/proc/locks", encoding="ascii") as file:
            rows = [line.split() for line in file]
        found = {
            int(row[4]) for row in rows if len(row) == 8 and row[1] == "FLOCK" and row[5].split(":")[-1] == str(inode)
        }
        pids = sorted(pid for pid in found if pid > 0 and pid != os.getpid())
        if pids:
            return " and ".join(f"process {pid}" for pid in pids[:3])
    return "another task"
