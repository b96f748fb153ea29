# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the workers of one ansible-playbook tell each other of their hosts. Each writes down
# how far its host is; one at a time, which has a lock, draws all of them.

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import run_progress
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_block import View


class SharedBlock:
    """A folder of one ansible-playbook, which is removed at its end.

    Args:
        folder: of temporary files of this ansible-playbook.
        host: the host of this worker.
        task: the task that this worker carries out; what hosts have told in other tasks is not drawn.
    """

    def __init__(self, folder: str, host: str, task: str) -> None:
        self._folder = Path(folder) / "kvmops-live"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._own = self._folder / f"{hashlib.sha256(host.encode()).hexdigest()[:32]}.json"
        self._task = task
        self._lock: int | None = None

    def tell(self, view: View) -> None:
        """Write down how far this worker's host is."""
        document = {
            "task": self._task,
            "host": view.host,
            "now": view.now.isoformat(),
            "rows": list(view.rows),
            "window_left_s": view.window_left_s,
        }
        new = self._own.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps(document), encoding="utf-8")
            new.replace(self._own)

    def views(self) -> list[View]:
        """How far all hosts of this task are, in the order of their names."""
        documents = [one for one in map(json.loads, self._texts()) if one["task"] == self._task]
        return sorted(map(_view, documents), key=lambda view: view.host)

    def _texts(self) -> t.Iterator[str]:
        for path in self._folder.glob("*.json"):
            with contextlib.suppress(OSError):
                yield path.read_text(encoding="utf-8")

    def take(self) -> bool:
        """Whether it is this worker that draws, from now on until it gives that up or dies."""
        if self._lock is not None:
            return True
        try:
            lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        self._lock = lock
        return True

    @property
    def is_mine(self) -> bool:
        """Whether this worker draws."""
        return self._lock is not None

    def give_up(self) -> None:
        """Let another worker draw."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _view(document: dict[str, t.Any]) -> View:
    now = run_progress.moment(document["now"])
    if now is None:
        raise ValueError(document["now"])
    return View(document["host"], document["rows"], now, document["window_left_s"])
