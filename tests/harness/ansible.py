# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Ansible against a lab as an operator does, and keep what the operator would have seen."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
RECAP = re.compile(r"^(\S+)\s+: (ok=\d+.*)$", re.MULTILINE)
KILL_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """A run that has ended: its exit status, all that it printed, and how long it took."""

    status: int
    text: str
    seconds: float

    @property
    def words(self) -> str:
        """What was printed, on one line: Ansible breaks warnings at the width of the terminal."""
        return " ".join(self.text.split())

    def recap(self) -> dict[str, dict[str, int]]:
        """Return the figures under PLAY RECAP, by host."""
        return {
            host: {key: int(value) for key, value in (pair.split("=") for pair in figures.split())}
            for host, figures in RECAP.findall(self.text)
        }

    def total(self, figure: str) -> int:
        """Return one figure of the recap over all hosts, such as C(changed)."""
        return sum(of_host[figure] for of_host in self.recap().values())


class Running:
    """An Ansible command that is at work, in a session of its own as under a terminal of its own."""

    def __init__(self, words: Sequence[str], *, environment: Mapping[str, str], directory: Path) -> None:
        self.words = list(words)
        self._began = time.monotonic()
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._process = subprocess.Popen(
            self.words,
            cwd=directory,
            env={**environment, "PWD": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as lines:
            for line in lines:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()

    @property
    def text(self) -> str:
        """All that has been printed so far."""
        with self._news:
            return "".join(self._lines)

    def is_at_work(self) -> bool:
        """Whether the command has not ended."""
        return self._process.poll() is None

    def await_text(self, pattern: str, patience: float = 600.0) -> str:
        """Wait until a line matches; return that line. A run that ends without it is an error."""
        wanted = re.compile(pattern)
        deadline = time.monotonic() + patience
        seen = 0
        with self._news:
            while True:
                for line in self._lines[seen:]:
                    if wanted.search(line):
                        return line
                seen = len(self._lines)
                over = self._process.poll() is not None and not self._reader.is_alive()
                if over or time.monotonic() > deadline:
                    why = "it has ended" if over else f"not within {patience:g} s"
                    raise AssertionError(f"no line matches {pattern!r} ({why}):\n{''.join(self._lines)}")
                self._news.wait(0.1)

    def press_ctrl_c(self) -> None:
        """What a terminal does: an interrupt to every process of the foreground group."""
        os.killpg(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Kill ansible-playbook itself, and nothing else."""
        self._process.kill()
        self._process.wait()

    def kill_all(self) -> None:
        """Kill all processes of this command, those that Ansible has started here as well."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def pause(self) -> None:
        """Stop all processes of this command where they are."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def finish(self, patience: float = 900.0) -> Outcome:
        """Wait for the end of the command."""
        try:
            status = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.clear_away()
            raise AssertionError(f"{' '.join(self.words)}: no end within {patience:g} s:\n{self.text}") from None
        seconds = time.monotonic() - self._began
        self._reader.join(KILL_S)
        return Outcome(status, self.text, seconds)

    def clear_away(self) -> None:
        """Leave no process of this command behind."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait(KILL_S)
        self._reader.join(KILL_S)


def program(name: str) -> str:
    """Return the path of one of Ansible's programs: the one that belongs to this Python, if there is one."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed: run `make tools`")
    return found


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which this checkout is the collection and nothing of the operator's Ansible counts."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    mine |= {
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / "build" / "collections"),
        "ANSIBLE_HOME": str(CHECKOUT / "build" / "ansible"),
        # As its documentation advises; it takes a fifth off a playbook.
        "ANSIBLE_PIPELINING": "True",
        "PYTHONUNBUFFERED": "1",
    }
    return mine | more


def playbook_words(name: str, inventory: Path, arguments: Sequence[str]) -> list[str]:
    """Return the command line that runs one of the collection's playbooks."""
    return ["ansible-playbook", "-i", str(inventory), f"kvmops.cluster.{name}", *arguments]
