# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes how long each task took, a JSON line a task, to the file that KVMOPS_TASK_SECONDS names."""

from __future__ import annotations

DOCUMENTATION = r"""
name: task_seconds
type: aggregate
short_description: Write how long each task took
description:
  - Writes a JSON line a task, with its name and its seconds, to the file that E(KVMOPS_TASK_SECONDS) names.
author:
  - kvmops.cluster contributors (@kvmops)
"""

import json
import os
import time
import typing as t
from pathlib import Path

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Takes the time from the start of each task to the start of the next."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_seconds"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._path = Path(os.environ.get("KVMOPS_TASK_SECONDS", "task-seconds.jsonl"))
        self._task: str | None = None
        self._began = 0.0

    def v2_playbook_on_task_start(self, task: t.Any, is_conditional: bool) -> None:
        """A task begins, and so the one before has ended."""
        self._note()
        self._task, self._began = task.get_name(), time.monotonic()

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        """All has ended."""
        self._note()
        self._task = None

    def _note(self) -> None:
        if self._task is None:
            return
        line = json.dumps({"task": self._task, "seconds": round(time.monotonic() - self._began, 3)})
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
