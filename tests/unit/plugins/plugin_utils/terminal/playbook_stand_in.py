# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for ansible-playbook: it has the terminal, and shows what its worker sends it through a queue.

The worker has left the terminal, as Ansible's do, and follows a run of two guests.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile

from ansible import constants

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import run_progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import in_place_lines

HOSTILE = "web\x1b]0;x\x07\x1b[2J\x9b5Acol-" + "very-long-" * 8 + "end"
STEPS = [
    {
        "id": f"s{number}",
        "guest": {"name": name, "uuid": f"u{number}"},
        "source": "h1",
        "destination": "h2",
        "memory_bytes": 1 << 29,
    }
    for number, name in enumerate(["db1", os.environ.get("GUEST", "web1")])
]
PLAN = {
    "id": "drain-h1-1",
    "steps": STEPS,
    "expected": {
        "window_s": 600,
        "steps": {
            step["id"]: {"start_s": 10.0 * number, "end_s": 10.0 * number + 10} for number, step in enumerate(STEPS)
        },
    },
}
#: What the host tells, and what Ansible shows of other hosts meanwhile.
TOLD = [
    {"step": 0, "phase": "setup", "message": "pre-copy (about 10 s)"},
    {"step": 0, "phase": "pre-copy", "message": " 42 %, 22.8 MiB/s", "percent": 42, "eta_s": 6},
    "ok: [h3]",
    {"step": 0, "phase": "pre-copy", "message": " 84 %, 22.8 MiB/s", "percent": 84, "eta_s": 2},
    {"step": 0, "phase": "done", "message": "moved, 9.9 s"},
    {"step": 1, "phase": "pre-copy", "message": "  7 %, 22.8 MiB/s", "percent": 7, "eta_s": 9},
    "[WARNING]: something else\nin two lines",
    {"step": 1, "phase": "done", "message": "moved, 9.8 s"},
]


class WorkersDisplay:
    """Ansible's display in a worker."""

    verbosity = 0

    def __init__(self, queue) -> None:
        self._queue = queue

    def display(self, text, color=None, *, screen_only=False, log_only=False, newline=True) -> None:
        """Send it to ansible-playbook."""
        del color, screen_only
        if not log_only:
            self._queue.put(text + "\n" * newline)


def work(queue, ending: str) -> None:
    """Follow the run."""
    os.setsid()
    display = WorkersDisplay(queue)
    rows = run_progress.rows_of(PLAN, "h1")
    run = in_place_lines.RunView("h1", rows, PLAN["expected"]["window_s"])
    lines = in_place_lines.lines_for(display, run, "task", {"kvmops_cluster_live": os.environ.get("LIVE", "true")})
    for told in TOLD:
        if isinstance(told, str):
            display.display(told)
            continue
        step = STEPS[told["step"]]
        about = {"step": step["id"], "guest": step["guest"]["name"], "destination": "h2", "at": utc_now()}
        lines.show({**told, **about})
        lines.tick()
    if ending == "interrupted":
        # What was sent before is shown first, as while the host is told.
        queue.put(None)
        queue.join()
        lines.abandon()
    else:
        lines.close()
        display.display("changed: [h1]")
        queue.put(None)


def main(ending: str) -> None:
    """Show what the worker sends."""
    context = multiprocessing.get_context("fork")
    queue = context.JoinableQueue()
    sys.stdout.write("TASK [Move the guests]\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        constants.DEFAULT_LOCAL_TMP = folder
        worker = context.Process(target=work, args=(queue, ending))
        worker.start()
        while (text := queue.get()) is not None:
            # Ansible does not flush, either.
            sys.stdout.write(text)
            queue.task_done()
        queue.task_done()
        worker.join()
    sys.stdout.write("PLAY RECAP\n")


if __name__ == "__main__":
    main(sys.argv[1])
