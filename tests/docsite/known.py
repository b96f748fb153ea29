# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection has: the names that an example may use."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import variable_names

ROOT = Path(__file__).parents[2]
PREFIX = "kvmops.cluster."
#: Variables of playbooks whose names begin like no option.
PLAIN_VARIABLES = {"report": frozenset({"path"})}
Options = Mapping[str, Mapping[str, Any]]


@cache
def roles() -> dict[str, Options]:
    """Return the options of each role, with what its argument spec says of them."""
    found: dict[str, Options] = {}
    for path in sorted((ROOT / "roles").glob("*/meta/argument_specs.yml")):
        points = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values()
        options = {name: told for point in points for name, told in (point.get("options") or {}).items()}
        # A role without options is a part of the others.
        if options:
            found[path.parts[-3]] = options
    return found


@cache
def playbooks() -> dict[str, Options]:
    """Return the options of each playbook: those of its role, or its own."""
    found: dict[str, Options] = {}
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        own: Options = {option: {} for option in variable_names.PLAYBOOK_OPTIONS.get(path.stem, ())}
        found[path.stem] = roles().get(path.stem, own)
    return found


@cache
def modules() -> dict[str, frozenset[str]]:
    """Return the options of each module."""
    found = {}
    for path in sorted((ROOT / "plugins/modules").glob("*.py")):
        told = _documentation(path)
        options = set(told.get("options") or {})
        for name in told.get("extends_documentation_fragment") or ():
            options |= _fragment(name)
        found[path.stem] = frozenset(options)
    return found


@cache
def _fragment(name: str) -> frozenset[str]:
    stem, _dot, part = name.removeprefix(PREFIX).partition(".")
    path = ROOT / f"plugins/doc_fragments/{stem}.py"
    if not name.startswith(PREFIX) or not path.exists():
        return frozenset()
    return frozenset(_documentation(path, part.upper() or "DOCUMENTATION").get("options") or {})


def _documentation(path: Path, name: str = "DOCUMENTATION") -> dict[str, Any]:
    for one in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(one, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in one.targets):
            return dict(yaml.safe_load(ast.literal_eval(one.value)))
    return {}


@cache
def plugins() -> frozenset[str]:
    """Return the names of all that is no variable: plugins, roles, playbooks."""
    files = {path.stem for path in (ROOT / "plugins").glob("*/*.py")} | set(playbooks())
    return frozenset(files | {path.name for path in (ROOT / "roles").iterdir()})


@cache
def make_targets() -> frozenset[str]:
    """Return what `make` can be asked for."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))


@cache
def make_variables() -> frozenset[str]:
    """Return what `make` can be told."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return frozenset(re.findall(r"\$\((?:or |if |filter-out 0,\$\()?([A-Z]+)\b", text))


def owners() -> list[variable_names.Owner]:
    """Return who has variables: the inventory, each role, each playbook. The longest name is asked first."""
    named = {**roles(), **playbooks()}
    found = [variable_names.role_owner(name, options) for name, options in named.items()]
    return [variable_names.inventory_owner(), *sorted(found, key=lambda one: -len(one.name))]


def wrong_variable(name: str, playbook: str | None = None) -> str | None:
    """Return what is wrong with the name of a variable; None if nothing is, or if it is none of ours.

    Args:
        name: the variable.
        playbook: it is given to this one, which must know it.
    """
    owner = variable_names.owner_of(name, owners(), ())
    if owner is not None and name not in owner.options:
        return f"{name} is not known to {owner.name}{near(name, owner.options)}"
    if playbook is None or name.startswith("ansible_") or name in PLAIN_VARIABLES.get(playbook, ()):
        return None
    if owner is None or owner.name not in (playbook, variable_names.COLLECTION):
        return f"{name} is no variable of {playbook}{near(name, playbooks()[playbook])}"
    return None


def wrong_value(name: str, value: Any) -> list[str]:
    """Return what is wrong with the value of a variable that exists: a choice or a key that there is not."""
    if name.endswith("_intent") and isinstance(value, Mapping):
        return [
            f"{name}: no intent has {key}{near(key, intent.DEFAULTS)}" for key in value if key not in intent.DEFAULTS
        ]
    owner = variable_names.owner_of(name, owners(), ())
    told = ({**roles(), **playbooks()}.get(owner.name) or {}).get(name) or {} if owner else {}
    if isinstance(value, str) and "{{" in value:
        return []
    found = []
    choices = told.get("choices")
    given = value if isinstance(value, list) else [value]
    if choices and not isinstance(value, Mapping):
        found += [f"{name}: {one} is none of {choices}" for one in given if one not in choices]
    nested = told.get("options")
    if nested and isinstance(value, Mapping):
        found += [f"{name} has no {key}{near(key, nested)}" for key in value if key not in nested]
    return found


def near(name: str, known: Iterable[str]) -> str:
    """Return a hint at the name that may be meant.

    >>> near("drain_host_nam", ["drain_host_name"])
    '; did you mean drain_host_name?'
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
