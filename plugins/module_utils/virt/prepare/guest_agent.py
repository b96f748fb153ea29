# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: asks the agent of a guest. Who owns the guest owns its agent, so an answer may be anything.

from __future__ import annotations

import base64
import json
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.json_text import JsonTextError, parsed
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import MOST_OF_ERROR, one_line
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: How long a guest's agent may take to answer, in whole seconds, as libvirt wants it.
AGENT_S = 5
#: The agent's numbers of processes are of this size. A larger one cannot be asked for.
HIGHEST_PID = 2**63 - 1

#: What is asked, and what the answer has to be. Later versions of an agent may tell more.
ANSWERS: dict[str, shape.Shape] = {
    "guest-ping": shape.mapping({}, others=True),
    "guest-exec": shape.mapping({"pid": shape.whole(0)}, others=True),
    "guest-exec-status": shape.mapping(
        {"exited": shape.truth},
        {
            "exitcode": shape.or_null(shape.whole()),
            "signal": shape.or_null(shape.whole()),
            "out-data": shape.or_null(shape.text()),
            "err-data": shape.or_null(shape.text()),
        },
        others=True,
    ),
}


class AgentError(Exception):
    """An agent that does not do what it is asked to; says why in harmless words."""


class Ended(t.NamedTuple):
    """How a process in the guest has ended.

    Attributes:
        status: its exit status; negative for a signal, as Python has it.
        printed: what it printed.
    """

    status: int
    printed: bytes


def ask_agent(domain: t.Any, command: str, arguments: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the guest's agent returns, in the shape that it has to have.

    Args:
        domain: the guest, on a writable connection.
        command: one of L(ANSWERS).
        arguments: of the command.

    Raises: AgentError for an agent that does not answer, or with nonsense, and where the binding lacks the half that
        asks agents.
    """
    try:
        import libvirt_qemu  # the binding's second half, which only this needs

        asked = json.dumps({"execute": command, "arguments": arguments})
        text = libvirt_qemu.qemuAgentCommand(domain, asked, AGENT_S, 0)
    except (virt.libvirt.libvirtError, ImportError, UnicodeError) as error:
        # libvirt's error has the agent's words in it.
        raise AgentError(one_line(error, MOST_OF_ERROR)) from error
    if not isinstance(text, (str, bytes)):
        raise _improper(f"{command} was answered with no text")
    try:
        answer = parsed(text)
        shape.mapping({"return": ANSWERS[command]}, others=True)(answer, "")
    except JsonTextError as error:
        raise _improper(f"the answer to {command} is no JSON that can be read: {error}") from error
    except shape.ShapeError as error:
        raise _improper(f"in the answer to {command}, {error.place or 'all of it'} {error.what}") from error
    return t.cast("dict[str, t.Any]", answer["return"])


def start(domain: t.Any, command: t.Sequence[str], environment: t.Mapping[str, str]) -> int:
    """Start a program in the guest; returns the number by which the agent knows it.

    Raises: AgentError.
    """
    arguments = {
        "path": command[0],
        "arg": list(command[1:]),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "capture-output": True,
    }
    number: int = ask_agent(domain, "guest-exec", arguments)["pid"]
    if number > HIGHEST_PID:
        raise _improper(f"it knows the program by the number {number}, which is too large")
    return number


def ended(domain: t.Any, number: int) -> Ended | None:
    """How a program has ended that was started; None while it runs.

    Raises: AgentError.
    """
    state = ask_agent(domain, "guest-exec-status", {"pid": number})
    if not state["exited"]:
        return None
    try:
        printed = [base64.b64decode(state.get(key) or "", validate=True) for key in ("out-data", "err-data")]
    except ValueError as error:
        raise _improper("what the program printed is not in base64") from error
    if state.get("signal"):
        return Ended(-abs(state["signal"]), b"".join(printed))
    if state.get("exitcode") is None:
        raise _improper("the program has ended, and it does not say how")
    return Ended(state["exitcode"], b"".join(printed))


def _improper(what: str) -> AgentError:
    return AgentError(one_line(f"the agent does not answer properly: {what}", MOST_OF_ERROR))
