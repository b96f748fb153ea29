# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Read on which hosts a guest may run, and on which it may not, as the operator says."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Snapshot, metadata_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed


class Rule(t.NamedTuple):
    """Where guests may run.

    Attributes:
        only_on: the only hosts for them; empty: any.
        not_on: no hosts for them.
        whose: who says so, for a sentence, such as C(its metadata).
        remedy: what to change.
    """

    only_on: frozenset[str]
    not_on: frozenset[str]
    whose: str
    remedy: str

    def forbids(self, names: t.Collection[str]) -> bool:
        """Whether a host with these names is none for the guests."""
        return bool(self.not_on.intersection(names)) or bool(self.only_on and not self.only_on.intersection(names))


def rule_of(domain: Domain) -> Rule | None:
    """What a guest's own metadata says (C(only_on), C(not_on)): names of hosts, with commas or blanks between them."""
    metadata = metadata_of(domain)
    only_on, not_on = (_names(metadata.get(key)) for key in ("only_on", "not_on"))
    if not only_on and not not_on:
        return None
    return Rule(only_on, not_on, "its metadata", "change only_on or not_on in its metadata (virsh metadata)")


def names_of(snapshot: Snapshot) -> set[str]:
    """What rules may call a host: its name in the inventory, and its own long and short name."""
    hostname = str(snapshot.get("hostname") or "")
    return {name for name in (str(snapshot["host"]), hostname, hostname.partition(".")[0]) if name}


def refusal_of(domain: Domain, destination: Snapshot, rule: Rule | None) -> Refusal | None:
    """Why a guest may not run on a host."""
    if rule is None or not rule.forbids(names_of(destination)):
        return None
    guest, host = domain["name"], destination["host"]
    if rule.not_on.intersection(names_of(destination)):
        reason = f"{guest} may not run on {host} ({rule.whose}: not on {listed(sorted(rule.not_on), 5)})"
    else:
        reason = f"{guest} may not run on {host} ({rule.whose}: only on {listed(sorted(rule.only_on), 5)})"
    return refusal("placement_rule", reason, f"{rule.remedy}, or choose another host")


def _names(stated: t.Any) -> frozenset[str]:
    """
    >>> sorted(_names("h1, h2 h3")), sorted(_names(None))
    (['h1', 'h2', 'h3'], [])
    """
    if not isinstance(stated, str):
        return frozenset()
    return frozenset(name for name in re.split(r"[,\s]+", stated) if name)
