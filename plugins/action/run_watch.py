# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import typing as t

from ansible import constants
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.answer_limit import answered_within
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.in_place_lines import (
    PlainRunLines,
    RunView,
    lines_for,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.line_display import Lines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_action import (
    PARTING_SIGNALS,
    Interrupted,
    interrupt,
    silence,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.shared_wait import SharedWait
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.watched_run import ANSWER_S, WatchedRun

display = Display()


class ActionModule(ActionBase):  # type: ignore[misc]
    """Shows how the run on a host goes, whoever has started it."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    ARGUMENTS: t.ClassVar[dict[str, dict[str, t.Any]]] = {
        "plan": {"type": "str"},
        "wait_s": {"type": "float", "default": 0.0},
        "state_dir": {"type": "path"},
    }

    def _others(self, host: str) -> SharedWait:
        folder = str(constants.DEFAULT_LOCAL_TMP)  # type: ignore[attr-defined]
        return SharedWait(folder, str(self._task._uuid), host)

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=dict(self.ARGUMENTS))
        host = str(self._task.delegate_to or task_vars.get("inventory_hostname"))

        def lines(found: dict[str, t.Any]) -> Lines:
            run = RunView(host, found["steps"], found["window_left_s"])
            return lines_for(display, run, str(self._task._uuid), task_vars, plain=PlainRunLines(display, run))

        far = _Far(self, host, arguments["state_dir"], task_vars)
        watched = WatchedRun(host, far, display.display, lines, silence(task_vars), self._others(host))
        before = {number: signal.signal(number, interrupt) for number in PARTING_SIGNALS}
        try:
            return {**result, **watched.watch(arguments["plan"] or None, arguments["wait_s"])}
        except Interrupted:
            # Only the watching ends. The worker's own handling of a signal is to end at once, too.
            if watched.lines:
                watched.lines.abandon()
            os._exit(1)
        finally:
            if watched.lines:
                watched.lines.close()
            for number, handler in before.items():
                signal.signal(number, handler)


class _Far:
    """The host, by the connection of a task."""

    def __init__(self, action: ActionModule, host: str, state_dir: str | None, task_vars: dict[str, t.Any]) -> None:
        self._action = action
        self._vars = task_vars
        self._arguments = {"name": host, **({"state_dir": state_dir} if state_dir else {})}

    def info(self, plan: str | None) -> dict[str, t.Any]:
        """What run_info says there."""
        with answered_within(2 * ANSWER_S):
            return t.cast(
                "dict[str, t.Any]",
                self._action._execute_module(
                    module_name="kvmops.cluster.run_info",
                    module_args={**self._arguments, **({"plan": plan} if plan else {})},
                    task_vars=self._vars,
                ),
            )

    def shell(self, command: str) -> str:
        """What a command prints there."""
        with answered_within(ANSWER_S):
            return str(self._action._low_level_execute_command(command).get("stdout", ""))

    def reset(self) -> None:
        """Open the connection anew."""
        self._action._connection.reset()
