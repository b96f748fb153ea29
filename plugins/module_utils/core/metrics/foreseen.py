# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a host keeps of the last plan that it was told of: C(kvmops.foreseen/1), for its metrics.

A plan knows all hosts. So it knows what one host does not: where there is room, and whether all of it fits the window.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.guest_expectation import Expectation

SCHEMA = "kvmops.foreseen/1"
#: A guest that the operator left out could leave.
LEFT_OUT = "excluded"

_TEXT = shape.text()
_WORD = shape.or_null(_TEXT)
_AMOUNT = shape.or_null(shape.number(0))
_GUEST = shape.mapping(
    {
        "destination": _WORD,
        "method": _WORD,
        "verdict": _WORD,
        "total_s": _AMOUNT,
        "downtime_ms": _AMOUNT,
        "bytes": _AMOUNT,
        "refusals": shape.list_of(_TEXT),
    },
    others=True,
)
FORESEEN = shape.mapping(
    {
        "schema": shape.one_of(SCHEMA),
        "plan": _TEXT,
        "goal": _TEXT,
        "created_at": _TEXT,
        "expected_s": _AMOUNT,
        "window_s": _AMOUNT,
        "fits_window": shape.or_null(shape.truth),
        "remarks": shape.list_of(_TEXT),
        "guests": shape.mapping_of(_GUEST),
    },
    others=True,
)


def foreseen(plan: t.Mapping[str, t.Any], host: str) -> dict[str, t.Any]:
    """The part of a plan that a host keeps.

    Args:
        plan: a C(kvmops.plan/1) of the right shape.
        host: whose guests count.
    """
    guests = {step["guest"]["uuid"]: _step(step) for step in plan["steps"] if step["source"] == host}
    for stay in plan["stays"]:
        codes = [why["code"] for why in stay["refusals"]]
        if stay["host"] == host and codes and LEFT_OUT not in codes:
            guests[stay["guest"]["uuid"]] = {**_NOTHING, "refusals": codes}
    expected = plan["expected"]
    return {
        "schema": SCHEMA,
        "plan": plan["id"],
        "goal": plan["goal"]["kind"],
        "created_at": plan["created_at"],
        "expected_s": expected.get("seconds"),
        "window_s": expected.get("window_s"),
        "fits_window": expected.get("fits_window"),
        "remarks": sorted({remark["code"] for remark in plan.get("remarks") or ()}),
        "guests": guests,
    }


_NOTHING: dict[str, t.Any] = {
    "destination": None,
    "method": None,
    "verdict": None,
    "total_s": None,
    "downtime_ms": None,
    "bytes": None,
    "refusals": [],
}


def _step(step: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    choice = step["forecast"] or {}
    figures = {name: (choice.get(name) or {}).get("value") for name in ("total_s", "downtime_ms", "bytes")}
    return {
        "destination": step["destination"],
        "method": choice.get("method"),
        "verdict": choice.get("verdict"),
        **figures,
        "refusals": [],
    }


def expectation_of(document: t.Mapping[str, t.Any] | None, uuid: str) -> Expectation | None:
    """What the last plan expects of a guest; None if it says nothing of it."""
    if document is None or uuid not in document["guests"]:
        return None
    guest = document["guests"][uuid]
    return Expectation(
        at=document["created_at"],
        destination=guest["destination"],
        method=guest["method"],
        verdict=guest["verdict"],
        total_s=guest["total_s"],
        downtime_ms=guest["downtime_ms"],
        bytes_sent=guest["bytes"],
        refusals=tuple(guest["refusals"]),
    )
