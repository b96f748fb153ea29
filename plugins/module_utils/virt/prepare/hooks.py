# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: runs one hook, on this host or in the guest, with a time limit.

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

POLL_S = 0.1
#: How long a guest's agent may take to answer, in whole seconds, as libvirt wants it.
AGENT_S = 5
#: Only the end of what a command prints is kept: that is where errors are.
KEPT_CHARACTERS = 500
#: The environment of a command on the host, besides the variables of the move.
PLAIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclasses.dataclass(frozen=True)
class HookResult:
    """What became of a command.

    Attributes:
        ok: whether it succeeded.
        why: it failed, in words; None if it did not.
        output: the end of what it printed.
    """

    ok: bool
    why: str | None
    output: str


def on_host(hook: Hook, environment: t.Mapping[str, str]) -> HookResult:
    """Run a command on this host, without a shell. A command that takes too long is killed with its children."""
    try:
        with tempfile.TemporaryFile() as printed:
            status = _run(hook, environment, printed)
            printed.seek(0)
            output = _end_of(printed.read())
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
    arguments = {
        "path": hook.command[0],
        "arg": list(hook.command[1:]),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "capture-output": True,
    }
    try:
        number = ask_agent(domain, "guest-exec", arguments)["pid"]
        while True:
            state = ask_agent(domain, "guest-exec-status", {"pid": number})
            if state.get("exited"):
                return _ended(state)
            if clock() >= end:
                return HookResult(
                    False, f"it has not ended within {hook.timeout_s:g} s, and keeps running in the guest", ""
                )
            sleep(POLL_S)
    except (virt.libvirt.libvirtError, ImportError, KeyError, ValueError) as error:
        return HookResult(False, f"the guest agent did not run it: {error}", "")


def ask_agent(domain: t.Any, command: str, arguments: t.Mapping[str, t.Any]) -> t.Any:
    """What the guest's agent returns.

    Raises: libvirtError, KeyError or ValueError for an agent that does not answer, or with nonsense; ImportError where
        the binding lacks the half that asks agents.
    """
    import libvirt_qemu  # the binding's second half, which only this needs

    text = libvirt_qemu.qemuAgentCommand(domain, json.dumps({"execute": command, "arguments": arguments}), AGENT_S, 0)
    return json.loads(text)["return"]


def _ended(state: t.Mapping[str, t.Any]) -> HookResult:
    output = _end_of(b"".join(base64.b64decode(state.get(key, "")) for key in ("out-data", "err-data")))
    if state.get("signal"):
        return HookResult(False, _exit_in_words(-state["signal"]), output)
    status = int(state.get("exitcode", 0))
    return HookResult(status == 0, None if status == 0 else _exit_in_words(status), output)


def _exit_in_words(status: int) -> str:
    return f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"


def _end_of(printed: bytes) -> str:
    return printed.decode("utf-8", "replace").strip()[-KEPT_CHARACTERS:]
