# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a report or a plan as the parts of a page.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import host_change
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.report import goal_words
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import guest_view, host_view
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.parts import Advice, Outcome, Page, Table
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.timeline import now_text, timeline
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.words import percent
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text, plan_summary, report_table

Document = t.Mapping[str, t.Any]

DONE = Outcome("done", "\N{CHECK MARK}", "good")
NOT_DONE = Outcome("NOT done", "\N{MULTIPLICATION X}", "bad")
_PLANNED = Outcome("planned", "\N{RIGHTWARDS ARROW}", "plain")


def report_page(report: Document) -> Page:
    """A report as a page."""
    uris = {host["host"]: host.get("connect_uri") for host in report.get("hosts") or ()}
    rows = report["guests"]
    return Page(
        title=_title(report["goal"]),
        headline=report_table.headline(report),
        verdict=DONE if report["ok"] else NOT_DONE,
        facts=tuple(_facts(report)),
        todo=tuple(report["todo"]),
        again=str(report.get("again") or ""),
        timeline=timeline(report),
        guests=tuple(guest_view.guest(number, row, report["started_at"], uris) for number, row in enumerate(rows, 1)),
        hosts=host_view.hosts(report.get("hosts") or ()),
        stays=_stays(report["stays"]),
        remarks=_remarks(report),
        errors=_errors(rows),
        errors_text=tuple(forecast_text.accuracy(report)),
        copies=tuple(
            f"{copy['path']} on {copy['host']} ({row['guest']})"
            for row in rows
            for copy in row.get("left_copies") or ()
        ),
    )


def plan_page(
    plan: Document, snapshots: t.Mapping[str, Document], working_sets: t.Mapping[str, Document], again: str = ""
) -> Page:
    """A plan as a page: the same, before.

    Args:
        plan: the plan.
        snapshots: of the hosts, as they are.
        working_sets: what was measured, by the guest's UUID.
        again: the command that carries it out.
    """
    rows = [_planned_row(step, working_sets.get(step["guest"]["uuid"])) for step in plan["steps"]]
    as_report = {"guests": rows, "expected": plan["expected"], "started_at": None, "total_s": None}
    changes = host_change.planned_changes(plan["hosts"], snapshots, plan["steps"]) if snapshots else []
    return Page(
        title=f"Plan: {_title(plan['goal'])}",
        headline=plan_summary.headline(plan),
        verdict=_PLANNED,
        facts=(("plan", plan["id"]), ("made at", now_text(plan["created_at"]))),
        todo=tuple(plan_summary.facts(plan)),
        again=again if plan["steps"] else "",
        timeline=timeline(as_report, is_plan=True),
        guests=tuple(guest_view.guest(number, row, None, {}, is_plan=True) for number, row in enumerate(rows, 1)),
        hosts=host_view.hosts(changes, is_plan=True),
        stays=_stays(plan["stays"]),
        remarks=_remarks(plan),
        errors=None,
        errors_text=(),
        is_plan=True,
    )


def _planned_row(step: Document, working_set: Document | None) -> dict[str, t.Any]:
    return {
        "step": step["id"],
        "guest": step["guest"]["name"],
        "uuid": step["guest"]["uuid"],
        "source": step["source"],
        "destination": step["destination"],
        "memory_bytes": step["memory_bytes"],
        "outcome": "planned",
        "total_s": None,
        "bytes": None,
        "downtime_ms": None,
        "strategy": step["strategy"],
        "reason": "; ".join(filter(None, [step["reason"], step["forecast"] and forecast_text.why(step["forecast"])])),
        "forecast": step["forecast"],
        "errors": None,
        "max_downtime_ms": step["intent"].get("max_downtime_ms"),
        "kept_downtime": None,
        "working_set": working_set,
    }


def _title(goal: Document) -> str:
    words = goal_words(goal)
    return words[:1].upper() + words[1:]


def _facts(report: Document) -> t.Iterator[tuple[str, str]]:
    yield "plan", report["plan"]
    yield "from", now_text(report["started_at"])
    yield "to", now_text(report["finished_at"])
    expected = report.get("expected") or {}
    if expected.get("seconds") is not None:
        yield "time", f"{human_seconds(report['total_s'])}, forecast {human_seconds(expected['seconds'])}"
    else:
        yield "time", human_seconds(report["total_s"])
    sent = human_bytes(report["bytes"])
    yield "sent", sent if expected.get("bytes") is None else f"{sent}, forecast {human_bytes(expected['bytes'])}"
    if expected.get("window_s"):
        kept = (report["total_s"] or 0) <= expected["window_s"]
        yield "window", f"{human_seconds(expected['window_s'])}, {'kept' if kept else 'NOT KEPT'}"
    figures = report.get("figures") or {}
    if figures.get("score_before") is not None and figures.get("score_after") is not None:
        yield "score", f"{figures['score_before']:.3f} before, {figures['score_after']:.3f} after"


def _stays(stays: t.Iterable[Document]) -> tuple[tuple[str, tuple[Advice, ...]], ...]:
    return tuple(
        (
            f"{stay['guest']['name']} on {stay['host']}",
            tuple(Advice(why["reason"], why["remedy"] or "") for why in stay["refusals"]),
        )
        for stay in stays
    )


def _remarks(document: Document) -> tuple[Advice, ...]:
    return tuple(Advice(one["reason"], one.get("remedy") or "") for one in document.get("remarks") or ())


def _errors(rows: t.Sequence[Document]) -> Table | None:
    """The forecasts beside what came true, the worst first."""
    judged = [row for row in rows if row.get("errors")]
    if not judged:
        return None
    judged.sort(key=lambda row: -max(abs(error) for error in (*row["errors"].values(), 0) if error is not None))
    return Table(
        caption="Errors of the forecasts: forecast over actual value, minus 1",
        header=("guest", "method", "time", "sent", "downtime"),
        rows=tuple(
            (
                row["guest"],
                str(row["strategy"] or "-"),
                *(percent(row["errors"].get(figure)) for figure in ("total_s", "bytes", "downtime_ms")),
            )
            for row in judged
        ),
        figures=(2, 3, 4),
    )
