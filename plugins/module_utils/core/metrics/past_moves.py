# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What became of moves away from a host, by the results that its runs have left."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import lease_clock, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.document_shapes import GUEST
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import accuracy

#: Of the newest moves; an older one says little of the forecasts of now.
COMPARED_MOVES = 20
_WORD = shape.or_null(shape.text())
_AMOUNT = shape.or_null(shape.number(0))
_BAND = shape.or_null(shape.mapping({"value": _AMOUNT}, others=True))
#: What of the result of a step is read here.
MOVE = shape.mapping(
    {"guest": GUEST, "outcome": shape.text(), "finished_at": shape.text()},
    {
        "destination": _WORD,
        "strategy": _WORD,
        "total_s": _AMOUNT,
        "bytes": _AMOUNT,
        "downtime_ms": _AMOUNT,
        "forecast": shape.or_null(shape.mapping({}, dict.fromkeys(accuracy.FIGURES, _BAND), others=True)),
    },
    others=True,
)
#: Nothing was tried: then the guest has not had a move.
NOT_TRIED = ("refused", "not_started", "would_move", "already_there")

Move = t.Mapping[str, t.Any]


def seconds_of(text: t.Any) -> float | None:
    """Seconds since 1970 of a time as the contracts write it; None for anything else.

    >>> seconds_of("2026-11-24T02:00:00.120Z"), seconds_of("soon"), seconds_of(None)
    (1795485600.12, None, None)
    """
    try:
        return lease_clock.moment(text).timestamp() if isinstance(text, str) else None
    except (ValueError, OverflowError):
        return None


def moves(results: t.Iterable[t.Any]) -> list[Move]:
    """Of results of steps those that are of moves, the newest first."""
    found = [
        (at, one)
        for one in results
        if shape.fits(MOVE, one) and one["outcome"] not in NOT_TRIED
        for at in [seconds_of(one["finished_at"])]
        if at is not None
    ]
    return [one for _at, one in sorted(found, key=lambda pair: -pair[0])]


def last_of_each(newest_first: t.Iterable[Move]) -> list[Move]:
    """The last move of each guest."""
    found: dict[str, Move] = {}
    for one in newest_first:
        found.setdefault(one["guest"]["uuid"], one)
    return list(found.values())


def errors(newest_first: t.Iterable[Move]) -> dict[str, dict[str, t.Any] | None]:
    """How far off the forecasts of the newest moves were, as L(accuracy.summary) has it."""
    moved = [one for one in newest_first if one["outcome"] == "moved"][:COMPARED_MOVES]
    return accuracy.summary(accuracy.errors(one.get("forecast"), one) for one in moved)
