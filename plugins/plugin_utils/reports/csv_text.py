# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reports, plans and trends as CSV, for a spreadsheet.

from __future__ import annotations

import csv
import io
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence

Document = t.Mapping[str, t.Any]

#: A spreadsheet takes a text that begins with one of these for a formula, also behind blanks.
FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "|",
    "%",
    "\N{FULLWIDTH EQUALS SIGN}",
    "\N{FULLWIDTH PLUS SIGN}",
    "\N{FULLWIDTH HYPHEN-MINUS}",
    "\N{FULLWIDTH COMMERCIAL AT}",
)

REPORT = (
    *("plan", "guest", "uuid", "source", "destination", "outcome", "strategy", "started_at", "finished_at"),
    *("total_s", "forecast_total_s", "error_total_s", "bytes", "forecast_bytes", "error_bytes"),
    *("downtime_ms", "forecast_downtime_ms", "error_downtime_ms", "max_downtime_ms", "kept_downtime"),
    *("memory_bytes", "reason"),
)
PLAN = (
    *("plan", "step", "guest", "uuid", "source", "destination", "strategy", "memory_bytes", "start_s", "end_s"),
    *("forecast_total_s", "forecast_bytes", "forecast_downtime_ms", "max_downtime_ms", "reason"),
)
_FIGURES = ("total_s", "bytes", "downtime_ms")


def report_csv(report: Document) -> str:
    """One line for each guest that was to move, and for each that stays."""
    rows = [_report_row(report["plan"], row) for row in report["guests"]]
    for stay in report["stays"]:
        why = "; ".join(sentence(refused) for refused in stay["refusals"])
        guest = {"guest": stay["guest"]["name"], "uuid": stay["guest"]["uuid"], "source": stay["host"]}
        rows.append({"plan": report["plan"], **guest, "outcome": "stays", "reason": why})
    return written(REPORT, rows)


def plan_csv(plan: Document) -> str:
    """One line for each step of a plan, and for each guest that stays."""
    times = plan["expected"].get("steps") or {}
    rows: list[Document] = []
    for step in plan["steps"]:
        forecast = {f"forecast_{figure}": _value((step["forecast"] or {}).get(figure)) for figure in _FIGURES}
        guest = {"step": step["id"], "guest": step["guest"]["name"], "uuid": step["guest"]["uuid"]}
        accepted = step["intent"].get("max_downtime_ms")
        rows.append({**step, **guest, **times.get(step["id"], {}), **forecast, "max_downtime_ms": accepted})
    for stay in plan["stays"]:
        why = "; ".join(sentence(refused) for refused in stay["refusals"])
        guest = {"guest": stay["guest"]["name"], "uuid": stay["guest"]["uuid"], "source": stay["host"]}
        rows.append({**guest, "reason": f"stays: {why}"})
    return written(PLAN, [{**row, "plan": plan["id"]} for row in rows])


def written(header: t.Sequence[str], rows: t.Iterable[Document]) -> str:
    """Rows under a header. No text in it is a formula; figures are numbers."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([_cell(row.get(name)) for name in header] for row in rows)
    return text.getvalue()


def _report_row(plan: str, row: Document) -> Document:
    forecast, errors = row.get("forecast") or {}, row.get("errors") or {}
    figures = {f"forecast_{figure}": _value(forecast.get(figure)) for figure in _FIGURES}
    return {**row, **figures, **{f"error_{figure}": errors.get(figure) for figure in _FIGURES}, "plan": plan}


def _value(band: Document | None) -> float | None:
    return band["value"] if band else None


def _cell(value: t.Any) -> str | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return value
    text = clean(value)
    return f"'{text}" if text.startswith(FORMULA) else text
