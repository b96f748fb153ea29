# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: how guests get to the far end, as a table.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import (
    human_bytes,
    human_milliseconds,
    human_seconds,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.forecast_text import band
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, short, table, wrapped

HEADER = ["GUEST", "FROM", "TO", "OF USE AFTER", "DOWNTIME", "SENT", "FILLED AFTER", "HOW"]
RIGHT = ["OF USE AFTER", "DOWNTIME", "SENT", "FILLED AFTER"]
#: In the order in which a part of a guest is looked for.
AVOIDED = {
    "zero": "zeros",
    "balloon": "memory that it does not use",
    "base": "in the base",
    "previous": "as in an earlier capsule",
    "hash": "in other images there",
    "compression": "by compression",
}

Choice = t.Mapping[str, t.Any]


def capsule_lines(choices: t.Sequence[Choice]) -> list[str]:
    """The choices, one row a guest; below it why, what is not sent, and who cannot get there."""
    if not choices:
        return ["There is no guest to choose for."]
    rows = sorted(choices, key=lambda one: str(one["guest"]["name"]))
    lines = table(HEADER, map(_cells, rows), right=RIGHT)
    for one in rows:
        lines += ["", *(_why(one) if one["mode"] else _why_not(one))]
    return lines


def _cells(one: Choice) -> list[str]:
    ends = [one["guest"]["name"], one.get("source") or "-", one.get("destination") or "-"]
    if not one["mode"]:
        return [*ends, "-", "-", "-", "-", "not possible"]
    figures = one["modes"][one["mode"]]
    return [
        *ends,
        band(figures["useful_s"], human_seconds),
        band(figures["downtime_s"], _stands_still),
        band(figures["bytes"], human_bytes),
        band(figures["fill_s"], human_seconds) if figures["fill_s"]["value"] else "-",
        how(one),
    ]


def _stands_still(seconds: float) -> str:
    return human_milliseconds(1000 * seconds)


def how(one: Choice) -> str:
    """The mode with what is special about it.

    >>> how({"mode": "suspended", "modes": {"suspended": {"settings": {"seeds": 2, "balloon": True, "lazy": False}}}})
    'suspended, seeded 2 times, balloon'
    """
    settings = one["modes"][one["mode"]]["settings"] or {}
    words = [one["mode"]]
    if settings.get("method"):
        words.append(settings["method"])
    if settings.get("seeds"):
        words.append(f"seeded {counted(settings['seeds'], 'time', 'times')}")
    words += [word for word in ("lazy", "balloon") if settings.get(word)]
    return ", ".join(words)


def _why(one: Choice) -> list[str]:
    name = short(clean(one["guest"]["name"]))
    lines = wrapped(f"{name}: {one['reason']}", "", "  ")
    avoided = one["modes"][one["mode"]]["avoided_by"] or {}
    told = [f"{human_bytes(avoided[key])} {what}" for key, what in AVOIDED.items() if avoided.get(key)]
    if told:
        lines += wrapped(f"not sent: {', '.join(told)}", "  ", "    ")
    return lines


def _why_not(one: Choice) -> list[str]:
    refused = one["refusal"]
    lines = wrapped(str(refused["reason"]), "", "  ")
    return lines + (wrapped(str(refused["remedy"]), "  -> ", "     ") if refused["remedy"] else [])
