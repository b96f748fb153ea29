# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: work in child processes, with another environment and a hard end.

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
import traceback
import typing as t

Say = t.Callable[[t.Any], None]
#: What a child does: it says results as it goes, each a JSON value.
Work = t.Callable[[Say], None]


class Ended(t.NamedTuple):
    """How a child ended: all it said, whether it had to be killed, and the text of an error of its own."""

    said: list[t.Any]
    timed_out: bool
    error: str | None


def run_all(
    works: t.Sequence[Work], *, timeout_s: float, environment: t.Mapping[str, str] | None = None
) -> list[Ended]:
    """Do each work in a child process of its own, all at once.

    Must be called while this process has a single thread: children are forks, so that they need nothing installed.

    Args:
        timeout_s: after so long, a child is killed with all it started.
        environment: the children's; by default this process's own.
    """
    children = [_Child(work, environment) for work in works]
    deadline = time.monotonic() + timeout_s
    reading = {child.pipe: child for child in children}
    while reading and time.monotonic() < deadline:
        ready, _writable, _broken = select.select(list(reading), [], [], max(0.0, deadline - time.monotonic()))
        for pipe in ready:
            if not reading[pipe].read():
                del reading[pipe]
    for child in children:
        child.end(timed_out=child.pipe in reading)
    return [child.ended() for child in children]


class _Child:
    def __init__(self, work: Work, environment: t.Mapping[str, str] | None) -> None:
        self.pipe, write = os.pipe()
        self._data = b""
        self._timed_out = False
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self.pipe)
            _be_the_child(work, environment, write)
        os.close(write)

    def read(self) -> bool:
        """Take what has arrived. Returns: whether there may be more."""
        data = os.read(self.pipe, 65536)
        self._data += data
        return bool(data)

    def end(self, *, timed_out: bool) -> None:
        """Nothing of the child is left afterwards, whatever it was doing."""
        self._timed_out = timed_out
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Programs that it started (ssh) are in its group.
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)
        os.close(self.pipe)

    def ended(self) -> Ended:
        said, error = [], None
        for line in self._data.split(b"\n"):
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if "error" in message:
                    error = str(message["error"])
                else:
                    said.append(message["said"])
        return Ended(said, self._timed_out, error)


def _be_the_child(work: Work, environment: t.Mapping[str, str] | None, write: int) -> t.NoReturn:
    """Never returns, so that the child never goes on with the parent's work."""
    status = 1
    try:
        os.setsid()
        _quiet(write)
        if environment is not None:
            os.environ.clear()
            os.environ.update(environment)
            os.chdir("/")

        def say(value: t.Any) -> None:
            _write(write, {"said": value})

        work(say)
        status = 0
    except BaseException:  # noqa: BLE001 - it is told to the parent, and there is no one else to tell
        with contextlib.suppress(OSError):
            _write(write, {"error": traceback.format_exc()})
    finally:
        os._exit(status)


def _quiet(keep: int) -> None:
    """What ssh and libvirt print must not reach the module's output, and nobody can be asked for a password."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.set_inheritable(keep, False)


def _write(descriptor: int, message: t.Any) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]
