# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Examples in the documentation: what is wrong with each block of code, and with each command in the text."""

from __future__ import annotations

import ast
import configparser
import importlib
import json
import re
import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from . import commands, known

FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\S*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
#: A block that is indented, after an empty line.
INDENTED = re.compile(r"(?<=\n\n)(?P<text>(?: {4}\S[^\n]*\n)+)")
INLINE = re.compile(r"`(?P<text>(?:ansible-playbook kvmops\.|ansible \S+ -m kvmops\.|make |-e )[^`]+)`")
#: A name in a sentence, perhaps with a value: `drain_host_spare: warn`. Headings are codes of refusals.
NAME = re.compile(r"(?<!### )`(?P<text>[a-z][a-z_]+[a-z])(?:[:=][^`]*)?`")
#: A task of ours.
MODULE = re.compile(r"kvmops\.cluster\.(\w+)")


def examples(page: str) -> Iterator[tuple[int, str, str]]:
    """Yield the blocks of code of a page: the line, the kind, the text."""
    for match in FENCE.finditer(page):
        yield page.count("\n", 0, match.start()) + 1, match["kind"], textwrap.dedent(match["text"])


def faults(page: str) -> list[str]:
    """Return what is wrong with the examples of a page, each with its line."""
    found = [(line, fault) for line, kind, text in examples(page) for fault in of_kind(kind, text)]
    # The text without its blocks; the lines keep their numbers.
    rest = FENCE.sub(lambda match: "\n" * match[0].count("\n"), page)
    for pattern, check in ((INDENTED, indented), (INLINE, inline), (NAME, name)):
        for match in pattern.finditer(rest):
            found += [(rest.count("\n", 0, match.start()) + 1, fault) for fault in check(match["text"])]
    return [f"line {line}: {fault}" for line, fault in found]


def of_kind(kind: str, text: str) -> list[str]:
    """Return what is wrong with a block."""
    check = KINDS.get(kind)
    return check(text) if check else [f"nothing is known of blocks of the kind {kind!r}"]


def indented(text: str) -> list[str]:
    """Return what is wrong with commands without a prompt."""
    return [fault for one in text.splitlines() for fault in commands.faults(one.strip())]


def name(text: str) -> list[str]:
    """Return what is wrong with a name in a sentence, if it is meant to be a variable."""
    wrong = None if text in known.plugins() else known.wrong_variable(text)
    return [wrong] if wrong else []


def inline(text: str) -> list[str]:
    """Return what is wrong with a command within a sentence, which may be a part of one: `-e drain_host_name=h1`."""
    text = " ".join(text.split())
    if not text.startswith("-e "):
        return [fault for fault in commands.faults(text) if " needs " not in fault]
    [words] = commands.split(text)
    return [fault for name, value in commands.extra_variables(words[1]).items() for fault in variable(name, value)]


def variable(name: str, value: Any) -> list[str]:
    """Return what is wrong with a variable of a play or of an inventory."""
    wrong = known.wrong_variable(name)
    return [wrong] if wrong else known.wrong_value(name, value)


def console(text: str) -> list[str]:
    """Check what is typed in; the answers are not looked at."""
    typed = list(commands.commands(text))
    return [fault for one in typed for fault in commands.faults(one)] or ([] if typed else ["no line has a prompt"])


def yaml_text(text: str) -> list[str]:
    """Check documents: variables of inventories and plays, options of modules, commands in scripts."""
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        return [" ".join(str(error).split())]
    return [fault for document in documents for fault in walk(document)]


def walk(value: Any) -> list[str]:
    """Check all that is within a value."""
    if isinstance(value, list):
        return [fault for one in value for fault in walk(one)]
    if isinstance(value, str) and "ansible-playbook kvmops." in value:
        lines = value.replace("\\\n", " ").splitlines()
        return [fault for one in lines for fault in commands.faults(one)]
    if not isinstance(value, Mapping):
        return []
    found = []
    for key, inner in value.items():
        match = MODULE.fullmatch(str(key))
        found += module(match[1], inner) if match else variable(str(key), inner)
        found += walk(inner)
    role = str(value.get("role", ""))
    if role.startswith(known.PREFIX) and role.removeprefix(known.PREFIX) not in known.roles():
        found.append(f"there is no role {role}")
    return found


def module(name: str, given: Any) -> list[str]:
    """Check a task."""
    options = known.modules().get(name)
    if options is None:
        return [f"there is no module {name}{known.near(name, known.modules())}"]
    told = given if isinstance(given, Mapping) else {}
    return [f"{name} has no {option}{known.near(option, options)}" for option in told if option not in options]


def json_text(text: str) -> list[str]:
    """Check one document, or one in each line."""
    try:
        json.loads(text)
    except ValueError as error:
        return [str(error)]
    return []


def xml_text(text: str) -> list[str]:
    """Check elements, of which there may be several."""
    try:
        ET.fromstring(f"<all>{text}</all>")
    except ET.ParseError as error:
        return [str(error)]
    return []


def ini_text(text: str) -> list[str]:
    """Check sections; systemd has some names twice, and lines that continue. What starts a playbook is checked, too."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        parser.read_string(text)
    except configparser.Error as error:
        return [str(error)]
    started = [value for section in parser.values() for name, value in section.items() if name == "execstart"]
    typed = [value.replace("\\\n", " ").partition("ansible-playbook") for value in started]
    return [fault for _program, name, words in typed if name for fault in commands.faults(name + words)]


def python_text(text: str) -> list[str]:
    """Check that it is Python, and that what it imports from us is there."""
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        return [str(error)]
    found = []
    for one in body:
        if isinstance(one, ast.ImportFrom) and one.module:
            try:
                there = importlib.import_module(one.module)
            except ImportError as error:
                found.append(str(error))
                continue
            found += [f"{one.module} has no {name.name}" for name in one.names if not hasattr(there, name.name)]
    return found


def nothing(text: str) -> list[str]:
    """Output and drawings are not checked."""
    del text
    return []


#: How each kind of block is checked. No other kind may stand in the documentation.
KINDS: dict[str, Callable[[str], list[str]]] = {
    "console": console,
    "ini": ini_text,
    "json": json_text,
    "mermaid": nothing,
    "python": python_text,
    "text": nothing,
    "xml": xml_text,
    "yaml": yaml_text,
}
