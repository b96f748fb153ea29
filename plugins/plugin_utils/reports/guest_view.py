# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: all about one guest of a report or of a plan.

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds, listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import guest_charts
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.parts import Advice, Chart, Guest
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.timeline import SHORT, clock
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.words import (
    outcome_of,
    percent,
    seconds_since_start,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.forecast_text import milliseconds

Row = t.Mapping[str, t.Any]
#: Outcomes after which somebody must look at both hosts.
UNCERTAIN = ("unclear", "lost", "off")


def guest(number: int, row: Row, start: str | None, uris: t.Mapping[str, str | None], is_plan: bool = False) -> Guest:
    """All about a guest.

    Args:
        number: of the guest in the page.
        row: of the report.
        start: when the run began.
        uris: how libvirt of each host is reached.
        is_plan: the guest has not been moved.
    """
    forecast = row.get("forecast")
    charts, missing = _charts(row, is_plan)
    return Guest(
        number=number,
        name=row["guest"],
        uuid=row["uuid"],
        route=f"{row['source']} \N{RIGHTWARDS ARROW} {row['destination']}",
        outcome=outcome_of(row["outcome"], kept=row.get("kept_downtime")),
        summary=_planned_summary(forecast) if is_plan else _summary(row),
        facts=tuple(_facts(row)),
        why=str(row.get("reason") or "") if is_plan else _why(row, forecast),
        why_not=tuple(sorted((forecast or {}).get("why_not", {}).items())),
        happened=tuple(_happened(row, start)),
        downtime=guest_charts.downtime(row),
        charts=charts,
        missing=missing,
        troubles=tuple(_troubles(row, uris)),
        notes=(*(row.get("notes") or ()), *(f"put right: {done}" for done in row.get("corrected") or ())),
    )


def _summary(row: Row) -> str:
    told = []
    if row["total_s"] is not None:
        told.append(human_seconds(row["total_s"]))
    if row["bytes"] is not None:
        told.append(human_bytes(row["bytes"]))
    if row["downtime_ms"] is not None:
        told.append(f"down {milliseconds(row['downtime_ms'])}")
    return ", ".join(told)


def _planned_summary(forecast: Row | None) -> str:
    if not forecast or forecast["total_s"] is None:
        return "no forecast"
    dummy, seconds, sent, down = forecast_text.cells(forecast)
    # Of a guest that was not measured nobody knows the downtime.
    return f"about {seconds}, {sent}" + ("" if down == "-" else f", down {down}")


def _facts(row: Row) -> t.Iterator[tuple[str, str]]:
    """Figures, each with its forecast and the error of that beside it."""
    forecast, errors = row.get("forecast") or {}, row.get("errors") or {}
    if row.get("strategy"):
        yield "method", str(row["strategy"])
    if row.get("memory_bytes"):
        yield "memory", human_bytes(row["memory_bytes"])
    for name, figure, shown in _FIGURES:
        actual, band = row.get(figure), forecast.get(figure)
        if figure == "downtime_ms" and forecast.get("measured_at") is None:
            band = None
        told = [] if actual is None else [shown(actual)]
        if band and band.get("low") is not None:
            told.append(f"forecast {forecast_text.band(band, shown)}")
        if errors.get(figure) is not None:
            told.append(f"off by {percent(errors[figure])}")
        if told:
            yield name, ", ".join(told)
    rounds = forecast.get("rounds") or {}
    if rounds.get("value") is not None:
        yield "rounds forecast", f"{rounds['value']}"
    if forecast.get("bandwidth_bytes_per_s"):
        yield "link", f"{human_bytes(forecast['bandwidth_bytes_per_s'])}/s"
    if row.get("disk_bytes"):
        yield "sent of disks", human_bytes(row["disk_bytes"])
    for disk in row.get("disks") or ():
        yield f"disk {disk['target']}", str(disk["full_because"] or disk["mode"])


_FIGURES: tuple[tuple[str, str, t.Callable[[float], str]], ...] = (
    ("time", "total_s", human_seconds),
    ("sent", "bytes", human_bytes),
    ("downtime", "downtime_ms", milliseconds),
)


def _why(row: Row, forecast: Row | None) -> str:
    told = [str(row["reason"] or "")]
    if forecast and forecast.get("reason") and not row["reason"]:
        told = [str(forecast["reason"])]
    if forecast and forecast.get("fallbacks"):
        told.append(f"should that fail: {listed(list(forecast['fallbacks']), 2)}")
    return "; ".join(filter(None, told))


def _happened(row: Row, start: str | None) -> t.Iterator[tuple[str, str]]:
    """Phases and decisions, in the order of time."""
    found: list[tuple[float, str]] = []
    for phase in row.get("phases") or ():
        at = seconds_since_start(phase["start_at"], start)
        if at is not None:
            found.append((at, f"{SHORT.get(phase['phase'], phase['phase'])} begins"))
    for wait in row.get("waits") or ():
        at = seconds_since_start(wait["at"], start)
        if at is not None:
            found.append((at, _waiting(row, wait)))
    for decision in row.get("decisions") or ():
        at = seconds_since_start(decision["at"], start)
        if at is not None:
            found.append((at, f"{decision['action'].replace('_', ' ')}: {decision['reason']}"))
    for at, words in sorted(found, key=lambda item: item[0]):
        yield clock(round(at, 1)), words


def _waiting(row: Row, wait: Row) -> str:
    if wait.get("incoming"):
        return f"waits: {row['destination']} takes in others ({wait['incoming']})"
    if wait.get("after"):
        return f"waits for step {wait['after']}, which makes room"
    return "others go first while its hooks run"


def _charts(row: Row, is_plan: bool) -> tuple[tuple[Chart, ...], tuple[str, ...]]:
    """The drawings, and a sentence for each that cannot be made."""
    charts, missing = [], []
    accepted, forecast = row.get("max_downtime_ms"), row.get("forecast")
    working_set = row.get("working_set")
    if working_set and working_set["points"]:
        charts.append(guest_charts.curve_chart(working_set, forecast, accepted))
    else:
        missing.append("How it writes its memory was not measured for this run.")
    if row.get("rounds"):
        charts.append(guest_charts.rounds_chart(row["rounds"], forecast, accepted))
    elif not is_plan:
        missing.append("No rounds are recorded: its memory was sent in one pass, or its host gave no record.")
    return tuple(charts), tuple(missing)


def _troubles(row: Row, uris: t.Mapping[str, str | None]) -> t.Iterator[Advice]:
    if row.get("error"):
        commands = _look_at(row, uris) if row["outcome"] in UNCERTAIN else ()
        yield Advice(str(row["error"]), "", commands)
    for refused in (*(row.get("refusals") or ()), *(row.get("faults") or ())):
        yield Advice(refused["reason"], refused["remedy"] or "")


def _look_at(row: Row, uris: t.Mapping[str, str | None]) -> tuple[str, ...]:
    """What shows where a guest is, on both hosts."""
    reached = [uris.get(host) for host in (row["source"], row["destination"])]
    return tuple(
        f"virsh -r -c {shlex.quote(uri)} domstate --reason {shlex.quote(row['uuid'])}" for uri in reached if uri
    )
