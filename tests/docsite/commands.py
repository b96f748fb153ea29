# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in the documentation: what each one names must exist."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from ansible.cli.playbook import PlaybookCLI
from ansible.parsing.splitter import parse_kv

from . import known

#: Ansible has no types.
ANSIBLE_PLAYBOOK: Any = PlaybookCLI
PARSE_WORDS: Any = parse_kv
#: What stands before a command: of a user, of root, or of a user on a host.
PROMPT = re.compile(r"^(?:[\w-]+@[\w-]+)?[$#] ")
#: What ends one command and begins the next.
BETWEEN = {"&&", "||", ";", "|", "do", "done"}
#: Words before a command.
BEFORE = {"sudo", "time", "nice"}


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a console: what follows a prompt, with the lines that continue it."""
    lines = text.splitlines()
    while lines:
        line = lines.pop(0).strip()
        if not PROMPT.match(line):
            continue
        while line.endswith("\\") and lines:
            line = line[:-1] + lines.pop(0).strip()
        yield PROMPT.sub("", line)


def faults(command: str) -> list[str]:
    """Return what is wrong with one line of a shell.

    >>> faults("ansible-playbook kvmops.cluster.recover -i inventory.yml -e recover_spare=warn")
    ['recover_spare is not known to recover; did you mean recover_owner?']
    """
    try:
        parts = split(command)
    except ValueError as error:
        return [f"{command}: {error}"]
    return [fault for part in parts for fault in _faults_of(part)]


def split(command: str) -> list[list[str]]:
    """Return the words of each command in a line of a shell.

    >>> split("make demo && echo 'a b'   # and so on")
    [['make', 'demo'], ['echo', 'a b']]
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    parts: list[list[str]] = [[]]
    for word in lexer:
        if word in BETWEEN:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _faults_of(words: Sequence[str]) -> list[str]:
    while words and words[0] in BEFORE:
        words = words[1:]
    checks = {"ansible-playbook": _playbook, "ansible": _module, "make": _make}
    check = checks.get(words[0].rsplit("/", 1)[-1]) if words else None
    return check(words[1:]) if check else []


def _playbook(words: Sequence[str]) -> list[str]:
    cli = ANSIBLE_PLAYBOOK(["ansible-playbook", *words])
    cli.init_parser()
    try:
        told, unknown = cli.parser.parse_known_args(list(words))
    except SystemExit:
        return [f"ansible-playbook does not take {' '.join(words)}"]
    found = [f"ansible-playbook has no {word}" for word in unknown]
    given: dict[str, Any] = {}
    for text in told.extra_vars or ():
        given.update(extra_variables(text))
    for name in told.args:
        short = name.removeprefix(known.PREFIX)
        if not name.startswith(known.PREFIX):
            # A file of the repository, or one of the reader's own.
            if name.startswith("docs/") and not (known.ROOT / name).exists():
                found.append(f"there is no {name}")
        elif short not in known.playbooks():
            found.append(f"there is no playbook {name}{known.near(short, known.playbooks())}")
        else:
            found += _variables(short, given)
    return found


def _variables(playbook: str, given: dict[str, Any]) -> list[str]:
    found = []
    for name, value in given.items():
        wrong = known.wrong_variable(name, playbook)
        found += [wrong] if wrong else known.wrong_value(name, value)
    # A playbook for one host or one guest must be told which.
    needed = {f"{playbook}_name", f"{playbook}_guest"} & set(known.playbooks()[playbook])
    return found + [f"{playbook} needs {name}" for name in sorted(needed - set(given))]


def extra_variables(text: str) -> dict[str, Any]:
    """Return what `-e` gives.

    >>> extra_variables("a=1 b='x y'"), extra_variables('{"a": [1]}'), extra_variables("@file.yml")
    ({'a': '1', 'b': 'x y'}, {'a': [1]}, {})
    """
    if text.startswith("@"):
        return {}
    if text.startswith("{"):
        return dict(yaml.safe_load(text))
    return {str(name): value for name, value in PARSE_WORDS(text).items() if name != "_raw_params"}


def _module(words: Sequence[str]) -> list[str]:
    pairs = dict(itertools.pairwise(words))
    name = pairs.get("-m", "")
    short = name.removeprefix(known.PREFIX)
    if not name.startswith(known.PREFIX):
        return []
    if short not in known.modules():
        return [f"there is no module {name}{known.near(short, known.modules())}"]
    text = pairs.get("-a", "")
    given = json.loads(text) if text.startswith("{") else PARSE_WORDS(text)
    options = known.modules()[short]
    return [f"{name} has no {option}{known.near(option, options)}" for option in given if option not in options]


def _make(words: Sequence[str]) -> list[str]:
    found = []
    for word in words:
        variable, equals, value = word.partition("=")
        if equals:
            if variable not in known.make_variables() and not variable.startswith("KVMOPS_"):
                found.append(f"make knows no {variable}")
            if variable in ("SCENARIO", "TESTS") and not (known.ROOT / value).exists():
                found.append(f"there is no {value}")
        elif not word.startswith("-") and word not in known.make_targets():
            found.append(f"make has no {word}{known.near(word, known.make_targets())}")
    names = [word.partition("=")[2] for word in words if word.startswith("NAME=")]
    if "bench" in words:
        found += [f"there is no bench {name}" for name in names if not _is_bench(name)]
    if "soak" in words:
        found += [f"make soak has no part {name}" for name in names if name not in _parts_of_soak()]
    return found


def _is_bench(name: str) -> bool:
    return (known.ROOT / f"tests/bench/benches/{name}.py").exists()


def _parts_of_soak() -> set[str]:
    from soak.parts import PARTS

    return {part.name for part in PARTS}
