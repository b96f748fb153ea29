# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the move of a guest that is under way on this host. It goes on when its controller has
# gone; a run that comes meanwhile shows its lines, and has its result.

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import locks
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress

POLL_S = 0.5
#: State of a result: the guest is at the far end.
MOVED = "moved"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RunningMove(t.NamedTuple):
    """What the run that moves a guest has written down.

    Attributes:
        pid: of its process.
        at: since when.
        to: name of the host to which it moves the guest.
        progress: file with its lines; empty: it has none.
        result: of the module; None: it has not ended, or died.
    """

    pid: int
    at: str
    to: str
    progress: str
    result: dict[str, t.Any] | None


_TOLD = shape.mapping(
    {
        "pid": shape.whole(1),
        "at": shape.text(),
        "to": shape.text(),
        "progress": shape.text(),
        "result": shape.or_null(shape.mapping({}, others=True)),
    },
    others=True,
)


def running(store: CapsuleStore, uuid: str) -> RunningMove | None:
    """The move of a guest that is under way here; None: there is none."""
    path = store.move_lock_path(uuid)
    return read(path) if locks.is_held(path) else None


def read(path: str) -> RunningMove | None:
    """What the last run has written down; None: nothing that can be read."""
    with contextlib.suppress(OSError, ValueError):
        with open(path, "rb") as file:
            told = json_text.parsed(file.read(json_text.MOST_BYTES + 1))
        _TOLD(told, "")
        return RunningMove(told["pid"], told["at"], told["to"], told["progress"], told["result"])
    return None


def moved_before(store: CapsuleStore, guest: str, to: str) -> dict[str, t.Any] | None:
    """The result of an earlier run that has moved a guest to a host; None: there was none.

    Asked about a guest that this host does not have: that run may have ended a moment ago, when its guest was already
    planned for.

    Args:
        guest: its UUID. Of a name nothing is known.
        to: the host.
    """
    if not _UUID.fullmatch(guest):
        return None
    told = read(store.move_lock_path(guest))
    if told is None or told.to != to or (told.result or {}).get("state") != MOVED:
        return None
    notes = [*(told.result or {}).get("notes", ()), f"an earlier run of capsule_move, begun {told.at}, has done it"]
    return {**(told.result or {}), "changed": False, "notes": notes}


@contextlib.contextmanager
def only_one(
    store: CapsuleStore, guest: t.Mapping[str, str], host: str, to: str, progress: str | None
) -> t.Iterator[t.Callable[[dict[str, t.Any]], None]]:
    """Be the only run that moves a guest away from this host; gives what writes the result down.

    Raises:
        CapsuleError: another run moves it.
    """
    path = store.move_lock_path(guest["uuid"])
    told = RunningMove(os.getpid(), utc_now(), to, progress or "", None)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.locked(path, "this move", exclusive=True, wait_s=0.0))
        except CapsuleError as error:
            raise busy(store, guest, host) from error
        _write(path, told)
        yield lambda result: _write(path, told._replace(result=result))


def _write(path: str, told: RunningMove) -> None:
    # The lock is on this very file, so it is written in place. Who reads half of it takes it for nothing.
    with open(path, "r+", encoding="utf-8") as file:
        json.dump(told._asdict(), file)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def busy(store: CapsuleStore, guest: t.Mapping[str, str], host: str) -> CapsuleError:
    """The refusal of another move of a guest that is being moved."""
    now = read(store.move_lock_path(guest["uuid"]))
    who = f" to {now.to} since {now.at} (process {now.pid})" if now else ""
    stop = f", or stop it on {host} (kill -TERM {now.pid})" if now else ""
    return CapsuleError(
        "guest_busy",
        f"{guest['name']} is being moved from {host}{who}",
        f"wait for its end{stop}: if {guest['name']} does not get there, it goes on on {host}",
    )


def followed(
    store: CapsuleStore, uuid: str, progress: Progress, stopping: t.Callable[[], bool]
) -> dict[str, t.Any] | None:
    """Wait for the end of a move, and show its lines; returns its result. None: it died without one.

    Raises:
        CapsuleError: this run was stopped. The other one goes on.
    """
    path = store.move_lock_path(uuid)
    now, lines = read(path), _Lines()
    while True:
        held = locks.is_held(path)
        if now is not None and now.progress:
            for line in lines.news(now.progress):
                progress.copy(line)
        if not held:
            ended = read(path)
            return ended.result if ended is not None else None
        if stopping():
            raise CapsuleError(
                "stopped",
                "this run was stopped; the earlier one, which moves the guest, goes on",
                "run capsule_move again, which waits for it",
            )
        time.sleep(POLL_S)


class _Lines:
    """Reads the lines that another run adds to its file."""

    def __init__(self) -> None:
        self._offset = 0
        self._rest = b""

    def news(self, path: str) -> list[dict[str, t.Any]]:
        """The lines that are new, without those about the run itself."""
        try:
            with open(path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        self._offset += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        found = []
        for text in whole:
            with contextlib.suppress(ValueError):
                line = json_text.parsed(text)
                if shape.fits(document_shapes.PROGRESS_LINE, line) and line.get("phase") not in ("job", "end"):
                    found.append(line)
        return found
