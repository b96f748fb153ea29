# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a report as Markdown, for a merge request.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.words import percent
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text, report_table
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.markdown_text import cell, header, row

Document = t.Mapping[str, t.Any]

HEADER = ["guest", "from", "to", "outcome", "time", "sent", "downtime", "accepted", "how"]
ERRORS = ["guest", "time", "sent", "downtime"]
#: Errors of so many guests are listed, the worst first. All are in the report itself.
MOST_ERRORS = 10


def markdown(report: Document) -> str:
    """What somebody who was not there wants to know first: what became of it, and what is to be done."""
    lines = [f"# {cell(report_table.headline(report))}", "", f"Plan `{cell(report['plan'])}`."]
    if report["todo"]:
        lines += ["", "To do:", "", *(f"{number}. {cell(text)}" for number, text in enumerate(report["todo"], 1))]
    if report["guests"]:
        lines += ["", *header(HEADER), *(row(_cells(one)) for one in report["guests"])]
    for stay in report["stays"]:
        why = "; ".join(sentence(refused) for refused in stay["refusals"])
        lines += ["", f"{cell(stay['guest']['name'])} stays on {cell(stay['host'])}: {cell(why)}."]
    lines += [line for text in forecast_text.accuracy(report) for line in ("", cell(text))]
    return "\n".join([*lines, *_errors(report["guests"])]) + "\n"


def _cells(one: Document) -> list[str]:
    accepted = one.get("max_downtime_ms")
    kept = {None: "", True: ", kept", False: ", NOT KEPT"}[one.get("kept_downtime")]
    return [
        one["guest"],
        one["source"],
        one["destination"],
        report_table.OUTCOMES.get(one["outcome"], one["outcome"]),
        "-" if one["total_s"] is None else human_seconds(one["total_s"]),
        "-" if one["bytes"] is None else human_bytes(one["bytes"]),
        "-" if one["downtime_ms"] is None else forecast_text.milliseconds(one["downtime_ms"]),
        "-" if accepted is None else f"{forecast_text.milliseconds(accepted)}{kept}",
        one["strategy"] or "-",
    ]


def _errors(rows: t.Sequence[Document]) -> list[str]:
    judged = [one for one in rows if one.get("errors")]
    judged.sort(key=lambda one: -max(abs(error) for error in (*one["errors"].values(), 0) if error is not None))
    if not judged:
        return []
    figures = ("total_s", "bytes", "downtime_ms")
    told = [
        row([one["guest"], *(percent(one["errors"].get(figure)) for figure in figures)]) for one in judged[:MOST_ERRORS]
    ]
    return [
        "",
        "Errors of the forecasts (forecast over actual value, minus 1), the worst first:",
        "",
        *header(ERRORS),
        *told,
    ]
