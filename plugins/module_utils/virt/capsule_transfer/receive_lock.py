# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: only one sends a capsule to this host at a time. Who comes second is told who sends. Who
# comes again from the same host takes over: its first connection was cut, and its first receiver may not know that yet.

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now

#: A receiver that is told to end saves how far it is. On a slow disk that takes a while.
TAKE_OVER_S = 60.0
POLL_S = 0.1


#: No process has a higher number (PID_MAX_LIMIT of the kernel).
_MOST_PID = 1 << 22
_HOLDER = shape.mapping(
    {"sender": shape.text(), "sender_id": shape.text(), "pid": shape.whole(2), "since": shape.text()}, others=True
)


class ReceiveLock:
    """The right to receive one capsule here. It ends with the process, however that dies.

    Args:
        path: of the lock file.
        capsule: what is received, for messages.
        sender: name of the host that sends.
        sender_id: what tells that host from all others, also from one of the same name.
    """

    def __init__(self, path: str, capsule: str, sender: str, sender_id: str) -> None:
        self._path = path
        self._capsule = capsule
        self._me = {"sender": sender, "sender_id": sender_id, "pid": os.getpid(), "since": utc_now()}
        self._descriptor = -1

    def take(self) -> None:
        """Take it.

        Raises:
            CapsuleError: another host sends this capsule.
        """
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline, told = time.monotonic() + TAKE_OVER_S, 0
        while not self._locked():
            holder = self._holder()
            if holder.get("sender_id") != self._me["sender_id"] or time.monotonic() > deadline:
                os.close(self._descriptor)
                self._descriptor = -1
                raise CapsuleError(
                    "capsule_busy",
                    f"{holder.get('sender', 'another host')} sends {self._capsule} to this host"
                    f" since {holder.get('since', 'a moment ago')}",
                    "wait until it has ended; capsule_send then sends what is still missing",
                )
            pid = holder.get("pid")
            if pid is not None and pid <= _MOST_PID and pid != told:
                told = pid
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            time.sleep(POLL_S)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(self._me).encode("utf-8"), 0)

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> dict[str, t.Any]:
        try:
            document = json_text.parsed(os.pread(self._descriptor, 4096, 0))
        except json_text.JsonTextError:
            return {}
        return document if shape.fits(_HOLDER, document) else {}

    def release(self) -> None:
        """Give it back."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
