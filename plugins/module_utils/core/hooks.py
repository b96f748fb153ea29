# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Commands and checks around a move, as an operator or a guest's owner states them (docs/contracts.md, "Hooks")."""

from __future__ import annotations

import dataclasses
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import NAMESPACE
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import one_line
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: How early or late a command may run, and how long.
MOST_SECONDS = 3600.0
LEAST_TIMEOUT_S = 1.0
#: The hooks in a guest's metadata are its owner's, and a whole run waits for them. So there may be so many; each may
#: take so long and start so early or late; and all of them may take so long in one move.
MOST_OF_GUEST = 8
MOST_TIMEOUT_OF_GUEST_S = 60.0
MOST_SECONDS_OF_GUEST = 60.0
MOST_TOGETHER_OF_GUEST_S = 120.0
#: Of a program's path and of other words that are stated, so many characters are shown.
MOST_SHOWN = 100
_CHOICES = {
    "when": ("before", "after"),
    "where": ("host", "guest"),
    "on_failure": ("refuse", "stop", "go_on"),
    "check": ("agent", "port"),
}
_WORDS = {*_CHOICES, "command", "seconds", "timeout_s", "port", "address"}
#: Where each check is made from.
_CHECKED_FROM = {"agent": "guest", "port": "host"}
_HIGHEST_PORT = 65535


class HookError(ValueError):
    """A hook that makes no sense; ``refusal`` says which and why."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why["reason"])
        self.refusal = why


@dataclasses.dataclass(frozen=True)
class Hook:
    """One command, or one check whether the guest can be reached.

    Attributes:
        command: program and arguments; no shell reads them. Empty for a check.
        when: C(before) or C(after) the move.
        seconds: how long before or after.
        where: on the C(host) that the guest leaves, or in the C(guest) through its agent.
        timeout_s: it is ended (on the host) or left to itself (in the guest) after that.
        on_failure: before the move, C(refuse) it or C(go_on); after it, C(stop) sending guests to that destination, or
            C(go_on).
        check: C(agent): the guest's agent answers; C(port): a TCP port of the guest can be connected to from the host
            that it leaves. None for a command.
        port: of the guest, for C(port).
        address: of the guest, for C(port); None for those that libvirt knows.
    """

    command: tuple[str, ...]
    when: str = "before"
    seconds: float = 0.0
    where: str = "host"
    timeout_s: float = 30.0
    on_failure: str = "refuse"
    check: str | None = None
    port: int | None = None
    address: str | None = None

    @property
    def name(self) -> str:
        """Its program or its check, for people."""
        if self.check is None:
            return one_line(self.command[0], MOST_SHOWN)
        return "the check of the guest agent" if self.check == "agent" else f"the check of port {self.port}"


def normalise(stated: t.Sequence[t.Any] | None) -> tuple[Hook, ...]:
    """The hooks of a run, from its option.

    Raises: HookError for one that makes no sense.
    """
    return tuple(_hook(one, f"hook {number}") for number, one in enumerate(stated or (), 1))


def of_guest(root: ET.Element) -> tuple[Hook, ...]:
    """The hooks in a guest's metadata: C(<kvmops:hook when="before"><kvmops:arg>…</kvmops:arg></kvmops:hook>).

    Commands run in the guest and nowhere else: who may change a guest's description is not thereby root on its host.
    For the same reason a check connects to the guest's own addresses only.

    Raises: HookError for one that makes no sense, and for more of them than a guest may have.
    """
    name, count = root.findtext("name"), count_of_guest(root)
    if count > MOST_OF_GUEST:
        raise _error(f"the metadata of {name}", f"has {count} hooks, and {MOST_OF_GUEST} is the most", _FEWER)
    found = tuple(
        _of_guest(element, f"hook {number} in the metadata of {name}")
        for number, element in enumerate(_elements(root), 1)
    )
    together = sum(hook.timeout_s for hook in found) + sum(
        max((hook.seconds for hook in found if hook.when == when), default=0.0) for when in _CHOICES["when"]
    )
    if together > MOST_TOGETHER_OF_GUEST_S:
        what = f"may take {together:g} s together, and {MOST_TOGETHER_OF_GUEST_S:g} s is the most"
        raise _error(f"the hooks in the metadata of {name}", what, "give them a shorter timeout_s, or fewer seconds")
    return found


_FEWER = "make one command of several, or state them as an option of the run"


def count_of_guest(root: ET.Element) -> int:
    """How many hooks there are in a guest's metadata, whether they make sense or not."""
    return len(_elements(root))


def _elements(root: ET.Element) -> list[ET.Element]:
    return root.findall(f"metadata/{{{NAMESPACE}}}guest/{{{NAMESPACE}}}hook")


def _of_guest(element: ET.Element, name: str) -> Hook:
    stated: dict[str, t.Any] = dict(element.attrib)
    if stated.pop("where", "guest") != "guest":
        raise _error(name, "must not run on a host", "state it as an option of the run, or with where='guest'")
    if "address" in stated:
        raise _error(name, "must not name an address", "leave it out, or state the check as an option of the run")
    arguments = [argument.text or "" for argument in element.findall(f"{{{NAMESPACE}}}arg")]
    if "check" not in stated:
        stated["where"] = "guest"
        # A command of one guest that fails says little of the destination.
        stated.setdefault("on_failure", "go_on" if stated.get("when") == "after" else None)
    most = {"seconds": MOST_SECONDS_OF_GUEST, "timeout_s": MOST_TIMEOUT_OF_GUEST_S}
    return _hook({**stated, "command": arguments or None}, name, most)


def _hook(stated: t.Any, name: str, most: t.Mapping[str, float] | None = None) -> Hook:
    most = most or {}
    if not isinstance(stated, t.Mapping):
        raise _error(name, "is not a dictionary", "give it command, when and the other keys that it needs")
    given = {key: value for key, value in stated.items() if value is not None}
    if "check" in given and "command" in given:
        raise _error(name, "has a command and a check", "make two of it")
    unknown = sorted(str(word) for word in given if word not in _WORDS)
    if unknown:
        raise _error(
            name, f"has {one_line(unknown[0], MOST_SHOWN)}, which no hook has", f"use {', '.join(sorted(_WORDS))}"
        )
    for word, choices in _CHOICES.items():
        if given.get(word, choices[0]) not in choices:
            raise _error(name, f"has {word} {_shown(given[word])}", f"{word} is {' or '.join(choices)}")
    check: str | None = given.get("check")
    when = given.get("when", "after" if check else "before")
    where = given.get("where", _CHECKED_FROM.get(check or "", "host"))
    if check and where != _CHECKED_FROM[check]:
        raise _error(name, f"checks the {check} from the {where}", "leave out where")
    return Hook(
        command=() if check else _command(given.get("command"), name),
        when=when,
        seconds=_number(given, "seconds", 0.0, (0.0, most.get("seconds", MOST_SECONDS)), name),
        where=where,
        timeout_s=_number(given, "timeout_s", 30.0, (LEAST_TIMEOUT_S, most.get("timeout_s", MOST_SECONDS)), name),
        on_failure=_on_failure(given, when, name),
        check=check,
        port=_port(given, name),
        address=_address(given, name),
    )


def _on_failure(given: t.Mapping[str, t.Any], when: str, name: str) -> str:
    stated = given.get("on_failure")
    if when == "after" and stated == "refuse":
        raise _error(name, "runs after the move, so it cannot refuse it", "set on_failure to stop or go_on")
    if when == "before" and stated == "stop":
        raise _error(name, "runs before the move, so there is nothing to stop yet", "set on_failure to refuse or go_on")
    if stated is not None:
        return str(stated)
    # What fails after the first move would most likely fail after each: guests that cannot be reached, or that nobody
    # puts back behind their load balancer.
    return "refuse" if when == "before" else "stop"


def _port(given: t.Mapping[str, t.Any], name: str) -> int | None:
    stated = given.get("port")
    if given.get("check") != "port":
        if stated is not None:
            raise _error(name, "has a port and does not check it", "set check to port, or leave out port")
        return None
    try:
        port = 0 if isinstance(stated, (bool, float)) or stated is None else int(stated)
    except (TypeError, ValueError):
        port = 0
    if not 1 <= port <= _HIGHEST_PORT:
        raise _error(name, f"has port {_shown(stated)}", f"port is a number from 1 to {_HIGHEST_PORT}")
    return port


def _address(given: t.Mapping[str, t.Any], name: str) -> str | None:
    stated = given.get("address")
    if stated is None:
        return None
    if given.get("check") != "port":
        raise _error(name, "has an address and checks no port", "set check to port, or leave out address")
    if not isinstance(stated, str) or not stated or "\0" in stated or stated.startswith("-"):
        raise _error(name, f"has address {_shown(stated)}", "address is a name or an address of the guest")
    return stated


def _command(stated: t.Any, name: str) -> tuple[str, ...]:
    """The program and its arguments."""
    if isinstance(stated, str) or not isinstance(stated, t.Sequence) or not stated:
        raise _error(name, "has no command", "state it as a list: program and arguments, which no shell reads")
    if not all(isinstance(part, str) and "\0" not in part for part in stated):
        raise _error(name, "has an argument that is not a string", "put numbers in quotes")
    if not stated[0].startswith("/"):
        raise _error(name, f"has the program {_shown(stated[0])}", "state its whole path, beginning with /")
    return tuple(stated)


def _number(given: t.Mapping[str, t.Any], word: str, default: float, limits: tuple[float, float], name: str) -> float:
    stated = given.get(word, default)
    try:
        value = None if isinstance(stated, bool) else float(stated)
    except (TypeError, ValueError):
        value = None
    # Not a number is neither less nor more than anything.
    least, most = limits
    if value is None or not least <= value <= most:
        raise _error(name, f"has {word} {_shown(stated)}", f"{word} is a number from {least:g} to {most:g}")
    return value


def _shown(stated: t.Any) -> str:
    return one_line(repr(stated), MOST_SHOWN)


def _error(name: str, what: str, remedy: str) -> HookError:
    return HookError(refusal("bad_hook", f"{name} {what}", remedy))
