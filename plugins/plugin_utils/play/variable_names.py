# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which variables of a play are misspelt options.

from __future__ import annotations

import difflib
import fnmatch
import re
import typing as t
from dataclasses import dataclass

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent

COLLECTION = "kvmops.cluster"
#: What an inventory may say about hosts. docs/guides/inventory.md describes them.
INVENTORY_VARIABLES = frozenset(
    f"kvmops_cluster_{word}"
    for word in (
        "bandwidth_mib_s",
        "capsule_dir",
        "capsule_files",
        "capsule_image_dir",
        "capsule_networks",
        "capsule_require_encrypted",
        "capsule_signers",
        "connect_uri",
        "hosts",
        "keep_days",
        "keep_runs",
        "link",
        "live",
        "migration_address",
        "other_variables",
        "owner",
        "report_dir",
        "report_formats",
        "report_keep",
        "report_keep_days",
        "report_mode",
        "same_servers",
        "shared_devices",
        "silent_s",
        "state_dir",
        "uri",
    )
)
#: Options of playbooks that have no role.
PLAYBOOK_OPTIONS = {
    "disk_copies": frozenset({"disk_copies_keep_s", "disk_copies_remove"}),
    "report": frozenset({"report_formats"}),
    "measure": frozenset({"measure_allow_monitor", "measure_intent", "measure_s"}),
    "watch": frozenset({"watch_hosts", "watch_run", "watch_wait_s"}),
}
#: Values that a message may repeat: numbers and words, no secrets with spaces or templates.
_SHORT = re.compile(r"[A-Za-z0-9.]{1,12}")

_NOTHING_DONE = (
    "Nothing was looked at or changed. If a name belongs to something else, list it in kvmops_cluster_other_variables."
)


@dataclass(frozen=True)
class Owner:
    """Who knows all variables that begin with a prefix."""

    #: A role, a playbook, or the collection.
    name: str
    prefix: str
    options: frozenset[str]


@dataclass(frozen=True)
class Unknown:
    """A variable that its owner does not know."""

    name: str
    owner: Owner
    value: t.Any = None
    #: It was given with C(-e).
    extra: bool = False
    #: The hosts that have it, if not all have.
    hosts: tuple[str, ...] = ()


def inventory_owner() -> Owner:
    """The owner of the variables that all roles share."""
    return Owner(COLLECTION, "kvmops_cluster_", INVENTORY_VARIABLES)


def role_owner(name: str, options: t.Iterable[str]) -> Owner:
    """The owner of a role's or playbook's variables."""
    return Owner(name, f"{name}_", frozenset(options))


def owner_of(variable: str, owners: t.Sequence[Owner], roles: t.Iterable[str]) -> Owner | None:
    """Who must know a variable, or None if it has nothing to do with these owners.

    Args:
        variable: its name.
        owners: those whose variables are checked.
        roles: names of all roles that the play may have, with or without their collection. C(preflight_disks_s) belongs
            to a role C(preflight_disks) of somebody else, if there is one, and not to C(preflight). If two roles have
            one name, a variable may belong to either.
    """
    owner = next((one for one in owners if variable.startswith(one.prefix) and variable != one.prefix), None)
    if owner is None:
        return None
    for role in roles:
        collection, _dot, short = role.rpartition(".")
        foreign = short != owner.name or collection != COLLECTION
        if foreign and len(short) >= len(owner.name) and variable.startswith(f"{short}_"):
            return None
    return owner


def is_other(variable: str, others: t.Iterable[str]) -> bool:
    """Whether the operator says that a variable belongs to something else; C(*) stands for any characters."""
    return any(fnmatch.fnmatchcase(variable, pattern) for pattern in others)


def message(unknown: t.Sequence[Unknown]) -> str:
    """What to tell the operator."""
    faults = [f"{_named(one)} is not {_kind(one.owner)} of {one.owner.name}; {_advice(one)}" for one in unknown]
    return " ".join([*faults, _NOTHING_DONE])


def _named(one: Unknown) -> str:
    return f"{one.name} ({', '.join(one.hosts)})" if one.hosts else one.name


def _kind(owner: Owner) -> str:
    return "a variable" if owner.name == COLLECTION else "an option"


def _advice(one: Unknown) -> str:
    near = nearest(one.name, one.owner)
    if near in one.owner.options:
        return f"did you mean {near}?"
    if near:
        value = str(one.value) if _SHORT.fullmatch(str(one.value)) else "..."
        written = f"{one.owner.prefix}intent: {{{near}: {value}}}"
        # In a shell the braces need quotes.
        return f"did you mean -e '{{{written}}}'?" if one.extra else f"did you mean {written}?"
    if one.owner.name == COLLECTION or one.owner.name in PLAYBOOK_OPTIONS:
        return f"known are {', '.join(sorted(one.owner.options))}."
    return f"ansible-doc -t role {COLLECTION}.{one.owner.name} lists the options."


def nearest(variable: str, owner: Owner) -> str | None:
    """The option that a variable may be meant for, or the word of its intent.

    >>> role = role_owner("drain_host", ["drain_host_name", "drain_host_intent"])
    >>> nearest("drain_host_nmae", role), nearest("drain_host_max_downtimes_ms", role)
    ('drain_host_name', 'max_downtime_ms')
    """
    words = {option[len(owner.prefix) :]: option for option in owner.options}
    if f"{owner.prefix}intent" in owner.options:
        words = {**{word: word for word in intent.DEFAULTS}, **words}
    close = difflib.get_close_matches(variable[len(owner.prefix) :], words, n=1)
    return words[close[0]] if close else None
