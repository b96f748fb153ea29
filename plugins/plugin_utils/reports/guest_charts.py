# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the drawings of one guest: how it writes its memory, its rounds, its downtime.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set import working_set as working_sets
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve import Curve
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.axes import (
    Plane,
    byte_ticks,
    log_byte_ticks,
    log_ticks,
    time_ticks,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.parts import (
    Bar,
    Chart,
    Dot,
    Downtime,
    Line,
    Mark,
    Table,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.forecast_text import milliseconds

#: The curve is drawn through so many places.
PLACES = 40
#: The guest writes no less.
PAGE_BYTES = 4096
#: The drawing ends a little beyond the longest window.
BEYOND = 1.08

Document = t.Mapping[str, t.Any]


def curve_chart(working_set: Document, forecast: Document | None, accepted_ms: float | None) -> Chart:
    """W(t) of a guest, with its points and its fit, and what the link carries in the same time."""
    curve = working_sets.curve_of(working_set)
    points = working_set["points"]
    rate = (forecast or {}).get("bandwidth_bytes_per_s")
    plane = _curve_plane(points, curve, rate, accepted_ms)
    lines, legend = [Line("curve", _curve(curve, plane))], [("curve", "what the guest writes, W(t)")]
    legend.append(("dot", "measured, with its error"))
    if rate:
        ends = (max(plane.x_least, plane.y_least / rate), min(plane.x_most, plane.y_most / rate))
        lines.append(Line("link", plane.points((end, end * rate) for end in ends)))
        legend.append(("link", f"what the link carries, {human_bytes(rate)}/s"))
    if accepted_ms and plane.x_least <= accepted_ms / 1000 <= plane.x_most:
        at = accepted_ms / 1000
        lines.append(Line("limit", plane.points([(at, plane.y_least), (at, plane.y_most)])))
        legend.append(("limit", f"accepted downtime, {milliseconds(accepted_ms)}"))
    return Chart(
        title="How it writes its memory",
        text=_curve_text(working_set, curve, rate, accepted_ms),
        x_name="seconds",
        y_name="written memory",
        x_marks=tuple(Mark(plane.x(tick), f"{tick:g}") for tick in log_ticks(plane.x_least, plane.x_most)),
        y_marks=tuple(Mark(plane.y(tick), human_bytes(tick)) for tick in log_byte_ticks(plane.y_least, plane.y_most)),
        legend=tuple(legend),
        table=_curve_table(points, curve, rate),
        lines=tuple(lines),
        dots=tuple(_dot(point, plane) for point in points),
    )


def _curve_plane(points: t.Sequence[Document], curve: Curve, rate: float | None, accepted_ms: float | None) -> Plane:
    """Axes on which each figure is as far from its double: windows are from a tenth of a second to many seconds."""
    windows = [point["window_s"] for point in points] + ([accepted_ms / 1000] if accepted_ms else [])
    x_least, x_most = min(windows) / 2, BEYOND * max(windows)
    highest = max([curve.value(x_most), *(point["dirtied_bytes"] + point["sd_bytes"] for point in points), PAGE_BYTES])
    lowest = min(
        filter(None, [curve.value(x_least), *(point["dirtied_bytes"] for point in points)]), default=PAGE_BYTES
    )
    # Enough of the line of the link to see where the curve comes below it.
    carried = [rate * x_least] if rate else []
    most = 1.5 * max([highest, *carried])
    return Plane(x_most, most, x_least, min(max(PAGE_BYTES, min([lowest, *carried]) / 1.5), most / 20))


def _curve(curve: Curve, plane: Plane) -> str:
    times = [plane.x_least * (plane.x_most / plane.x_least) ** (number / PLACES) for number in range(PLACES + 1)]
    return plane.points((time, curve.value(time)) for time in times)


def _dot(point: Document, plane: Plane) -> Dot:
    value, error = point["dirtied_bytes"], point["sd_bytes"]
    return Dot(plane.x(point["window_s"]), plane.y(value), plane.y(value - error), plane.y(value + error))


def _curve_text(working_set: Document, curve: Curve, rate: float | None, accepted_ms: float | None) -> str:
    told = [f"The guest {working_set.get('sentence') or working_sets.sentence(working_set)}."]
    if rate and accepted_ms:
        time = accepted_ms / 1000
        written, carried = curve.value(time), rate * time
        words = "less than" if written < carried else "more than"
        told.append(
            f"In the accepted {milliseconds(accepted_ms)} it writes {human_bytes(written)}, {words} the"
            f" {human_bytes(carried)} that the link carries."
        )
    return " ".join(told)


def _curve_table(points: t.Sequence[Document], curve: Curve, rate: float | None) -> Table:
    header = ("window", "written", "error", "curve", *(("link carries",) if rate else ()))
    rows = tuple(
        (
            human_seconds(point["window_s"]) if point["window_s"] >= 1 else milliseconds(1000 * point["window_s"]),
            human_bytes(point["dirtied_bytes"]),
            human_bytes(point["sd_bytes"]),
            human_bytes(curve.value(point["window_s"])),
            *((human_bytes(rate * point["window_s"]),) if rate else ()),
        )
        for point in points
    )
    return Table("What the guest writes within a time", header, rows, tuple(range(len(header))))


def rounds_chart(rounds: t.Sequence[Document], forecast: Document | None, accepted_ms: float | None) -> Chart:
    """What was left to send when each round of the last attempt began."""
    all_rounds, rounds = rounds, last_attempt(rounds)
    rate = (forecast or {}).get("bandwidth_bytes_per_s")
    fits = rate * accepted_ms / 1000 if rate and accepted_ms else None
    longest = max(one["at_s"] for one in rounds) * BEYOND or 1.0
    most = 1.1 * max([*(one["remaining_bytes"] for one in rounds), fits or 0, 1])
    plane = Plane(longest, most)
    lines, legend = [], [("round", "left to send when a round began")]
    if fits:
        lines.append(Line("limit", plane.points([(0, fits), (longest, fits)])))
        legend.append(("limit", f"what the link carries in the accepted downtime, {human_bytes(fits)}"))
    last = rounds[-1]
    return Chart(
        title="Rounds" if len(rounds) == len(all_rounds) else "Rounds of the last attempt",
        text=f"Round {last['iteration']} was the last. It began with {human_bytes(last['remaining_bytes'])} left.",
        x_name="seconds since libvirt was called",
        y_name="left to send",
        x_marks=tuple(Mark(plane.x(tick), f"{tick:g}") for tick in time_ticks(longest, 5)),
        y_marks=tuple(Mark(plane.y(tick), human_bytes(tick)) for tick in byte_ticks(most)),
        legend=tuple(legend),
        table=Table(
            "What each round had left to send",
            ("round", "began after", "left", "sent before", "rate"),
            tuple(_round_row(one) for one in rounds),
            (0, 1, 2, 3, 4),
        ),
        lines=tuple(lines),
        bars=_round_bars(rounds, plane),
    )


def last_attempt(rounds: t.Sequence[Document]) -> t.Sequence[Document]:
    """The rounds of the last attempt: with each attempt the time begins anew."""
    first = max(
        (number for number in range(1, len(rounds)) if rounds[number]["at_s"] < rounds[number - 1]["at_s"]), default=0
    )
    return rounds[first:]


def _round_bars(rounds: t.Sequence[Document], plane: Plane) -> tuple[Bar, ...]:
    ends = [one["at_s"] for one in rounds[1:]] + [plane.x_most]
    bars = []
    for one, end in zip(rounds, ends, strict=True):
        x, y = plane.x(one["at_s"]), plane.y(one["remaining_bytes"])
        width = max(1.0, round(plane.x(end) - x - 1, 1))
        bars.append(Bar("round", x, y, width, round(max(0.5, plane.bottom - y), 1)))
    return tuple(bars)


def _round_row(one: Document) -> tuple[str, ...]:
    rate, sent = one.get("bytes_per_s"), one.get("processed_bytes")
    return (
        f"{one['iteration']}",
        human_seconds(one["at_s"]),
        human_bytes(one["remaining_bytes"]),
        "-" if sent is None else human_bytes(sent),
        "-" if not rate else f"{human_bytes(rate)}/s",
    )


def downtime(row: Document) -> Downtime | None:
    """How long a guest stood still, beside the forecast and what was accepted; None where nothing is known."""
    actual, accepted = row.get("downtime_ms"), row.get("max_downtime_ms")
    band = (row.get("forecast") or {}).get("downtime_ms") or {}
    if (row.get("forecast") or {}).get("measured_at") is None:
        # Of a guest that may do anything, no downtime can be told.
        band = {}
    low, high = band.get("low"), band.get("high")
    if actual is None and low is None:
        return None
    most = 1.1 * max(filter(None, (actual, accepted, high, low)), default=1.0)
    told = [] if actual is None else [f"down for {milliseconds(actual)}"]
    if band.get("value") is not None:
        told.append(f"forecast {milliseconds(band['value'])}")
    if accepted is not None:
        told.append(f"accepted {milliseconds(accepted)}")
    kept = row.get("kept_downtime")
    return Downtime(
        text=", ".join(told),
        kept="" if kept is None else "kept" if kept else "NOT KEPT",
        actual=_place(actual, most),
        accepted=_place(accepted, most),
        low=_place(low, most),
        high=_place(high, most),
    )


def _place(value: float | None, most: float) -> float | None:
    return None if value is None else round(100 * min(1.0, value / most), 2)
