# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a report as a table.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.report import noun
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds, listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, table, wrapped

#: How outcomes (docs/contracts.md, "Step result") are told.
OUTCOMES = {
    "moved": "moved",
    "already_there": "was there already",
    "refused": "refused",
    "failed": "failed",
    "off": "IS OFF",
    "lost": "LOST",
    "unclear": "UNCLEAR",
    "not_started": "not started",
}


def report_lines(report: t.Mapping[str, t.Any]) -> list[str]:
    """Return the results of a plan: one row for each guest, with its forecast, then what an operator must do now."""
    lines = [headline(report), *_score(report.get("figures") or {})]
    rows = report["guests"]
    if rows:
        lines += ["", *(_forecast_rows(rows) if any(row["forecast"] for row in rows) else _plain_rows(rows))]
        judged = forecast_text.accuracy(report)
        lines += ["", *judged] if judged else []
    lines += _notes(rows)
    lines += _left_copies(rows)
    if report["todo"]:
        lines += ["", "To do:", *(f"  {number}. {clean(text)}" for number, text in enumerate(report["todo"], 1))]
    return lines


def _notes(rows: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """What is worth knowing of a move, and needs nothing to be done."""
    told = [f"{row['guest']}: {note}" for row in rows for note in row.get("notes") or ()]
    return ["", *(line for text in told for line in wrapped(text, "Note: ", "  "))] if told else []


def _left_copies(rows: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """The images that guests have left on the hosts that they came from."""
    told = [
        f"  {clean(copy['path'])} on {clean(copy['host'])} ({clean(row['guest'])}, "
        f"{_or_dash(copy['allocated_bytes'], human_bytes)})"
        for row in rows
        for copy in row.get("left_copies") or ()
    ]
    if not told:
        return []
    return [
        "",
        "Old copies of disks stay as the copies to come home to:",
        *told,
        "  -> see all of them, and remove those that nobody needs: ansible-playbook kvmops.cluster.disk_copies",
    ]


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


def headline(report: t.Mapping[str, t.Any]) -> str:
    """The whole report in one line."""
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
        f"{what}: {verdict}, {counted(moved, 'guest', 'guests')} moved{rest}, "
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
