# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Commands around a move, as an operator or a guest's owner states them (docs/contracts.md, "Hooks")."""

from __future__ import annotations

import dataclasses
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import NAMESPACE
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: How early or late a command may run, and how long.
MOST_SECONDS = 3600.0
LEAST_TIMEOUT_S = 1.0
_CHOICES = {"when": ("before", "after"), "where": ("host", "guest"), "on_failure": ("refuse", "go_on")}
_WORDS = {*_CHOICES, "command", "seconds", "timeout_s"}


class HookError(ValueError):
    """A hook that makes no sense; ``refusal`` says which and why."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(why["reason"])
        self.refusal = why


@dataclasses.dataclass(frozen=True)
class Hook:
    """One command.

    Attributes:
        command: program and arguments; no shell reads them.
        when: C(before) or C(after) the move.
        seconds: how long before or after.
        where: on the C(host) that the guest leaves, or in the C(guest) through its agent.
        timeout_s: it is ended (on the host) or left to itself (in the guest) after that.
        on_failure: C(refuse) the move, or C(go_on); what comes after can refuse nothing.
    """

    command: tuple[str, ...]
    when: str = "before"
    seconds: float = 0.0
    where: str = "host"
    timeout_s: float = 30.0
    on_failure: str = "refuse"

    @property
    def name(self) -> str:
        """Its program, for people."""
        return self.command[0]


def normalise(stated: t.Sequence[t.Any] | None) -> tuple[Hook, ...]:
    """The hooks of a run, from its option.

    Raises: HookError for one that makes no sense.
    """
    return tuple(_hook(one, f"hook {number}") for number, one in enumerate(stated or (), 1))


def of_guest(root: ET.Element) -> tuple[Hook, ...]:
    """The hooks in a guest's metadata: C(<kvmops:hook when="before"><kvmops:arg>…</kvmops:arg></kvmops:hook>).

    They run in the guest and nowhere else: who may change a guest's description is not thereby root on its host.

    Raises: HookError for one that makes no sense.
    """
    found = []
    for number, element in enumerate(root.findall(f"metadata/{{{NAMESPACE}}}guest/{{{NAMESPACE}}}hook"), 1):
        name = f"hook {number} in the metadata of {root.findtext('name')}"
        stated: dict[str, t.Any] = dict(element.attrib)
        if stated.pop("where", "guest") != "guest":
            raise _error(name, "must not run on a host", "state it as an option of the run, or with where='guest'")
        stated["command"] = [argument.text or "" for argument in element.findall(f"{{{NAMESPACE}}}arg")]
        found.append(_hook({**stated, "where": "guest"}, name))
    return tuple(found)


def _hook(stated: t.Any, name: str) -> Hook:
    if not isinstance(stated, t.Mapping):
        raise _error(name, "is not a dictionary", "give it command, when and the other keys that it needs")
    given = {key: value for key, value in stated.items() if value is not None}
    unknown = sorted(str(word) for word in given if word not in _WORDS)
    if unknown:
        raise _error(name, f"has {unknown[0]}, which no hook has", f"use {', '.join(sorted(_WORDS))}")
    for word, choices in _CHOICES.items():
        if given.get(word, choices[0]) not in choices:
            raise _error(name, f"has {word} {given[word]!r}", f"{word} is {' or '.join(choices)}")
    when = given.get("when", "before")
    if when == "after" and given.get("on_failure") == "refuse":
        raise _error(name, "runs after the move, so it cannot refuse it", "set on_failure to go_on, or leave it out")
    return Hook(
        command=_command(given.get("command"), name),
        when=when,
        seconds=_number(given, "seconds", 0.0, 0.0, name),
        where=given.get("where", "host"),
        timeout_s=_number(given, "timeout_s", 30.0, LEAST_TIMEOUT_S, name),
        on_failure=given.get("on_failure", "go_on" if when == "after" else "refuse"),
    )


def _command(stated: t.Any, name: str) -> tuple[str, ...]:
    if isinstance(stated, str) or not isinstance(stated, t.Sequence) or not stated:
        raise _error(name, "has no command", "state it as a list: program and arguments, which no shell reads")
    if not all(isinstance(part, str) and "\0" not in part for part in stated):
        raise _error(name, "has an argument that is not a string", "put numbers in quotes")
    if not stated[0].startswith("/"):
        raise _error(name, f"has the program {stated[0]!r}", "state its whole path, beginning with /")
    return tuple(stated)


def _number(given: t.Mapping[str, t.Any], word: str, default: float, least: float, name: str) -> float:
    stated = given.get(word, default)
    try:
        value = None if isinstance(stated, bool) else float(stated)
    except (TypeError, ValueError):
        value = None
    # Not a number is neither less nor more than anything.
    if value is None or not least <= value <= MOST_SECONDS:
        raise _error(name, f"has {word} {stated!r}", f"{word} is a number from {least:g} to {MOST_SECONDS:g}")
    return value


def _error(name: str, what: str, remedy: str) -> HookError:
    return HookError(refusal("bad_hook", f"{name} {what}", remedy))
