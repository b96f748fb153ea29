# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: shows the progress of a host in lines at the bottom of the terminal, which are rewritten.
# What has no figures stays above them, as in a log.

from __future__ import annotations

import contextlib
import datetime
import os
import time
import typing as t

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.color import stringc

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import run_progress
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.run_progress import Row
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import live_block, screen_region
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.line_display import Lines, PlainLines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.owned_terminal import (
    Facts,
    OwnedTerminal,
    find_terminal,
    may_rewrite,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.progress_lines import color_of, phrase
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.shared_block import SharedBlock

#: The block takes no more lines than this, and no more than a third of the screen.
MOST_LINES = 16
VARIABLE = "kvmops_cluster_live"


class RunView:
    """How far the run on one host is.

    Args:
        host: whose guests leave.
        rows: a row for each guest, as far as they are known.
        window_s: seconds of the maintenance window that are left now; None where none was stated.
    """

    def __init__(self, host: str, rows: list[Row], window_s: float | None) -> None:
        self.host = host
        self.rows = rows
        self._window_s = window_s
        self._began = self._told = time.monotonic()
        # The clock of the host, which may be another than ours; until it is known, nothing needs it.
        self._at = datetime.datetime.now(datetime.UTC)

    def take(self, line: dict[str, t.Any]) -> Row | None:
        """Take a line. Returns the row that it is about, or None."""
        at = run_progress.moment(line.get("at"))
        if at:
            self._at, self._told = at, time.monotonic()
        return run_progress.follow(self.rows, line)

    def view(self) -> live_block.View:
        """As it is now."""
        now = time.monotonic()
        left = None if self._window_s is None else self._window_s - (now - self._began)
        return live_block.View(self.host, self.rows, self._at + datetime.timedelta(seconds=now - self._told), left)


class PlainRunLines(PlainLines):
    """Plain lines, and how far the run is after each guest that has ended: for those who do not know its plan."""

    def __init__(self, display: t.Any, run: RunView) -> None:
        super().__init__(display, run.host)
        self._run = run

    def show(self, line: dict[str, t.Any]) -> None:
        """Show the line."""
        super().show(line)
        row = self._run.take(line)
        if row is not None and run_progress.has_ended(row):
            words = live_block.run_words([self._run.view()])
            self._display.display(phrase(self.host, {"message": ", ".join(words)}))


class InPlaceLines:
    """Rewrites one line a guest, together with the other workers of this ansible-playbook.

    Args:
        display: Ansible's.
        terminal: of ansible-playbook.
        shared: what the workers tell each other.
        run: how far the run of this host is.
    """

    def __init__(self, display: t.Any, terminal: OwnedTerminal, shared: SharedBlock, run: RunView) -> None:
        self._display = display
        self._terminal = terminal
        self._shared = shared
        self._run = run
        #: Columns and lines of the terminal, and lines of the block, while it is shown.
        self._open: tuple[int, int, int] | None = None
        self._drawn: list[str] = []
        self._was_open = self._is_over = False
        self.tick()

    def show(self, line: dict[str, t.Any]) -> None:
        """Take a line. Figures of a guest change its row, and go to the log; all else is shown as always, too."""
        row = self._run.take(line)
        if line.get("level", 0) > self._display.verbosity:
            return
        in_row = row is not None and line.get("percent") is not None and not run_progress.has_ended(row)
        self._display.display(phrase(self._run.host, line), color=color_of(line), log_only=in_row)

    def tick(self) -> None:
        """Draw all anew, if it is this worker that draws."""
        if self._is_over:
            return
        self._shared.tell(self._run.view())
        if not self._terminal.is_owned():
            # Somebody has stopped ansible-playbook, or sent it to the background; it may come back.
            self._clear_directly()
            return
        size = self._terminal.size()
        if size is None or not self._shared.take():
            self._clear()
            return
        columns, lines = size
        shown = live_block.block(self._shared.views(), columns - 1, max(2, min(MOST_LINES, lines // 3)))
        texts = [line.text if line.color is None else stringc(line.text, line.color) for line in shown]
        if texts:
            self._draw(texts, columns, lines)

    def close(self) -> None:
        """The run of this host is over: its row stays for the others, and another worker may draw."""
        if self._is_over:
            return
        self._is_over = True
        self._shared.tell(self._run.view())
        if self._terminal.is_owned():
            self._clear()
            self._shared.give_up()
        else:
            self._clear_directly()

    def abandon(self) -> None:
        """Give the screen back at once. A second call is for what was still on its way at the first one."""
        self._is_over = True
        if self._was_open:
            self._open = self._open or (0, 0, 0)
            self._clear_directly()

    def _clear_directly(self) -> None:
        """Clear by writing to the terminal itself: nobody reads what is sent to ansible-playbook."""
        if self._open:
            self._open = None
            self._terminal.write(screen_region.closed())
        self._shared.give_up()

    def _draw(self, texts: list[str], columns: int, lines: int) -> None:
        sequence = ""
        if self._open and (self._open[:2] != (columns, lines) or self._open[2] < len(texts)):
            sequence, self._open = screen_region.closed(), None
        if self._open is None:
            self._open, self._drawn, self._was_open = (columns, lines, len(texts)), [], True
            sequence += screen_region.opened(len(texts), lines)
        # It never shrinks: what was above would jump.
        texts = [*[""] * (self._open[2] - len(texts)), *texts]
        if texts != self._drawn:
            self._drawn = texts
            self._send(sequence + screen_region.drawn(texts, lines))

    def _clear(self) -> None:
        if self._open:
            self._open = None
            self._send(screen_region.closed())

    def _send(self, sequence: str) -> None:
        """Pass control sequences on the same way as all lines, so that they keep their order."""
        self._display.display(sequence, screen_only=True, newline=False)


def lines_for(
    display: t.Any, run: RunView, task: str, task_vars: t.Mapping[str, t.Any], plain: Lines | None = None
) -> Lines:
    """What shows the progress of a host: lines that are rewritten where that is sure to work, plain lines elsewhere.

    Args:
        display: Ansible's.
        run: how far the run of the host is.
        task: the id that Ansible has given to the task. Its hosts are shown together.
        task_vars: of the task.
        plain: shows plain lines, if not in the usual way.

    Raises: AnsibleError where the inventory says anything but yes or no.
    """
    wanted = is_wanted(task_vars)
    plain = plain or PlainLines(display, run.host)
    terminal = find_terminal()
    if terminal is None:
        return plain
    facts = Facts(
        wanted=wanted,
        verbosity=display.verbosity,
        callback=str(constants.DEFAULT_STDOUT_CALLBACK),  # type: ignore[attr-defined]
        variables=os.environ,
        is_worker=True,
        is_owned=terminal.is_owned(),
        can=terminal.can(),
    )
    with contextlib.suppress(OSError):
        if may_rewrite(facts) and terminal.size():
            # Of this ansible-playbook, for nobody else to read, and removed at its end.
            folder = str(constants.DEFAULT_LOCAL_TMP)  # type: ignore[attr-defined]
            return InPlaceLines(display, terminal, SharedBlock(folder, run.host, task), run)
    terminal.close()
    return plain


def is_wanted(task_vars: t.Mapping[str, t.Any]) -> bool:
    """Whether the inventory lets lines be rewritten, which is the default.

    Raises: AnsibleError where it says anything but yes or no.
    """
    stated = task_vars.get(VARIABLE, True)
    try:
        return bool(boolean(stated))
    except TypeError:
        raise AnsibleError(f"{VARIABLE} is {stated!r}: give true or false.") from None
