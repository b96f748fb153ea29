# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: where a run keeps its files on the source host, and who may run there.

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now

#: A plan's id names a directory, so it may not climb out of it.
_PLAN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class RunError(Exception):
    """A run that cannot start here; ``refusal`` says why and what to do."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(f"{why['reason']}; {why['remedy']}")
        self.refusal = why


class RunDirectory:
    """The files of one run: plan, journal, progress and result."""

    def __init__(self, state_dir: str, plan_id: str) -> None:
        if not _PLAN_ID.fullmatch(plan_id):
            raise RunError(
                refusal(
                    "plan_id",
                    f"the plan's id {plan_id[:80]!r} cannot name a directory",
                    "make the plan anew: ids are letters, digits, dots, dashes and underscores, at most 200",
                )
            )
        self.path = os.path.join(state_dir, "runs", plan_id)
        self.plan = os.path.join(self.path, "plan.json")
        self.journal = os.path.join(self.path, "journal.jsonl")
        self.progress = os.path.join(self.path, "progress.jsonl")
        self.result = os.path.join(self.path, "result.json")

    def make(self, plan: dict[str, t.Any]) -> None:
        """Create the directory and keep the plan in it; a result of an earlier run of the same plan goes."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.result)
        write_durably(self.plan, plan)


class RunLock:
    """The right to move guests away from this host: one run at a time. Ends with the process, however it dies."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next run in."""
        os.close(self._descriptor)


def take_run_lock(state_dir: str, plan_id: str, owner: str) -> RunLock | None:
    """Take the host's lease, or return None when a living process holds it (see L(holder))."""
    os.makedirs(state_dir, mode=0o700, exist_ok=True)
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
    """Whether a living process holds the host's lease. Reads only: the lease file is not made."""
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
    """Who wrote the lease last: plan, owner, since, pid. Empty when nobody has or the file is not whole."""
    try:
        with open(_run_lock_path(state_dir), encoding="utf-8") as file:
            content = json.load(file)
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _run_lock_path(state_dir: str) -> str:
    return os.path.join(state_dir, "apply.lease")


def write_durably(path: str, document: t.Any) -> None:
    """Replace a JSON file so that a crash leaves the old or the new one, never a part."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_json(path: str) -> t.Any:
    """A JSON file's content, or None when it is missing or not whole."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None
