# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: work in child processes, with another environment and a hard time limit.

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
#: What a child does: it reports results one by one, each a JSON value.
Work = t.Callable[[Say], None]


class Ended(t.NamedTuple):
    """How a child ended.

    Attributes:
        said: all results that it reported.
        timed_out: whether it was killed.
        error: the text of an error of its own, or None.
    """

    said: list[t.Any]
    timed_out: bool
    error: str | None


def run_all(
    works: t.Sequence[Work], *, timeout_s: float, environment: t.Mapping[str, str] | None = None
) -> list[Ended]:
    """Do each work in a child process of its own, all at the same time.

    Must be called while this process has a single thread: children are forks, so that they need nothing installed.

    Args:
        timeout_s: after this long a child is killed, with all that it started.
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
            _run_child(work, environment, write)
        os.close(write)

    def read(self) -> bool:
        """Read what has arrived. Returns: whether there may be more."""
        data = os.read(self.pipe, 65536)
        self._data += data
        return bool(data)

    def end(self, *, timed_out: bool) -> None:
        """End the child. Nothing of it is left, whatever it was doing."""
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


def _run_child(work: Work, environment: t.Mapping[str, str] | None, write: int) -> t.NoReturn:
    """Do the work of the child, and exit. Never returns: the child must not go on with the parent's work."""
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
    """Cut off the standard streams: ssh and libvirt must not print into the module's output, nor ask for a password."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.set_inheritable(keep, False)


def _write(descriptor: int, message: t.Any) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]
