# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the part of a long module that runs on the controller. It starts the module as an
# asynchronous job, shows its progress, and continues after lost connections.

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shlex
import signal
import stat
import time
import typing as t
import uuid

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import run_progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_dir import STATE_DIR
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.answer_limit import answered_within
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.in_place_lines import RunView, lines_for
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.line_display import Lines, PlainLines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.progress_lines import FollowedFile

display = Display()

#: The job is ended by its own rules; this only keeps a forgotten one from living for ever.
JOB_LIMIT_S = 30 * 24 * 3600
POLL_S = 1.0
#: A job that ended without a last word, such as one that was killed, is noticed after so long.
JOB_LOOK_S = 15.0
#: A job that has not said a word yet may have failed at its first step.
SILENT_JOB_LOOK_S = 2.0
#: A job whose processes are gone has had so many looks to leave its result.
LOOKS_AT_DEAD_JOB = 2
#: How long a host may not answer before the controller stops watching. The job on the host goes on, if the host does.
LOST_S = 60.0
#: A single command, also on a busy host, answers within this time.
ANSWER_S = 25.0
#: How long the host may take to be told of an interrupt; ansible-playbook keeps the operator waiting for that.
PARTING_S = 8.0
_BOOT_ID = re.compile(r"[0-9a-f-]{36}")
PARTING_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """The operator pressed Ctrl-C, or the controller is being stopped."""


class LiveAction(ActionBase):  # type: ignore[misc]
    """Runs the module of the same name as an asynchronous job and shows its progress.

    Subclasses say what an interrupt means with C(INTERRUPT_NOTE).
    """

    _supports_check_mode = True
    _supports_async = False
    _supports_diff = True

    #: Shown on an interrupt, after the job was told to stop.
    INTERRUPT_NOTE = ""
    #: Whether lines with figures of a guest are rewritten in a terminal that can.
    IN_PLACE = False

    def module_arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """The module's arguments; a subclass may fill some in on the controller."""
        # A delegated task runs on another host than the one that the play is at.
        host = self._task.delegate_to or task_vars.get("inventory_hostname")
        return {"name": host, **self._task.args}

    def is_short(self, arguments: dict[str, t.Any]) -> bool:
        """Whether the module ends at once with these arguments, so that it need not be a job."""
        return False

    def lines(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> Lines:
        """What shows the progress of the job."""
        host = str(arguments.get("name"))
        if not self.IN_PLACE:
            return PlainLines(display, host)
        plan = arguments.get("plan") or {}
        rows = run_progress.rows_of(plan, host) if plan else []
        run = RunView(host, rows, (plan.get("expected") or {}).get("window_s"))
        return lines_for(display, run, str(self._task._uuid), task_vars)

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = self.module_arguments(task_vars)
        if self._task.check_mode or self.is_short(arguments):
            return {**result, **self._execute_module(module_args=arguments, task_vars=task_vars)}
        job = _Job(self, arguments, task_vars)
        old = {number: signal.signal(number, interrupt) for number in PARTING_SIGNALS}
        try:
            return {**result, **job.follow()}
        except Interrupted:
            job.part(self.INTERRUPT_NOTE)
            # The worker's own handling of a signal is to end at once; all that was to be said has been said.
            os._exit(1)
        finally:
            job.lines.close()
            for number, handler in old.items():
                signal.signal(number, handler)


def interrupt(_number: int, _frame: t.Any) -> t.NoReturn:
    """Take a signal to leave.

    Whoever catches this may end at once. Here, the worker may be in the middle of a word to ansible-playbook, which
    would then wait for its end for ever.
    """
    # ansible-playbook passes an interrupt on and terminates its workers right after; once is enough.
    for number in PARTING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Interrupted


def _tell_operator(text: str) -> None:
    """Warn on the terminal itself: after an interrupt ansible-playbook no longer shows what its workers say."""
    terminal = f"/proc/{os.getppid()}/fd/2"
    try:
        # In a plain file, what ansible-playbook writes next would overwrite this.
        if stat.S_ISREG(os.stat(terminal).st_mode):
            raise OSError(errno.EINVAL, "a plain file")
        with open(terminal, "w", encoding="utf-8") as file:
            file.write(f"[WARNING]: {clean(text)}\n")
    except OSError:
        display.warning(clean(text))


class _Job:
    """One asynchronous job on one host."""

    def __init__(self, action: LiveAction, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> None:
        self._action = action
        self._vars = task_vars
        self._host = str(arguments.get("name"))
        state_dir = arguments.get("state_dir") or str(STATE_DIR)
        self._link = f"{state_dir}/progress-{uuid.uuid4().hex}"
        self._file = FollowedFile()
        self.lines = action.lines(arguments, task_vars)
        self._arguments = {**arguments, "progress_path": self._link}
        self._job_id = ""
        self._result_file = ""
        self._pid: int | None = None
        self._boot = ""
        self._dead = 0
        self._ended = False
        self._lost_s = silence(task_vars)
        self._warned = False

    def follow(self) -> dict[str, t.Any]:
        """Start the job, show its progress, and return the module's result."""
        started = self._start()
        if "ansible_job_id" not in started:
            return started
        self._job_id = started["ansible_job_id"]
        self._result_file = started["results_file"]
        seen_at = looked_at = time.monotonic()
        while True:
            time.sleep(POLL_S)
            asked_at = time.monotonic()
            try:
                self._show_news()
                if self._ended or time.monotonic() - looked_at >= (JOB_LOOK_S if self._pid else SILENT_JOB_LOOK_S):
                    looked_at = time.monotonic()
                    status = self._status()
                    if status.get("finished"):
                        return self._finish(status)
                    self._check_alive()
                seen_at, self._warned = time.monotonic(), False
            except AnsibleConnectionFailure as error:
                self._lost(error, time.monotonic() - seen_at, asked_at - seen_at)

    def part(self, note: str) -> None:
        """Tell the job to stop, as far as the host can be reached in the time left."""
        self.lines.abandon()
        signal.signal(signal.SIGALRM, interrupt)
        signal.alarm(int(PARTING_S))
        try:
            self._show_news()
            if self._pid is None:
                raise AnsibleError("the job has not reported its process id yet")
            # The run goes on to write its lines; this was only the name by which this controller has followed them.
            self._shell(f"rm -f {shlex.quote(self._link)}; kill -TERM {self._pid}")
            self.lines.abandon()
            _tell_operator(f"{self._host}: interrupted. {note}")
        except (Interrupted, AnsibleError):
            self.lines.abandon()
            _tell_operator(f"{self._host}: interrupted, but the host could not be told: the run there goes on.")
        finally:
            signal.alarm(0)

    def _start(self) -> dict[str, t.Any]:
        task = self._action._task
        before, task.async_val = task.async_val, JOB_LIMIT_S
        try:
            return self._action._execute_module(module_args=self._arguments, task_vars=self._vars, wrap_async=True)
        finally:
            task.async_val = before

    def _show_news(self) -> None:
        # A single command reads the file from where we are; the link is missing until the job has made it.
        out = self._shell(f"tail -c +{self._file.offset + 1} {shlex.quote(self._link)} 2>/dev/null || true")
        for line in self._file.feed(out):
            self._show(line)
        self.lines.tick()

    def _show(self, line: dict[str, t.Any]) -> None:
        if line.get("phase") == "job":
            pid = line.get("pid")
            self._pid = pid if isinstance(pid, int) else None
            return
        if line.get("phase") == "end":
            self._ended = True
            return
        self.lines.show(line)

    def _check_alive(self) -> None:
        """Raise if nobody is left who could write a result: Ansible's own record of a job outlives a restart."""
        if self._pid is None:
            return
        told = self._shell(f"cat /proc/sys/kernel/random/boot_id; test -d /proc/{self._pid} && echo alive").split()
        if not told or not _BOOT_ID.fullmatch(told[0]):
            return
        self._boot = self._boot or told[0]
        self._dead = 0 if told == [self._boot, "alive"] else self._dead + 1
        if self._dead >= LOOKS_AT_DEAD_JOB:
            raise AnsibleError(
                f"{self._host}: the run there has died without a result: the host was restarted, or its processes were"
                " killed. Run the same playbook again: it goes on from what is done."
            )

    def _lost(self, error: AnsibleConnectionFailure, quiet_s: float, asked_s: float) -> None:
        """Open the connection again, or give the host up.

        Args:
            error: of the last command.
            quiet_s: for so long the host has not answered.
            asked_s: it had not answered for so long when it was asked last. A command may wait for half a minute; one
                that began while the network was still cut proves nothing about the host now.
        """
        # Otherwise the next command would wait for the same dead connection.
        with contextlib.suppress(AnsibleError), answered_within(ANSWER_S):
            self._action._connection.reset()
        if asked_s >= self._lost_s:
            raise AnsibleError(
                clean(f"{self._host} has not answered for {quiet_s:.0f} s ({error}).")
                + " If it still runs, its moves go on: run the same playbook again when it answers. If it has lost its"
                + " power, its guests that had not moved are off: see what the other hosts have, then power"
                + f" {clean(self._host)} on."
            ) from error
        if not self._warned:
            told = f"{self._host} does not answer ({error}); its moves go on. Trying again for {self._lost_s:g} s."
            display.warning(clean(told))
        self._warned = True

    def _finish(self, status: dict[str, t.Any]) -> dict[str, t.Any]:
        self._show_news()
        # What async_status would remove in its cleanup mode, without the second that a module costs.
        self._shell(f"rm -f {shlex.quote(self._link)} {shlex.quote(self._result_file)}")
        for key in ("ansible_job_id", "started", "finished", "results_file"):
            status.pop(key, None)
        # Where a process leaves no result, its parent writes one: with the command, and a traceback of its own.
        killed = "cmd" in status and self._pid is not None and not self._ended
        return self._killed() if killed else status

    def _killed(self) -> dict[str, t.Any]:
        """The result of a job that was killed on a host that is still up."""
        told = (
            f"{clean(self._host)}: the run there was killed before it had a result (journalctl -k on that host says"
            " whether the kernel did so for want of memory). Run the same playbook again: it goes on from what is done."
        )
        return {"failed": True, "changed": True, "died": True, "msg": told}

    def _status(self) -> dict[str, t.Any]:
        # The directory of asynchronous jobs is a shell option that async_wrapper has used as well.
        directory = self._action.get_shell_option("async_dir", default="~/.ansible_async")
        with answered_within(2 * ANSWER_S):
            return self._action._execute_module(
                module_name="ansible.builtin.async_status",
                module_args={"jid": self._job_id, "mode": "status", "_async_dir": directory},
                task_vars=self._vars,
            )

    def _shell(self, command: str) -> str:
        with answered_within(ANSWER_S):
            return str(self._action._low_level_execute_command(command).get("stdout", ""))


def silence(task_vars: t.Mapping[str, t.Any]) -> float:
    """For how many seconds a host may say nothing.

    Raises: AnsibleError where the inventory gives anything but a number of at least 1.
    """
    stated = task_vars.get("kvmops_cluster_silent_s", LOST_S)
    with contextlib.suppress(TypeError, ValueError):
        seconds = float(stated)
        if not isinstance(stated, bool) and 1 <= seconds < math.inf:
            return seconds
    raise AnsibleError(f"kvmops_cluster_silent_s is {stated!r}: give a number of seconds, at least 1.")
