# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: documents as tables of fixed width, for terminals and logs.

from __future__ import annotations

import typing as t
import unicodedata

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import (
    human_bytes,
    human_seconds,
    listed,
)

#: No name takes more columns than this, so that a table with one monstrous name stays readable.
MOST_NAME_COLUMNS = 40
#: How outcomes (docs/contracts.md, "Step result") are told.
OUTCOMES = {
    "moved": "moved",
    "already_there": "was there already",
    "refused": "refused",
    "failed": "failed",
    "unclear": "UNCLEAR",
    "not_started": "not started",
}


def columns(text: str) -> int:
    """How many columns a terminal needs for a text: wide characters take two, combining ones none."""
    return sum(_columns_of(char) for char in text)


def clean(text: t.Any) -> str:
    """A text on one line, without what would move a terminal's cursor."""
    one_line = " ".join(str(text).split())
    return "".join(
        char if unicodedata.category(char) not in ("Cc", "Cf", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for char in one_line
    )


def short(text: str, most: int = MOST_NAME_COLUMNS) -> str:
    """A name in so many columns: what does not fit is cut out of the middle, as names differ at their ends.

    >>> short("prod-eu-west-1-database-primary-0001", 20)
    'prod-eu-west…ry-0001'
    """
    if columns(text) <= most:
        return text
    tail = _taken(reversed(text), (most - 1) * 2 // 5)[::-1]
    head = _taken(iter(text), most - 1 - columns(tail))
    return f"{head}\N{HORIZONTAL ELLIPSIS}{tail}"


def table(header: t.Sequence[str], rows: t.Iterable[t.Sequence[t.Any]], right: t.Collection[str] = ()) -> list[str]:
    """Lines of a table; columns named in ``right`` are aligned to the right. The last column is never cut."""
    cells = [
        [clean(cell) if number == len(row) - 1 else short(clean(cell)) for number, cell in enumerate(row)]
        for row in ([*header], *map(list, rows))
    ]
    widths = [max(columns(row[number]) for row in cells) for number in range(len(header))]
    return [
        "  ".join(_padded(cell, widths[number], header[number] in right) for number, cell in enumerate(row)).rstrip()
        for row in cells
    ]


def plan_lines(plan: t.Mapping[str, t.Any]) -> list[str]:
    """A plan for an operator to review: the steps with their reasons, then who stays and what to do about it."""
    steps, stays = plan["steps"], plan["stays"]
    lines = [f"Plan {plan['id']}: {_plan_summary(plan)}"]
    if steps:
        rows = [
            [s["id"], s["guest"]["name"], human_bytes(s["memory_bytes"]), s["source"], s["destination"], s["reason"]]
            for s in steps
        ]
        lines += ["", *table(["STEP", "GUEST", "MEMORY", "FROM", "TO", "WHY"], rows, right=["MEMORY"])]
    if stays:
        lines += ["", f"{_count(len(stays), 'guest stays', 'guests stay')} where {_are(len(stays))}:"]
        for stay in stays:
            lines.append(f"  {short(clean(stay['guest']['name']))} on {clean(stay['host'])}")
            lines.extend(_refusal_lines(stay["refusals"], "    "))
    if plan.get("off"):
        names = [short(clean(item["guest"]["name"])) for item in plan["off"]]
        lines += ["", f"Shut off, left where {_are(len(names))}: {listed(names, 8)}"]
    return lines


def report_lines(report: t.Mapping[str, t.Any]) -> list[str]:
    """What came of a plan: one row a guest, then what an operator must do now."""
    lines = [_report_summary(report)]
    if report["guests"]:
        rows = [
            [
                row["guest"],
                row["source"],
                row["destination"],
                OUTCOMES.get(row["outcome"], row["outcome"]),
                _or_dash(row["total_s"], human_seconds),
                _or_dash(row["bytes"], human_bytes),
                _or_dash(row["downtime_ms"], lambda downtime: f"{downtime:.0f} ms"),
                row["strategy"] or "-",
            ]
            for row in report["guests"]
        ]
        header = ["GUEST", "FROM", "TO", "OUTCOME", "TIME", "SENT", "DOWNTIME", "HOW"]
        lines += ["", *table(header, rows, right=["TIME", "SENT", "DOWNTIME"])]
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


def _plan_summary(plan: t.Mapping[str, t.Any]) -> str:
    kind, hosts = plan["goal"]["kind"], listed([clean(host) for host in plan["goal"]["hosts"]])
    verb = "come home to" if kind == "restore" else "leave"
    if not plan["steps"]:
        return f"no guest has to {verb} {hosts}" if not plan["stays"] else f"no guest can {verb} {hosts}"
    if len(plan["steps"]) == 1:
        verb = "comes home to" if kind == "restore" else "leaves"
    memory = human_bytes(sum(step["memory_bytes"] for step in plan["steps"]))
    return f"{_count(len(plan['steps']), 'guest', 'guests')} ({memory}) {verb} {hosts}"


def _report_summary(report: t.Mapping[str, t.Any]) -> str:
    what = f"{report['goal']['kind'].capitalize()} of {listed([clean(host) for host in report['goal']['hosts']])}"
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
        f"{human_bytes(report['bytes'])} in {human_seconds(report['total_s'])}"
    )


def _or_dash(value: t.Any, shown: t.Callable[[t.Any], str]) -> str:
    return "-" if value is None else shown(value)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _are(number: int) -> str:
    return "it is" if number == 1 else "they are"


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - columns(text))
    return space + text if right else text + space


def _taken(chars: t.Iterable[str], most: int) -> str:
    taken, used = [], 0
    for char in chars:
        used += _columns_of(char)
        if used > most:
            break
        taken.append(char)
    return "".join(taken)


def _columns_of(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
