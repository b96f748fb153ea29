# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the words of a forecast (kvmops.choice/1) in a table.

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds, listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, short

Forecast = t.Mapping[str, t.Any]
Band = t.Mapping[str, t.Any] | None

#: A band that reaches no further than this share of its value is told by the value alone.
NARROW = 0.1
#: A measurement older than this, when the plan was made, is told with its age.
OLD_S = 900
NAMES_TOLD = 8


def milliseconds(value: float) -> str:
    """A downtime.

    >>> milliseconds(84.6), milliseconds(2900)
    ('85 ms', '2.9 s')
    """
    return f"{value:.0f} ms" if value < 1000 else human_seconds(value / 1000)


def band(found: Band, shown: t.Callable[[float], str]) -> str:
    """A band in a cell: the likely value, or from where to where when it is wide; what has no end, from where on.

    >>> band({"value": 12.8, "low": 12.1, "high": 13.9}, human_seconds)
    '13 s'
    >>> band({"value": 12.8, "low": 9.9, "high": 18.1}, human_seconds)
    '9.9-18 s'
    >>> band({"value": 12.8, "low": 9.9, "high": None}, human_seconds), band(None, human_seconds)
    ('9.9 s or more', '-')
    """
    if not found or found["low"] is None:
        return "-"
    value, low, high = found["value"], found["low"], found["high"]
    if value is None or high is None:
        return f"{shown(low)} or more"
    if shown(low) == shown(high) or max(value - low, high - value) <= NARROW * value:
        return shown(value)
    first, second = shown(low), shown(high)
    same_unit = first.count(" ") == 1 and second.count(" ") == 1 and first.split()[1] == second.split()[1]
    return f"{first.split()[0] if same_unit else first}-{second}"


def cells(forecast: Forecast | None) -> list[str]:
    """Of a plan's step: how, time, bytes sent and downtime."""
    if not forecast:
        return ["-", "-", "-", "-"]
    how = forecast["method"] or "-"
    if forecast["total_s"] is None:
        return [how, *figures(forecast)]
    if forecast["measured_at"] is None:
        # Of a guest that may do anything, only the first pass can be told.
        return [f"{how}, not measured", *figures(forecast)[:2], "-"]
    return [how if is_sure(forecast) else f"{how}, not sure", *figures(forecast)]


def is_sure(forecast: Forecast | None) -> bool:
    """Whether a move can be relied on to go as it was forecast."""
    return forecast is not None and forecast["verdict"] == "converges" and forecast["measured_at"] is not None


def figures(forecast: Forecast) -> list[str]:
    """Time, bytes sent and downtime, as forecast."""
    return [
        band(forecast["total_s"], human_seconds),
        band(forecast["bytes"], human_bytes),
        band(forecast["downtime_ms"], milliseconds),
    ]


def why(forecast: Forecast) -> str:
    """Why a guest is moved the way it is, and what comes next if that does not do."""
    sentence = "; ".join([str(forecast["reason"]), *_disks(forecast)])
    if forecast["verdict"] != "converges" and forecast["fallbacks"]:
        sentence += f"; should that fail: {listed(list(forecast['fallbacks']), 2)}"
    return sentence


def check_line(result: t.Mapping[str, t.Any], planned: str | None = None) -> dict[str, t.Any]:
    """What a step's check has found, as a progress line.

    Args:
        planned: the method that the plan tells already, with the reason.
    """
    outcome, forecast = result["outcome"], result.get("forecast")
    line = {"guest": result["guest"]["name"], "destination": result["destination"]}
    if outcome == "would_move":
        return {**line, "phase": "would move", "message": _would(result, forecast, planned)}
    if outcome == "refused":
        return {**line, "phase": "refused", "message": "; ".join(sentence(one) for one in result["refusals"])}
    return {**line, "phase": "done", "message": str(outcome).replace("_", " ")}


def _would(result: t.Mapping[str, t.Any], forecast: Forecast | None, planned: str | None) -> str:
    told = []
    if forecast and forecast["total_s"] is not None:
        seconds, sent, downtime = figures(forecast)
        told = [f"about {seconds}, {sent}, down {downtime}"]
    told += _disks(forecast)
    if planned is not None and result["strategy"] == planned:
        return "; ".join([f"{planned}, as planned", *told])
    return "; ".join([*told, str(result["reason"] or result["strategy"] or "the method is not known")])


def _disks(forecast: Forecast | None) -> list[str]:
    """What the copy of disks adds, in words; nothing where none is copied."""
    disks = (forecast or {}).get("disks")
    if not disks or disks["bytes"] is None:
        return []
    time = "" if disks["seconds"] is None else f" in about {human_seconds(disks['seconds'])}"
    whole = disks.get("whole_bytes")
    if whole is None:
        return [f"its disks are copied first: {human_bytes(disks['bytes'])}{time}"]
    sent = f"{human_bytes(disks['bytes'])}{time}, instead of {human_bytes(whole)}"
    return [f"of its disks only what differs from the copies there is sent: {sent}"]


def notes(plan: t.Mapping[str, t.Any]) -> list[str]:
    """What the forecasts of a plan do not rest on."""
    steps = [step for step in plan["steps"] if step["forecast"]]
    if not steps:
        return []
    return [*_unmeasured(steps), *_old(steps, plan["created_at"]), *_unknown_links(steps)]


def accuracy(report: t.Mapping[str, t.Any]) -> list[str]:
    """How right the forecasts of a report were, and whether the guests' limits were kept, each in a line."""
    found = report.get("accuracy") or {}
    names = (("total_s", "time"), ("bytes", "bytes"), ("downtime_ms", "downtime"))
    told = [
        f"{name} by {_percent(found[figure]['median'])} (at worst {_percent(found[figure]['worst'])})"
        for figure, name in names
        if found.get(figure)
    ]
    lines = [f"Forecasts were off: {', '.join(told)}."] if told else []
    judged = [row for row in report["guests"] if row.get("kept_downtime") is not None]
    over = [short(clean(row["guest"])) for row in judged if not row["kept_downtime"]]
    if over:
        lines.append(f"Down for longer than accepted: {listed(over, NAMES_TOLD)}.")
    elif judged and told:
        lines.append("No guest was down for longer than accepted.")
    return lines


def _unmeasured(steps: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    names = _names(step for step in steps if step["forecast"]["measured_at"] is None)
    if not names:
        return []
    return [
        f"Not measured: {listed(names, NAMES_TOLD)}. Their forecasts use only their size.",
        "  -> measure first: ansible-playbook kvmops.cluster.measure (a drain without --check measures by itself)",
    ]


def _old(steps: t.Sequence[t.Mapping[str, t.Any]], now: str) -> list[str]:
    ages = {short(clean(step["guest"]["name"])): _age_s(step["forecast"]["measured_at"], now) for step in steps}
    old = [f"{name} ({_age(age)} ago)" for name, age in ages.items() if age is not None and age > OLD_S]
    if not old:
        return []
    return [
        f"Measured some time ago: {listed(old, NAMES_TOLD)}. Guests change.",
        "  -> measure again: ansible-playbook kvmops.cluster.measure (a drain without --check measures by itself)",
    ]


def _unknown_links(steps: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    unknown = [step for step in steps if step["forecast"]["bandwidth_bytes_per_s"] is None]
    if not unknown:
        return []
    paths = sorted({f"{clean(step['source'])} to {clean(step['destination'])}" for step in unknown})
    return [
        f"The speed of the path from {listed(paths, NAMES_TOLD)} is not known yet, so there is no forecast for it.",
        "  -> state kvmops_cluster_bandwidth_mib_s in the inventory; the first move over it measures it, too",
    ]


def _names(steps: t.Iterable[t.Mapping[str, t.Any]]) -> list[str]:
    return [short(clean(step["guest"]["name"])) for step in steps]


def _age_s(then: str | None, now: str) -> float | None:
    try:
        first, second = (datetime.datetime.fromisoformat(str(at)) for at in (then, now))
        return (second - first).total_seconds()
    except (ValueError, TypeError):
        return None


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
