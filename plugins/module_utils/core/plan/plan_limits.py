# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a plan may not say, whoever wrote it: other addresses than the inventory's, and more than the run permits.

A plan may come from a merge request. Its reviewer sees which guest goes where, and not where an address leads.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: Of an address: the key in a plan, and what it is called.
_ADDRESSES = (("connect_uri", "connect URI"), ("migration_address", "migration address"))
_TOLD = 5


def with_known_addresses(plan: Plan, connect: t.Mapping[str, t.Mapping[str, t.Any]]) -> Plan:
    """The plan, without the addresses of hosts that the inventory does not have here: nobody is asked at these.

    Args:
        plan: as read.
        connect: C(connect_uri) and C(migration_address) by host, from the inventory.

    Raises: PlanError for other addresses than the inventory has, with the differences.
    """
    differences = [
        f"{word} of {host} is {_shown(of_plan.get(key))} in the plan and {_shown(connect[host].get(key))} in the"
        " inventory"
        for host, of_plan in sorted(plan["hosts"].items())
        # Without a connect URI nobody goes there.
        if host in connect and of_plan.get("connect_uri")
        for key, word in _ADDRESSES
        if (of_plan.get(key) or None) != (connect[host].get(key) or None)
    ]
    if differences:
        raise PlanError(
            "plan_addresses",
            f"its addresses are not those of the inventory: the {'; the '.join(differences[:_TOLD])}"
            + (f"; and {len(differences) - _TOLD} more" if len(differences) > _TOLD else ""),
            "find out who changed them; if the inventory has changed, make a new plan",
        )
    nowhere = {key: None for key, dummy in _ADDRESSES}
    hosts = {host: one if host in connect else {**one, **nowhere} for host, one in plan["hosts"].items()}
    return t.cast(Plan, {**plan, "hosts": hosts})


def check_permissions(plan: Plan, run_intent: t.Mapping[str, t.Any]) -> None:
    """Refuse a plan of which a step permits more than the run does.

    Args:
        plan: as read.
        run_intent: of the operator who carries the plan out.

    Raises: PlanError, with the first such words. IntentError for a run's intent that makes no sense.
    """
    permitted = intents.normalise(run_intent)
    consents = {word: True for word in intents.CONSENTS if word not in intents.stated(run_intent)}
    for step in plan["steps"]:
        asked = intents.normalise(step["intent"])
        words = intents.beyond({**permitted, **consents}, asked)
        if words:
            more = ", ".join(
                f"{word}={intents.shown(asked[word])} (the run: {intents.shown(permitted[word])})" for word in words
            )
            raise PlanError(
                "plan_permits_more",
                f"step {step['id']} ({step['guest']['name']}) permits more than this run does: {more}",
                "permit it to this run as well, in the same words as when the plan was made, or make a new plan",
            )


def check_digest(data: bytes, wanted: str) -> None:
    """Refuse a plan's file that is not the one that was reviewed.

    Raises: PlanError.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != wanted.strip().lower().removeprefix("sha256:"):
        raise PlanError(
            "plan_digest",
            f"its SHA-256 is {found}, and the plan that was asked for has {wanted.strip()[:80]}",
            "give the file that was reviewed (sha256sum tells its digest)",
        )


def deviations(plan: t.Mapping[str, t.Any]) -> list[str]:
    """What the steps of a plan permit beyond the defaults, for a reviewer: a line for each set of words.

    >>> deviations({"steps": []})
    []
    """
    who: dict[str, list[str]] = {}
    for step in plan["steps"]:
        asked = intents.normalise(step["intent"])
        words = [
            f"{word}={intents.shown(asked[word])}" for word, usual in intents.DEFAULTS.items() if asked[word] != usual
        ]
        if words:
            who.setdefault(", ".join(words), []).append(step["guest"]["name"])
    return [f"{listed(names, _TOLD)}: {words}" for words, names in who.items()]


def _shown(address: t.Any) -> str:
    return "not given" if address is None else repr(str(address)[:120])
