# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a plan as a table.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text, plan_summary
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted, it_is, refusal_lines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import (
    clean,
    columns,
    short,
    table,
    wrapped,
)


def plan_lines(plan: t.Mapping[str, t.Any]) -> list[str]:
    """Return a plan for review: steps with time, method and reason, the guests that stay, and the whole."""
    steps, stays = plan["steps"], plan["stays"]
    lines = [f"Plan {plan['id']}: {plan_summary.headline(plan)}"]
    lines += ["", *plan_summary.waves(plan)] if plan.get("waves") else []
    if steps:
        lines += ["", *(_forecast_steps(plan) if any(step["forecast"] for step in steps) else _plain_steps(steps))]
    if stays:
        lines += ["", f"{counted(len(stays), 'guest stays', 'guests stay')} where {it_is(len(stays))}:"]
        for stay in stays:
            lines.append(f"  {short(clean(stay['guest']['name']))} on {clean(stay['host'])}")
            lines.extend(refusal_lines(stay["refusals"], "    "))
    if plan.get("off"):
        names = [short(clean(item["guest"]["name"])) for item in plan["off"]]
        lines += ["", f"Shut off, left where {it_is(len(names))}: {listed(names, 8)}"]
    notes = [*plan_summary.notes(plan), *forecast_text.notes(plan)]
    return [*lines, "", *notes] if notes else lines


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
