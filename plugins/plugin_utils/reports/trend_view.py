# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reports side by side, as a page, as CSV and as a table for the terminal.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.trend import TrendPoint
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds, listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import csv_text
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.axes import Plane, ticks
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.page import rendered
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.parts import (
    Chart,
    Dot,
    Line,
    Mark,
    Outcome,
    Table,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.report_view import DONE, NOT_DONE
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.timeline import now_text
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.forecast_text import milliseconds
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import table

HEADER = ("run", "began", "guests moved", "time", "forecast", "error of time", "of bytes", "of downtime")
DOWNTIMES = ("downtime, median", "longest", "longer than accepted")
#: Columns of figures.
_FIGURES = (1, 2, 3, 4, 5, 6, 7, 8, 9)
#: Lines of the chart of errors: how each is drawn, its figure, its name.
_ERRORS = (("curve", "total_s", "time"), ("link", "bytes", "bytes"), ("limit", "downtime_ms", "downtime"))
CSV = (
    *("plan", "what", "started_at", "ok", "guests", "moved", "total_s", "expected_s"),
    *("median_error_total_s", "median_error_bytes", "median_error_downtime_ms"),
    *("worst_error_total_s", "worst_error_bytes", "worst_error_downtime_ms"),
    *("median_downtime_ms", "worst_downtime_ms", "not_kept"),
)


@dataclasses.dataclass(frozen=True)
class TrendRow:
    """One run in the list of runs.

    Attributes:
        page: the name of its page in the same folder, or empty.
    """

    what: str
    page: str
    outcome: Outcome
    cells: tuple[str, ...]


def trend_html(points: t.Sequence[TrendPoint], pages: t.Container[str]) -> str:
    """A page that shows the runs side by side.

    Args:
        points: the runs, the oldest first.
        pages: names of the pages that are in the same folder.
    """
    rows = [
        TrendRow(
            what=point.what,
            page=f"{point.plan}.html" if f"{point.plan}.html" in pages else "",
            outcome=DONE if point.ok else NOT_DONE,
            cells=tuple(_cells(point)[1:]),
        )
        for point in reversed(points)
    ]
    charts = [chart for chart in (_errors_chart(points), _downtimes_chart(points)) if chart]
    return rendered(
        "trend.html.j2",
        headline=headline(points),
        rows=rows,
        header=(*HEADER, *DOWNTIMES),
        figures=_FIGURES,
        charts=charts,
    )


def trend_csv(points: t.Iterable[TrendPoint]) -> str:
    """One line for each run."""
    return csv_text.written(
        CSV,
        [
            {
                **dataclasses.asdict(point),
                **{f"median_error_{figure}": error for figure, error in point.medians.items()},
                **{f"worst_error_{figure}": error for figure, error in point.worsts.items()},
                "median_downtime_ms": point.downtime_ms,
                "not_kept": " ".join(point.not_kept),
            }
            for point in points
        ],
    )


def trend_lines(points: t.Sequence[TrendPoint]) -> list[str]:
    """The same for a terminal."""
    header = [
        name.upper() for name in ("run", "began", "moved", "time", "forecast", "off by", "downtime", "longest", "over")
    ]
    rows = [
        [
            point.what,
            now_text(point.started_at).removesuffix(" UTC"),
            f"{point.moved} of {point.guests}",
            *_times(point),
            _percent(point.medians["total_s"]),
            *_downtimes(point),
            str(len(point.not_kept)),
        ]
        for point in points
    ]
    return [headline(points), "", *table(header, rows, right=[*header[2:]])]


def headline(points: t.Sequence[TrendPoint]) -> str:
    """All runs in a line."""
    done = sum(point.ok for point in points)
    over = sum(len(point.not_kept) for point in points)
    told = f"{counted(len(points), 'run', 'runs')}, {done} of them complete"
    return f"{told}; {counted(over, 'guest was', 'guests were')} down for longer than accepted"


def _cells(point: TrendPoint) -> list[str]:
    return [
        point.what,
        now_text(point.started_at),
        f"{point.moved} of {point.guests}",
        *_times(point),
        *(_percent(point.medians[figure]) for dummy, figure, dummy2 in _ERRORS),
        *_downtimes(point),
        listed(list(point.not_kept)) or "-",
    ]


def _times(point: TrendPoint) -> list[str]:
    return ["-" if seconds is None else human_seconds(seconds) for seconds in (point.total_s, point.expected_s)]


def _downtimes(point: TrendPoint) -> list[str]:
    return ["-" if time is None else milliseconds(time) for time in (point.downtime_ms, point.worst_downtime_ms)]


def _or_dash(value: float | None, shown: t.Callable[[float], str]) -> str:
    return "-" if value is None else shown(value)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _errors_chart(points: t.Sequence[TrendPoint]) -> Chart | None:
    judged = [point for point in points if any(error is not None for error in point.medians.values())]
    lines = [(kind, name, [point.medians[figure] for point in judged]) for kind, figure, name in _ERRORS]
    return _chart("Errors of the forecasts", "median of a run", judged, lines, _percent)


def _downtimes_chart(points: t.Sequence[TrendPoint]) -> Chart | None:
    judged = [point for point in points if point.downtime_ms is not None]
    lines = [
        ("curve", "median of a run", [point.downtime_ms for point in judged]),
        ("limit", "longest of a run", [point.worst_downtime_ms for point in judged]),
    ]
    return _chart("Downtimes", "downtime", judged, lines, milliseconds)


def _chart(
    title: str,
    y_name: str,
    points: t.Sequence[TrendPoint],
    lines: t.Sequence[tuple[str, str, t.Sequence[float | None]]],
    shown: t.Callable[[float], str],
) -> Chart | None:
    """Lines from run to run; None where there is nothing to draw."""
    values = [value for dummy, dummy2, line in lines for value in line if value is not None]
    if not values:
        return None
    last = max(1, len(points) - 1)
    plane = Plane(last, 1.1 * max(values) or 1.0)
    drawn, dots = [], []
    for kind, dummy, line in lines:
        pairs = [(number, value) for number, value in enumerate(line) if value is not None]
        drawn.append(Line(kind, plane.points(pairs)))
        dots += [Dot(plane.x(number), plane.y(value), plane.y(value), plane.y(value)) for number, value in pairs]
    told = [(name, line[-1]) for dummy, name, line in lines]
    newest = "; ".join(f"{name} {shown(value)}" for name, value in told if value is not None)
    marks = sorted({0, len(points) // 2, len(points) - 1})
    return Chart(
        title=title,
        text=f"In the newest run: {newest}." if newest else f"{len(points)} runs.",
        x_name="runs, the oldest first",
        y_name=y_name,
        x_marks=tuple(Mark(plane.x(number), points[number].started_at[:10]) for number in marks),
        y_marks=tuple(Mark(plane.y(tick), shown(tick)) for tick in ticks(plane.y_most)),
        legend=tuple((kind, name) for kind, name, dummy in lines),
        table=Table(
            title,
            ("run", *(name for dummy, name, dummy2 in lines)),
            tuple(
                (
                    f"{point.what}, {now_text(point.started_at)}",
                    *(_or_dash(line[number], shown) for dummy, dummy2, line in lines),
                )
                for number, point in enumerate(points)
            ),
            tuple(range(1, len(lines) + 1)),
        ),
        lines=tuple(drawn),
        dots=tuple(dots),
    )
