# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: who was in which phase when, beside the forecast.

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import gaps
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.axes import time_ticks
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.parts import (
    Mark,
    Stretch,
    Table,
    Timeline,
    TimelineRow,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.words import outcome_of, seconds_since_start

#: Phases (core/result/step_record.py) in words, in the order of the legend.
PHASES = {
    "prepare": "prepared: both hosts are asked, the method is chosen",
    "wait": "waits",
    "hook": "a hook runs",
    "free_memory": "memory is freed",
    "disks": "disks are copied",
    "pre-copy": "memory is copied, the guest runs at the source",
    "suspend": "the guest is suspended, the rest is copied",
    "post-copy": "the guest runs at the destination, the rest is copied",
    "verify": "verified on both hosts",
    "finish": "what libvirt does not take along is set",
    "move": "moved (its phases are not recorded)",
    "planned": "forecast",
}
SHORT = {
    "prepare": "preparation",
    "wait": "waiting",
    "hook": "hook",
    "free_memory": "memory freed",
    "verify": "verification",
    "finish": "completion",
    "move": "move",
}
#: A stretch is seen even if it is short. In percent.
LEAST = 0.25

Row = t.Mapping[str, t.Any]


def timeline(report: t.Mapping[str, t.Any], is_plan: bool = False) -> Timeline:
    """The timeline of a run, or of a plan, whose forecasts are then the bars themselves."""
    rows = report["guests"]
    planned = (report.get("expected") or {}).get("steps") or {}
    spans = [[] if is_plan else spans_of(row, report["started_at"]) for row in rows]
    times = [planned.get(row.get("step")) for row in rows]
    ends = [span.end_s for found in spans for span in found] + [float(one["end_s"]) for one in times if one]
    most = max([*ends, float(report.get("total_s") or 0)], default=0) or 1.0
    lines = tuple(
        _line(number, row, found, one, most, is_plan)
        for number, (row, found, one) in enumerate(zip(rows, spans, times, strict=True), 1)
    )
    seen = {stretch.phase for line in lines for stretch in (*line.stretches, *filter(None, [line.planned]))}
    return Timeline(
        rows=tuple(sorted(lines, key=_begin)),
        marks=tuple(Mark(_percent(tick, most), clock(tick)) for tick in time_ticks(most)),
        legend=tuple((phase, words) for phase, words in PHASES.items() if phase in seen),
        gaps=None if is_plan else _gaps(rows, spans),
        window=_window(report, most),
    )


def spans_of(row: Row, start: str | None) -> list[gaps.Span]:
    """The phases of a guest in seconds since the start of the run; the whole move where its phases are not known."""
    found = []
    for phase in row.get("phases") or ():
        first = seconds_since_start(phase["start_at"], start)
        last = seconds_since_start(phase["end_at"] or row.get("finished_at"), start)
        if first is not None and last is not None:
            found.append(gaps.Span(phase["phase"], first, max(first, last)))
    if not found:
        first, last = (seconds_since_start(row.get(end), start) for end in ("started_at", "finished_at"))
        found = [gaps.Span("move", first, last)] if first is not None and last is not None else []
    return found


def clock(seconds: float) -> str:
    """A time since the start.

    >>> clock(0.5), clock(4), clock(187), clock(7265)
    ('0.5 s', '4 s', '3:07 min', '2:01:05 h')
    """
    if seconds < 60:
        return f"{seconds:g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"


def _line(
    number: int, row: Row, spans: t.Sequence[gaps.Span], times: t.Mapping[str, float] | None, most: float, is_plan: bool
) -> TimelineRow:
    planned = None
    if times:
        words = f"forecast: {clock(round(times['start_s'], 1))} to {clock(round(times['end_s'], 1))}"
        planned = Stretch("planned", words, *_place(times["start_s"], times["end_s"], most))
    stretches = tuple(_stretch(span, most) for span in spans)
    told = [stretch.text for stretch in stretches] + ([planned.text] if planned else [])
    return TimelineRow(
        number=number,
        guest=row["guest"],
        route=f"{row['source']} \N{RIGHTWARDS ARROW} {row['destination']}",
        outcome=outcome_of(row["outcome"], kept=row.get("kept_downtime")),
        # The bar of a plan is what the bar of a run is held against.
        stretches=(planned,) if is_plan and planned else stretches,
        planned=None if is_plan else planned,
        text="; ".join(told) or "no times are recorded",
    )


def _stretch(span: gaps.Span, most: float) -> Stretch:
    words = SHORT.get(span.phase, span.phase)
    text = f"{words}: {clock(round(span.start_s, 1))} to {clock(round(span.end_s, 1))}"
    return Stretch(span.phase, text, *_place(span.start_s, span.end_s, most))


def _place(start_s: float, end_s: float, most: float) -> tuple[float, float]:
    start = min(_percent(start_s, most), 100 - LEAST)
    return start, max(LEAST, round(_percent(end_s, most) - start, 3))


def _percent(seconds: float, most: float) -> float:
    return round(100 * min(1.0, max(0.0, seconds / most)), 3)


def _begin(line: TimelineRow) -> tuple[float, int]:
    places = [stretch.x for stretch in line.stretches] or ([line.planned.x] if line.planned else [101.0])
    return min(places), line.number


def _gaps(rows: t.Sequence[Row], spans: t.Sequence[t.Sequence[gaps.Span]]) -> Table | None:
    # Where only whole moves are known, nobody knows when a link was free.
    moves = [
        gaps.Moved(row["guest"], row["source"], row["destination"], tuple(found))
        for row, found in zip(rows, spans, strict=True)
    ]
    found = gaps.gaps(moves)
    if not found:
        return None
    return Table(
        caption="Times in which a host sent no guest",
        header=("host", "from", "to", "for", "why"),
        rows=tuple(
            (
                gap.host,
                clock(round(gap.start_s, 1)),
                clock(round(gap.end_s, 1)),
                human_seconds(gap.end_s - gap.start_s),
                gap.reason,
            )
            for gap in found
        ),
        figures=(1, 2, 3),
    )


def _window(report: t.Mapping[str, t.Any], most: float) -> Mark | None:
    """The end of the maintenance window, if it is within the drawing."""
    seconds = (report.get("expected") or {}).get("window_s")
    return Mark(_percent(seconds, most), clock(seconds)) if seconds and seconds <= most else None


def now_text(at: str | None) -> str:
    """A time as people read it; what is no time stays as it is.

    >>> now_text("2026-11-24T02:00:01.250Z")
    '2026-11-24 02:00:01 UTC'
    """
    try:
        moment = datetime.datetime.fromisoformat(str(at)).astimezone(datetime.UTC)
    except ValueError:
        return str(at or "-")
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
