# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs on hosts that are ready before they are needed: a shell on each host, and the watcher on the source."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab import Host, Lab, LabError

WATCHER = Path(__file__).with_name("watcher.py")
PLACE = "/run/faults-watcher.py"
DONE = "struck-"
END_S = 5.0


class Lines:
    """A program on a host: lines go in, lines come out."""

    def __init__(self, host: Host, command: str) -> None:
        self._process = subprocess.Popen(
            host.ssh_words(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stdout:
            for line in self._process.stdout:
                self._lines.put(line)

    def say(self, line: str) -> None:
        """Give it a line; nothing happens if it is gone."""
        try:
            if self._process.stdin:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
        except (OSError, ValueError):
            return

    def next(self, seconds: float) -> str | None:
        """Return its next line, or None if none comes."""
        try:
            return self._lines.get(timeout=seconds)
        except queue.Empty:
            return None

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join(END_S)
        # What it was not given any more is of no use to it.
        with contextlib.suppress(BrokenPipeError):
            if self._process.stdin:
                self._process.stdin.close()
        # Something that it has started may hold the other pipe open; then its end closes that.
        if self._process.stdout and not self._reader.is_alive():
            self._process.stdout.close()


class Shells:
    """A shell on each host, for what must be done at once."""

    def __init__(self, lab: Lab) -> None:
        self._shells = {name: Lines(host, "exec sh") for name, host in lab.hosts.items()}
        self._number = 0
        for name in self._shells:
            self.run(name, "true", wait=True)

    def run(self, host: str, command: str, *, wait: bool = False, patience: float = 60.0) -> None:
        """Run a command on a host, and where it matters wait for its end."""
        self._number += 1
        shell, word = self._shells[host], f"{DONE}{self._number}"
        shell.say(f"{{ {command}\n}} </dev/null >/dev/null 2>&1; echo {word}")
        deadline = time.monotonic() + patience
        while wait:
            line = shell.next(0.5)
            if line and line.strip() == word:
                return
            if time.monotonic() > deadline:
                raise LabError(f"{host}: `{command[:80]}` has not ended after {patience:g} s")

    def end(self) -> None:
        """End them all."""
        for shell in self._shells.values():
            shell.end()


class Watcher:
    """The watcher on the source host."""

    def __init__(self, host: Host, wanted: Mapping[str, Any]) -> None:
        host.ssh_with(f"cat > {PLACE}", WATCHER.read_text(encoding="utf-8"))
        self._lines = Lines(host, f"exec python3 {PLACE} '{json.dumps(dict(wanted))}'")
        self.events: list[dict[str, Any]] = []
        if self._await("ready", 30) is None:
            raise LabError(f"{host.name}: the watcher did not start")

    def _await(self, told: str, seconds: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            line = self._lines.next(min(0.5, max(0.0, deadline - time.monotonic())))
            if line is None:
                continue
            event: dict[str, Any] = json.loads(line)
            self.events.append(event)
            if event["told"] == told:
                return event
        return None

    def reached(self, seconds: float) -> dict[str, Any] | None:
        """Return what it says if the phase begins within some seconds."""
        return self._await("reached", seconds)

    def let_go(self) -> None:
        """Let the job go on that it has stopped."""
        self._lines.say("continue")

    def end(self) -> None:
        """End it."""
        self._lines.end()
