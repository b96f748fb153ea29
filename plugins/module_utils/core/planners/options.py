# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Check the options ``rules``, ``weights`` and ``slots``, and turn them into what the planners take."""

from __future__ import annotations

import difflib
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.greedy import Limits
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.rebalancing import USUAL_RULES, Rules
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.score import WEIGHTS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import ONE_AT_A_TIME, Slots
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB

#: Words of ``rules``: whether whole numbers only. All are 0 or more.
_RULES: dict[str, bool] = {
    "act_above": False,
    "least_improvement": False,
    "most_moves": True,
    "most_mib": False,
    "least_rate": False,
    "least_share": False,
}
_SLOTS = {"source": True, "destination": True, "link": True}

Stated = t.Mapping[str, t.Any]


def rules(stated: Stated) -> Rules:
    """When and how far to rebalance; what is not stated is as usual.

    >>> rules({"most_moves": "3"}).limits.most_moves
    3
    """
    said = _numbers(stated, _RULES, "rules")
    usual = Limits()
    most_mib = said.get("most_mib")
    most_moves = said.get("most_moves")
    return USUAL_RULES._replace(
        act_above=said.get("act_above", USUAL_RULES.act_above),
        least_improvement=said.get("least_improvement", USUAL_RULES.least_improvement),
        limits=usual._replace(
            most_moves=None if most_moves is None else int(most_moves),
            most_bytes=None if most_mib is None else int(most_mib * MIB),
            least_rate=said.get("least_rate", usual.least_rate),
            least_share=said.get("least_share", usual.least_share),
        ),
    )


def weights(stated: Stated) -> dict[str, float]:
    """What counts how much in the score; what is not stated counts as usual.

    >>> weights({"count": 0})["memory"]
    1.0
    """
    return {**WEIGHTS, **_numbers(stated, dict.fromkeys(WEIGHTS, False), "weights")}


def slots(stated: Stated, links: t.Iterable[str] = ()) -> Slots:
    """How many moves may run at once; one from each source, to each destination and over each link unless stated.

    Args:
        links: names of links that several hosts share.
    """
    said = _numbers(stated, _SLOTS, "slots")
    if any(value < 1 for value in said.values()):
        raise PlanError("slots", "slots: a number is below 1, so no guest could move", "give 1 or more")
    return Slots(
        int(said.get("source", ONE_AT_A_TIME.per_source)),
        int(said.get("destination", ONE_AT_A_TIME.per_destination)),
        {link: int(said.get("link", 1)) for link in links},
    )


def crossed(of_host: t.Mapping[str, str], hosts: t.Iterable[str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """The shared links between hosts, by source and destination: both ends' own, unless they share one.

    >>> crossed({"h1": "rack1", "h2": "rack1", "h3": "rack2"}, ["h1", "h2", "h3"])[("h1", "h3")]
    ('rack1', 'rack2')
    """
    names = sorted({*hosts, *of_host}) if of_host else []
    return {
        (one, other): tuple(filter(None, (of_host.get(one), of_host.get(other))))
        for one in names
        for other in names
        if of_host.get(one) != of_host.get(other)
    }


def _numbers(stated: Stated, words: t.Mapping[str, bool], option: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for word, value in stated.items():
        if word not in words:
            near = difflib.get_close_matches(str(word), words, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the words are {', '.join(words)}"
            raise PlanError(option, f"{option}: unknown word '{word}'", hint)
        if value is None:
            continue
        number = _number(value)
        if number is None or number < 0 or (words[word] and number != int(number)):
            kind = "whole number" if words[word] else "number"
            raise PlanError(option, f"{option}: {word} must be a {kind} of 0 or more, not {value!r}", "correct it")
        found[word] = number
    return found


def _number(value: t.Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
