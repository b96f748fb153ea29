# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: documents as tables of fixed width, for terminals and logs.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.report import noun
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import (
    human_bytes,
    human_seconds,
    listed,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text, plan_summary
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import (
    clean,
    columns,
    short,
    table,
    wrapped,
)

#: How outcomes (docs/contracts.md, "Step result") are told.
OUTCOMES = {
    "moved": "moved",
    "already_there": "was there already",
    "refused": "refused",
    "failed": "failed",
    "unclear": "UNCLEAR",
    "not_started": "not started",
}


def plan_lines(plan: t.Mapping[str, t.Any]) -> list[str]:
    """A plan for an operator to review: the steps with when, how and why, who stays and what to do, and the whole."""
    steps, stays = plan["steps"], plan["stays"]
    lines = [f"Plan {plan['id']}: {plan_summary.headline(plan)}"]
    lines += ["", *plan_summary.waves(plan)] if plan.get("waves") else []
    if steps:
        lines += ["", *(_forecast_steps(plan) if any(step["forecast"] for step in steps) else _plain_steps(steps))]
    if stays:
        lines += ["", f"{_count(len(stays), 'guest stays', 'guests stay')} where {_are(len(stays))}:"]
        for stay in stays:
            lines.append(f"  {short(clean(stay['guest']['name']))} on {clean(stay['host'])}")
            lines.extend(_refusal_lines(stay["refusals"], "    "))
    if plan.get("off"):
        names = [short(clean(item["guest"]["name"])) for item in plan["off"]]
        lines += ["", f"Shut off, left where {_are(len(names))}: {listed(names, 8)}"]
    notes = [*plan_summary.notes(plan), *forecast_text.notes(plan)]
    return [*lines, "", *notes] if notes else lines


def report_lines(report: t.Mapping[str, t.Any]) -> list[str]:
    """What came of a plan: one row a guest, what was forecast beside it, then what an operator must do now."""
    lines = [_report_summary(report), *_score(report.get("figures") or {})]
    rows = report["guests"]
    if rows:
        lines += ["", *(_forecast_rows(rows) if any(row["forecast"] for row in rows) else _plain_rows(rows))]
        judged = forecast_text.accuracy(report)
        lines += ["", *judged] if judged else []
    if report["todo"]:
        lines += ["", "To do:", *(f"  {number}. {clean(text)}" for number, text in enumerate(report["todo"], 1))]
    return lines


def matrix_lines(paths: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Paths as a matrix, sources down and destinations across; then every failure with its remedy."""
    if not paths:
        return ["No path was checked."]
    by_pair = {(path["source"], path["destination"]): path for path in paths}
    sources = sorted({source for source, _destination in by_pair})
    destinations = sorted({destination for _source, destination in by_pair})
    rows = [
        [source, *(_cell(source, dest, by_pair.get((source, dest))) for dest in destinations)] for source in sources
    ]
    lines = table(["FROM \\ TO", *destinations], rows)
    for (source, destination), path in sorted(by_pair.items()):
        failed = [check for check in path["checks"] if check["ok"] is False]
        refused = [(guest["name"], item) for guest in path.get("guests") or [] for item in guest["refusals"]]
        if failed or refused:
            lines += ["", f"{clean(source)} -> {clean(destination)}"]
        for check in failed:
            lines.extend(_refusal_lines([check], "  ", f"{check['check']}: "))
        for name, item in refused:
            lines.extend(_refusal_lines([item], "  ", f"{short(clean(name))}: "))
    return lines


def _plain_steps(steps: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    header = ["STEP", "GUEST", "MEMORY", "FROM", "TO", "WHY"]
    return table(header, [[*_of_step(step), step["reason"]] for step in steps], right=["MEMORY"])


def _forecast_steps(plan: t.Mapping[str, t.Any]) -> list[str]:
    """Steps with what they will cost; the reasons, which are sentences, below."""
    steps, timings = plan["steps"], plan["expected"].get("steps") or {}
    header = ["STEP", "GUEST", "MEMORY", "FROM", "TO", "START", "END", "TIME", "SENT", "DOWNTIME", "HOW"]
    rows = [
        [*_of_step(step), *_when(timings.get(step["id"])), *_how_last(forecast_text.cells(step["forecast"]))]
        for step in steps
    ]
    lines = table(header, rows, right=["MEMORY", "START", "END", "TIME", "SENT", "DOWNTIME"])
    width = max(columns(short(clean(step["guest"]["name"]))) for step in steps)
    lines += ["", "Why:"]
    for step in steps:
        name = short(clean(step["guest"]["name"]))
        why = "; ".join(filter(None, [step["reason"], step["forecast"] and forecast_text.why(step["forecast"])]))
        first = f"  {name}{' ' * (width - columns(name))}  "
        lines += wrapped(why, first, " " * (width + 4))
    return lines


def _of_step(step: t.Mapping[str, t.Any]) -> list[t.Any]:
    memory = human_bytes(step["memory_bytes"])
    return [step["id"], step["guest"]["name"], memory, step["source"], step["destination"]]


def _when(timing: t.Mapping[str, float] | None) -> list[str]:
    return [plan_summary.clock(timing[end]) for end in ("start_s", "end_s")] if timing else ["-", "-"]


def _how_last(cells: t.Sequence[str]) -> list[str]:
    return [*cells[1:], cells[0]]


def _plain_rows(rows: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    header = ["GUEST", "FROM", "TO", "OUTCOME", "TIME", "SENT", "DOWNTIME", "HOW"]
    told = [[*_of_row(row), *_actual(row), row["strategy"] or "-"] for row in rows]
    return table(header, told, right=["TIME", "SENT", "DOWNTIME"])


def _forecast_rows(rows: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """What came true, each figure with its forecast beside it."""
    header = ["GUEST", "FROM", "TO", "OUTCOME"]
    header += ["TIME", "FORECAST", "SENT", "FORECAST", "DOWNTIME", "FORECAST", "ACCEPTED", "HOW"]
    told = []
    for row in rows:
        expected = forecast_text.figures(row["forecast"]) if row["forecast"] else ["-", "-", "-"]
        pairs = [cell for pair in zip(_actual(row), expected, strict=True) for cell in pair]
        told.append([*_of_row(row), *pairs, _accepted(row), row["strategy"] or "-"])
    return table(header, told, right=["TIME", "FORECAST", "SENT", "DOWNTIME", "ACCEPTED"])


def _of_row(row: t.Mapping[str, t.Any]) -> list[t.Any]:
    return [row["guest"], row["source"], row["destination"], OUTCOMES.get(row["outcome"], row["outcome"])]


def _actual(row: t.Mapping[str, t.Any]) -> list[str]:
    return [
        _or_dash(row["total_s"], human_seconds),
        _or_dash(row["bytes"], human_bytes),
        _or_dash(row["downtime_ms"], forecast_text.milliseconds),
    ]


def _accepted(row: t.Mapping[str, t.Any]) -> str:
    """The longest downtime that was accepted, and whether that was kept."""
    limit, kept = row.get("max_downtime_ms"), row.get("kept_downtime")
    if limit is None:
        return "-"
    return f"{forecast_text.milliseconds(limit)}{'' if kept is None else ' kept' if kept else ' NOT KEPT'}"


def _cell(source: str, destination: str, path: t.Mapping[str, t.Any] | None) -> str:
    if source == destination:
        return "-"
    if path is None:
        return "?"
    failed = next((check["check"] for check in path["checks"] if check["ok"] is False), None)
    if failed:
        return str(failed)
    refused = sum(bool(guest["refusals"]) for guest in path.get("guests") or [])
    return "ok" if not refused else f"not {_count(refused, 'guest', 'guests')}"


def _refusal_lines(refusals: t.Iterable[t.Mapping[str, t.Any]], indent: str, prefix: str = "") -> list[str]:
    lines = []
    for refused in refusals:
        lines.append(f"{indent}{prefix}{clean(refused['reason'])}")
        if refused.get("remedy"):
            lines.append(f"{indent}  -> {clean(refused['remedy'])}")
    return lines


def _report_summary(report: t.Mapping[str, t.Any]) -> str:
    hosts = [clean(host) for host in report["goal"]["hosts"]]
    what = noun(report["goal"]["kind"]).capitalize() + (f" of {listed(hosts)}" if hosts else "")
    moved = sum(row["outcome"] in ("moved", "already_there") for row in report["guests"])
    left = (
        len(report["guests"])
        - moved
        + sum(any(refused["code"] != "excluded" for refused in stay["refusals"]) for stay in report["stays"])
    )
    verdict = "done" if report["ok"] else "NOT done"
    rest = f", {left} not" if left else ""
    return (
        f"{what}: {verdict}, {_count(moved, 'guest', 'guests')} moved{rest}, "
        f"{human_bytes(report['bytes'])} in {human_seconds(report['total_s'])}{_as_expected(report)}"
    )


def _score(figures: t.Mapping[str, t.Any]) -> list[str]:
    """How uneven the cluster was and is, as the hosts say (docs/planning.md, "A rebalance")."""
    before, planned, after = (figures.get(f"score_{when}") for when in ("before", "planned", "after"))
    if before is None or after is None:
        return []
    as_planned = "" if planned is None else f" ({planned:.3f} planned)"
    return [f"Score: {before:.3f} before, {after:.3f} after{as_planned}"]


def _as_expected(report: t.Mapping[str, t.Any]) -> str:
    expected = report.get("expected") or {}
    if expected.get("seconds") is None or expected.get("bytes") is None:
        return ""
    return f" (expected {human_bytes(expected['bytes'])} in {human_seconds(expected['seconds'])})"


def _or_dash(value: t.Any, shown: t.Callable[[t.Any], str]) -> str:
    return "-" if value is None else shown(value)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _are(number: int) -> str:
    return "it is" if number == 1 else "they are"
