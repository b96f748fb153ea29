# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a run did, in lines that survive a crash (docs/contracts.md, "Journal").

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import sync_directory

SCHEMA = "kvmops.journal/1"
#: Events that say where a guest is going, or what became of it. By these a later run knows what is not finished.
OF_MOVES = ("migration.started", "step.verified", "step.finished")
_WORD = shape.or_null(shape.text())
#: What readers index. A line without it tells nothing that they could use.
_LINE = shape.mapping(
    {"seq": shape.whole(0)},
    {
        "at": shape.text(),
        "event": shape.text(),
        "step": _WORD,
        "guest": _WORD,
        "uuid": _WORD,
        "data": shape.or_null(shape.mapping({}, others=True)),
    },
    others=True,
)


def utc_now() -> str:
    """The time of now as the contracts write it."""
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """Append-only JSON lines, one an event.

    Args:
        path: the file; made if missing, continued if there.
        plan: the plan's id, on every line.
        note: called with a guest's UUID before the first line that says where it is going, or what became of it.
    """

    def __init__(self, path: str, plan: str, note: t.Callable[[str], None] | None = None) -> None:
        self.path = path
        self._plan = plan
        self._note = note
        self._noted: set[str] = set()
        self._lock = threading.Lock()
        entries = read(path)
        self._sequence = entries[-1]["seq"] if entries else 0
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  (open as long as the run)
        # Otherwise a crash may take away the whole file, with lines that were synced.
        sync_directory(os.path.dirname(path))
        #: whether the last line is not whole, after a crash or on a full disk; the next line must not become part of it
        self._torn = _lacks_newline(path)

    def write(self, event: str, *, step: dict[str, t.Any] | None = None, durable: bool = True, **data: t.Any) -> None:
        """Write one event.

        Args:
            event: its name from the contract.
            step: the plan's step it belongs to, if any.
            durable: wait until it is on disk. Every change of state is durable, and written before it is acted on.
            data: what else is known, plain JSON.
        """
        with self._lock:
            if step and event in OF_MOVES:
                self._note_guest(step["guest"]["uuid"], event)
            self._sequence += 1
            line = {
                "schema": SCHEMA,
                "seq": self._sequence,
                "at": utc_now(),
                "plan": self._plan,
                "step": step["id"] if step else None,
                "guest": step["guest"]["name"] if step else None,
                "uuid": step["guest"]["uuid"] if step else None,
                "event": event,
                "data": data,
            }
            self._append(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            if durable:
                os.fsync(self._file.fileno())

    def _note_guest(self, uuid: str, event: str) -> None:
        if self._note is None or uuid in self._noted:
            return
        try:
            self._note(uuid)
        except OSError:
            # Nothing begins that cannot be found again. What became of a guest is told all the same.
            if event == "migration.started":
                raise
            return
        self._noted.add(uuid)

    def _append(self, line: bytes) -> None:
        if self._torn:
            line = b"\n" + line
        self._torn = True
        # A disk that is nearly full takes a part of the line without an error.
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path)
        self._torn = False

    def close(self) -> None:
        """Write what is pending, as far as the disk takes it, and close the file."""
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())
        self._file.close()


def _lacks_newline(path: str) -> bool:
    with open(path, "rb") as existing:
        if existing.seek(0, os.SEEK_END) == 0:
            return False
        existing.seek(-1, os.SEEK_END)
        return existing.read(1) != b"\n"


def read(path: str, about: str | t.Iterable[str] = "") -> list[dict[str, t.Any]]:
    """The events of a journal in order; lines that are not whole are left out. A missing file has none.

    Args:
        path: the file.
        about: leave out lines without this text, such as a UUID, or without any of these; reading them would take most
            of the time.
    """
    texts = [text.encode() for text in ([about] if isinstance(about, str) else about)]
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return []
    if not any(text in content for text in texts):
        return []
    lines = [line for line in content.split(b"\n") if any(text in line for text in texts)]
    return [entry for entry in map(_parsed, lines) if entry is not None]


def _parsed(line: bytes) -> dict[str, t.Any] | None:
    try:
        entry = json_text.parsed(line)
    except json_text.JsonTextError:
        return None
    return entry if shape.fits(_LINE, entry) else None
