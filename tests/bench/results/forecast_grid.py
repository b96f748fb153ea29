# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How good forecasts were: each combination of guest and link judged, and the errors of all of them. Pure.

Two verdicts are judged for each combination. Of the way that was chosen: it moved the guest and kept its intent, and so
was right, or it did not; a refusal is right where plain pre-copy did not do either. Of plain pre-copy: C(converges) is
right when it ended and kept the intent, C(never) when it had not ended when it was given up, or kept the guest down for
longer than accepted; C(marginal) is right when the move that was chosen kept the intent.

Errors are forecast over actual less 1, without sign, of the chosen way, outside the marginal band.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.drains.drain_record import MoveRecord

from .comparison import TOLERANCE_MS

SCHEMA = "kvmops.bench.forecast/1"
FIGURES = ("total_s", "bytes", "downtime_ms")
MIB = 1024 * 1024
HEAD = (
    f"{'GUEST':14}{'Mbit/s':>7}  {'HOW':15}{'VERDICT':11}{'PLAIN':11}{'DID':9}"
    f"{'s, forecast':>16}{'MiB, forecast':>18}{'down ms, forecast':>20}"
)


def row(
    link_mbit: float,
    guest: str,
    move: MoveRecord | None,
    seen: Mapping[str, Any] | None,
    said: Mapping[str, Any],
    tried: MoveRecord | None,
    cap_ms: float,
) -> dict[str, Any]:
    """One combination.

    Args:
        move: what was done in the way that was chosen; None if nothing was.
        seen: the same from outside (drains.observation).
        said: outcome forecast of plain pre-copy.
        tried: what plain pre-copy did, if it was tried on top.
        cap_ms: the longest downtime that the intent accepts.
    """
    forecast = (move and move.forecast) or {}
    observed = seen["downtime_observed_ms"] if seen else None
    actual: dict[str, Any] = {
        "total_s": seen["total_s"] if seen else None,
        "bytes": move.bytes if move else None,
        "downtime_ms": observed,
    }
    moved = move is not None and move.outcome == "moved"
    kept = moved and observed is not None and observed <= cap_ms + TOLERANCE_MS
    plain = tried or (move if move and move.strategy == "pre-copy" else None)
    plain_right = _plain_right(said["verdict"], plain, kept, cap_ms)
    # Nothing was tried because nothing would do: right where plain pre-copy, at least, did not.
    refused = move is not None and move.outcome == "refused" and said["verdict"] == "never"
    chosen_right = kept or (refused and plain_right)
    return {
        "guest": guest,
        "link_mbit": link_mbit,
        "max_downtime_ms": cap_ms,
        "method": forecast.get("method"),
        "verdict": forecast.get("verdict") or ("refused" if not moved else None),
        "outcome": move.outcome if move else "not_started",
        "kept": kept,
        "plain_verdict": said["verdict"],
        "plain_outcome": plain.outcome if plain else None,
        "plain_downtime_ms": plain.downtime_ms if plain else None,
        "chosen_right": chosen_right,
        "plain_right": plain_right,
        "verdict_right": chosen_right and plain_right,
        "forecast": {figure: (forecast.get(figure) or {}).get("value") for figure in FIGURES},
        "actual": actual,
        "errors": {
            figure: _error((forecast.get(figure) or {}).get("value"), actual[figure])
            if moved and forecast.get("verdict") == "converges"
            else None
            for figure in FIGURES
        },
        "error": move.error if move else None,
    }


def _plain_right(verdict: str, plain: MoveRecord | None, kept: bool, cap_ms: float) -> bool:
    if verdict == "marginal":
        return kept
    ended = plain is not None and plain.outcome == "moved"
    within = (
        ended and plain is not None and plain.downtime_ms is not None and plain.downtime_ms <= cap_ms + TOLERANCE_MS
    )
    if verdict == "converges":
        return within
    return plain is not None and not within


def _error(expected: float | None, actual: float | None) -> float | None:
    return None if expected is None or not actual else abs(expected / actual - 1)


def quantile(values: Iterable[float], share: float) -> float | None:
    """The smallest of the values that such a share of them does not exceed; None of none.

    >>> quantile([0.3, 0.1, 0.2, 0.4], 0.5)
    0.2
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All combinations, the share of right verdicts, and the errors."""
    p50, p90 = {}, {}
    for figure in FIGURES:
        errors = [row["errors"][figure] for row in rows if row["errors"][figure] is not None]
        p50[figure], p90[figure] = (_rounded(quantile(errors, share)) for share in (0.5, 0.9))
    return {
        "schema": SCHEMA,
        "combinations": len(rows),
        "marginal": sum(row["plain_verdict"] == "marginal" for row in rows),
        "verdict_right": round(sum(row["verdict_right"] for row in rows) / len(rows), 4) if rows else None,
        "p50_error": p50,
        "p90_error": p90,
        "rows": list(rows),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    told = ["", HEAD]
    for one in found["rows"]:
        cells = [
            _pair(one, "total_s", 1, 1, 16),
            _pair(one, "bytes", MIB, 0, 18),
            _pair(one, "downtime_ms", 1, 0, 20),
        ]
        told.append(
            f"{one['guest']:14}{one['link_mbit']:7g}  {one['method'] or '-':15}{one['verdict'] or '-':11}"
            f"{one['plain_verdict']:11}{one['plain_outcome'] or '-':9}{''.join(cells)}"
            f"{'' if one['verdict_right'] else '  WRONG'}"
        )
    share = 100 * (found["verdict_right"] or 0)
    told += ["", f"{found['combinations']} combinations, {found['marginal']} of them marginal for plain pre-copy."]
    told.append(f"{share:.0f} % of the verdicts were right.")
    for figure in FIGURES:
        p50, p90 = found["p50_error"][figure], found["p90_error"][figure]
        if p50 is not None and p90 is not None:
            told.append(f"Error of {figure}: {100 * p50:.1f} % (median), at most {100 * p90:.1f} % in 9 of 10.")
    return told


def _pair(one: Mapping[str, Any], figure: str, unit: float, digits: int, width: int) -> str:
    actual, expected = one["actual"][figure], one["forecast"][figure]
    left = "-" if actual is None else f"{actual / unit:.{digits}f}"
    right = "-" if expected is None else f"{expected / unit:.{digits}f}"
    return f"{left + ', ' + right:>{width}}"
