# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether lines may be rewritten, which takes a terminal that belongs to ansible-playbook.
# A worker has no terminal of its own: what it shows goes through a queue to ansible-playbook, its parent. So the
# terminal of the parent counts, and /proc tells about it. Where that is not sure, lines are shown one below the other.

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.screen_region import NEEDED

#: What shows one line after the other, as its default does. Others make JSON of them, or move the cursor themselves.
CALLBACKS = ("default", "minimal", "oneline", "yaml", "debug", "unixy")
#: Names of variables of systems that keep the output as a log, although some give a terminal.
LOGGING = ("CI", "AWX_ISOLATED_DATA_DIR", "RUNNER_OMIT_EVENTS", "TF_BUILD", "JENKINS_URL")
LEAST_LINES, LEAST_COLUMNS = 10, 20


@dataclasses.dataclass(frozen=True)
class Facts:
    """What decides whether lines are rewritten.

    Attributes:
        wanted: the inventory does not say otherwise.
        verbosity: of C(-v).
        callback: Ansible's stdout callback.
        variables: of the environment.
        is_worker: this is a worker of ansible-playbook.
        is_owned: the output of ansible-playbook is the terminal that controls it, and it is in the foreground.
        can: the terminal has what it takes, by its description.
    """

    wanted: bool
    verbosity: int
    callback: str
    variables: t.Mapping[str, str]
    is_worker: bool
    is_owned: bool
    can: bool


def may_rewrite(facts: Facts) -> bool:
    """Whether lines may be rewritten in place. Who asks for more with C(-v) wants to see all of them."""
    return (
        facts.wanted
        and facts.verbosity == 0
        and facts.callback.rpartition(".")[2] in CALLBACKS
        and not any(facts.variables.get(name) for name in LOGGING)
        and facts.variables.get("TERM", "dumb") not in ("", "dumb", "unknown")
        and facts.is_worker
        and facts.is_owned
        and facts.can
    )


class OwnedTerminal:
    """The terminal of ansible-playbook, as one of its workers sees it.

    Args:
        parent: the process id of ansible-playbook.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent
        flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(f"/proc/{parent}/fd/1", flags)

    def is_owned(self) -> bool:
        """Whether ansible-playbook is there, at work, and in the foreground of this terminal."""
        if os.getppid() != self.parent or not os.isatty(self._descriptor):
            return False
        with contextlib.suppress(OSError, ValueError):
            stat = Path(f"/proc/{self.parent}/stat").read_text(encoding="utf-8", errors="replace")
            return is_foreground(stat, os.fstat(self._descriptor).st_rdev)
        return False

    def size(self) -> tuple[int, int] | None:
        """Columns and lines; None where that is not known, or too few of them."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(self._descriptor)
            if columns >= LEAST_COLUMNS and lines >= LEAST_LINES:
                return columns, lines
        return None

    def write(self, text: str) -> None:
        """Write to the terminal itself. Only for when ansible-playbook no longer shows what its workers say."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, text.encode())

    def can(self) -> bool:
        """Whether the description of this terminal has what is needed, in the form that is used here."""
        try:
            # Python may be built without it.
            import curses

            curses.setupterm(fd=self._descriptor)
            return all((curses.tigetstr(name) or b"").startswith(form) for name, form in NEEDED.items())
        except Exception:  # noqa: BLE001  # pylint: disable=broad-except
            return False

    def close(self) -> None:
        """Close it; the terminal of ansible-playbook stays."""
        os.close(self._descriptor)


def find_terminal() -> OwnedTerminal | None:
    """The terminal of ansible-playbook, if this is one of its workers and there is such a thing."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None or parent.pid != os.getppid():
        return None
    try:
        return OwnedTerminal(parent.pid)
    except OSError:
        return None


def is_foreground(stat: str, device: int) -> bool:
    """Whether a process is not stopped, and in the foreground of the terminal with this number.

    Args:
        stat: of the process, as /proc has it.
        device: of the terminal.
    """
    # The name of the program, in brackets, may have blanks and brackets itself.
    state, _parent, group, _session, terminal, foreground = stat.rpartition(")")[2].split()[:6]
    number = int(terminal)
    major, minor = (number >> 8) & 0xFFF, (number & 0xFF) | ((number >> 12) & 0xFFF00)
    return state not in "Tt" and group == foreground and (major, minor) == (os.major(device), os.minor(device))
