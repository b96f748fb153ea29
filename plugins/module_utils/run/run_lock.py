# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the lock under which a run moves guests away from this host, one run at a time.

from __future__ import annotations

import fcntl
import json
import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import make_directory, read_json

_HOLDER = shape.mapping(
    {}, {"plan": shape.text(), "owner": shape.text(), "since": shape.text(), "pid": shape.whole(1)}, others=True
)


class RunLock:
    """The lock under which a run moves guests away from this host. It ends with the process, however that dies.

    Args:
        descriptor: of the open file that is locked.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)


def take_run_lock(state_dir: str, plan_id: str, owner: str) -> RunLock | None:
    """Take the host's run lock, or return None when a living process holds it."""
    make_directory(state_dir)
    descriptor = os.open(_run_lock_path(state_dir), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    text = json.dumps({"plan": plan_id, "owner": owner, "since": utc_now(), "pid": os.getpid()}).encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text, 0)
    os.fsync(descriptor)
    return RunLock(descriptor)


def is_run_locked(state_dir: str) -> bool:
    """Whether a living process holds the host's run lock. Reads only: the file is not made."""
    try:
        descriptor = os.open(_run_lock_path(state_dir), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def run_lock_holder(state_dir: str) -> dict[str, t.Any]:
    """Who took the run lock last: plan, owner, since, pid. Empty when nobody has, or when the file is not whole."""
    content = read_json(_run_lock_path(state_dir))
    return content if shape.fits(_HOLDER, content) else {}


def _run_lock_path(state_dir: str) -> str:
    return os.path.join(state_dir, "apply.lease")
