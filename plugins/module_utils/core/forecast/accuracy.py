# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How right forecasts were, compared with what came true."""

from __future__ import annotations

import statistics
import typing as t

#: What is forecast of a move and can be seen afterwards.
FIGURES = ("total_s", "bytes", "downtime_ms")

Errors = dict[str, t.Optional[float]]


def errors(forecast: t.Mapping[str, t.Any] | None, actual: t.Mapping[str, t.Any]) -> Errors | None:
    """Relative errors of one move, each forecast over actual less 1; null where one of the two is not known.

    Args:
        forecast: a C(kvmops.choice/1), or None when nothing was forecast.
        actual: C(total_s), C(bytes) and C(downtime_ms) as they came true.

    >>> errors({"total_s": {"value": 12.0}, "bytes": None}, {"total_s": 10.0, "bytes": 5})
    {'total_s': 0.2, 'bytes': None, 'downtime_ms': None}
    """
    if forecast is None:
        return None
    return {figure: _error((forecast.get(figure) or {}).get("value"), actual.get(figure)) for figure in FIGURES}


def summary(found: t.Iterable[Errors | None]) -> dict[str, dict[str, t.Any] | None]:
    """Over several moves, of each figure how many were compared, the typical and the worst error, without their signs.

    Null where nothing could be compared.
    """
    each = [one for one in found if one is not None]
    return {figure: _spread([one[figure] for one in each]) for figure in FIGURES}


def _error(expected: float | None, actual: float | None) -> float | None:
    if expected is None or not actual:
        return None
    return round(expected / actual - 1, 4)


def _spread(values: t.Iterable[float | None]) -> dict[str, t.Any] | None:
    sizes = [abs(value) for value in values if value is not None]
    if not sizes:
        return None
    return {"compared": len(sizes), "median": round(statistics.median(sizes), 4), "worst": max(sizes)}
