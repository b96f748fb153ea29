# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: runs one hook, on this host or in the guest, with a time limit.

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import end_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import guest_agent

POLL_S = 0.1
#: Only the end of what a command prints is kept: that is where errors are.
KEPT_CHARACTERS = 500
KEPT_BYTES = 4 * KEPT_CHARACTERS
#: The environment of a command on the host, besides the variables of the move.
PLAIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclasses.dataclass(frozen=True)
class HookResult:
    """What became of a command.

    Attributes:
        ok: whether it succeeded.
        why: it failed, in words; None if it did not.
        output: the end of what it printed, harmless to a terminal.
    """

    ok: bool
    why: str | None
    output: str


def on_host(hook: Hook, environment: t.Mapping[str, str]) -> HookResult:
    """Run a command on this host, without a shell. A command that takes too long is killed with its children."""
    try:
        with tempfile.TemporaryFile() as printed:
            status = _run(hook, environment, printed)
            output = end_of(_last_bytes(printed), KEPT_CHARACTERS)
    except OSError as error:
        return HookResult(False, f"it could not be run: {error.strerror or error}", "")
    if status is None:
        return HookResult(False, f"it was ended after {hook.timeout_s:g} s", output)
    return HookResult(status == 0, None if status == 0 else _exit_in_words(status), output)


def _run(hook: Hook, environment: t.Mapping[str, str], printed: t.IO[bytes]) -> int | None:
    """The exit status of the command, or None when it was killed."""
    process = subprocess.Popen(
        list(hook.command),
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=subprocess.STDOUT,
        env={**PLAIN, **environment},
        cwd="/",
        # A group of its own: it can be killed with its children, and no signal to this process reaches it.
        start_new_session=True,
    )
    try:
        return process.wait(hook.timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def in_guest(
    hook: Hook,
    domain: t.Any,
    environment: t.Mapping[str, str],
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> HookResult:
    """Run a command in a guest through its agent. A command that takes too long goes on there, and nobody waits."""
    end = clock() + hook.timeout_s
    try:
        number = guest_agent.start(domain, hook.command, environment)
        while True:
            ended = guest_agent.ended(domain, number)
            if ended is not None:
                why = None if ended.status == 0 else _exit_in_words(ended.status)
                return HookResult(why is None, why, end_of(ended.printed, KEPT_CHARACTERS))
            if clock() >= end:
                return HookResult(
                    False, f"it has not ended within {hook.timeout_s:g} s, and keeps running in the guest", ""
                )
            sleep(POLL_S)
    except guest_agent.AgentError as error:
        return HookResult(False, f"the guest agent did not run it: {error}", "")


def _exit_in_words(status: int) -> str:
    return f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"


def _last_bytes(printed: t.IO[bytes]) -> bytes:
    """The last part of what a command has printed. It may have printed more than there is memory."""
    size = printed.seek(0, os.SEEK_END)
    printed.seek(max(0, size - KEPT_BYTES))
    return printed.read(KEPT_BYTES)
