# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Many reports side by side: how right forecasts were from run to run, and how long guests stood still."""

from __future__ import annotations

import dataclasses
import statistics
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.accuracy import FIGURES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.report import GOOD, goal_words

_NUMBER = shape.or_null(shape.number(0))
_WORD = shape.or_null(shape.text())
_SPREAD = shape.or_null(shape.mapping({"median": shape.number(0), "worst": shape.number(0)}, others=True))
#: What is read of a report here, beyond what tells who has left a host (document_shapes.REPORT).
TREND = shape.mapping(
    {
        "plan": shape.text(),
        "goal": shape.mapping({"kind": shape.text(), "hosts": shape.list_of(shape.text())}, others=True),
        "started_at": _WORD,
        "ok": shape.truth,
        "total_s": _NUMBER,
        "guests": shape.list_of(
            shape.mapping(
                {"guest": shape.text(), "outcome": shape.text()},
                {"downtime_ms": _NUMBER, "kept_downtime": shape.or_null(shape.truth)},
                others=True,
            )
        ),
    },
    {
        "bytes": _NUMBER,
        "expected": shape.or_null(shape.mapping({}, {"seconds": _NUMBER}, others=True)),
        "accuracy": shape.or_null(shape.mapping({}, dict.fromkeys(FIGURES, _SPREAD), others=True)),
    },
    others=True,
)

Report = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class TrendPoint:
    """One run.

    Attributes:
        plan: its id.
        what: goal and hosts, in words.
        moved, guests: how many of its guests are where they were to go.
        expected_s: the forecast of C(total_s).
        medians, worsts: errors of the forecasts without their signs, by figure; None where nothing was compared.
        downtime_ms, worst_downtime_ms: of its guests, the median and the longest.
        not_kept: guests that stood still for longer than was accepted.
    """

    plan: str
    what: str
    started_at: str
    ok: bool
    moved: int
    guests: int
    total_s: float | None
    expected_s: float | None
    medians: t.Mapping[str, float | None]
    worsts: t.Mapping[str, float | None]
    downtime_ms: float | None
    worst_downtime_ms: float | None
    not_kept: tuple[str, ...]


def trend(reports: t.Iterable[Report]) -> list[TrendPoint]:
    """The runs in the order in which they began.

    Args:
        reports: of which each fits L(TREND).
    """
    return sorted(map(_point, reports), key=lambda point: (point.started_at, point.plan))


def _point(report: Report) -> TrendPoint:
    rows = report["guests"]
    accuracy = report.get("accuracy") or {}
    downtimes = [row["downtime_ms"] for row in rows if row.get("downtime_ms") is not None]
    return TrendPoint(
        plan=report["plan"],
        what=goal_words(report["goal"]),
        started_at=report["started_at"] or "",
        ok=report["ok"],
        moved=sum(row["outcome"] in GOOD for row in rows),
        guests=len(rows),
        total_s=report["total_s"],
        expected_s=(report.get("expected") or {}).get("seconds"),
        medians={figure: (accuracy.get(figure) or {}).get("median") for figure in FIGURES},
        worsts={figure: (accuracy.get(figure) or {}).get("worst") for figure in FIGURES},
        downtime_ms=statistics.median(downtimes) if downtimes else None,
        worst_downtime_ms=max(downtimes, default=None),
        not_kept=tuple(row["guest"] for row in rows if row.get("kept_downtime") is False),
    )
