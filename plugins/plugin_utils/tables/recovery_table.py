# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what became of moves that broke off, as lines.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.recovery import leaves_nothing_to_do
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, short, wrapped

WORDS = {
    "moved": "resumed, and whole",
    "goes_on": "goes on where it was",
    "closed": "put right",
    "would_resume": "would be resumed",
    "would_go_on": "would go on where it is",
    "would_close": "would be put right",
    "left_to": "left to its source",
    "under_way": "under way",
    "lost": "LOST",
    "unclear": "UNCLEAR",
    "refused": "refused",
    "not_started": "not started",
}

Results = t.Mapping[str, t.Mapping[str, t.Any]]


def recovery_lines(results: Results, absent: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """What became of each guest, a few lines each.

    Args:
        results: what C(migration_recover) returned on each host.
        absent: hosts that were not asked, each with C(host) and C(reason).
    """
    rows, changed_back, failed = _rows(results), _changed_back(results), _failed(results)
    lines = [f"{counted(len(rows), 'move', 'moves')} that broke off" if rows else "No move is broken off."]
    for row in rows:
        lines += _guest(row)
    for host, words in changed_back:
        lines += wrapped(f"{clean(host)}: {clean(words)}", "  ", "    ")
    for host, reason in failed:
        lines += wrapped(f"{clean(host)} was not looked through: {clean(reason)}", "  ", "    ")
    for one in absent:
        lines += wrapped(f"{clean(one['host'])} does not answer: {clean(one['reason'])}", "  ", "    ")
    return lines


def undone(results: Results, absent: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Names of the guests that need a person, and of the hosts that could not be looked through."""
    guests = [str(row["guest"]["name"]) for row in _rows(results) if not leaves_nothing_to_do(row)]
    hosts = [host for host, dummy in _failed(results)] + [str(one["host"]) for one in absent]
    return [clean(name) for name in [*guests, *hosts]]


def _guest(row: t.Mapping[str, t.Any]) -> list[str]:
    source, destination = row["source"] or "?", row["destination"] or "?"
    word = WORDS.get(row["outcome"], row["outcome"])
    lines = [f"  {short(clean(row['guest']['name']))}  {clean(source)} -> {clean(destination)}  {clean(word)}"]
    lines += wrapped(clean(row["reason"]), "      ", "      ")
    if row["remedy"]:
        lines += wrapped(f"-> {clean(row['remedy'])}", "      ", "         ")
    return lines


def _rows(results: Results) -> list[t.Mapping[str, t.Any]]:
    """A row for each guest, by name. What its source says counts more than what its destination leaves to it."""
    told: dict[str, t.Mapping[str, t.Any]] = {}
    for dummy, result in sorted(results.items()):
        for row in result.get("guests") or ():
            uuid = row["guest"]["uuid"]
            if uuid not in told or _weight(row) < _weight(told[uuid]):
                told[uuid] = row
    return sorted(told.values(), key=lambda row: str(row["guest"]["name"]))


def _weight(row: t.Mapping[str, t.Any]) -> int:
    """The less, the more a host knows of a guest."""
    return {"unclear": 1, "left_to": 2}.get(row["outcome"], 0)


def _changed_back(results: Results) -> list[tuple[str, str]]:
    return [(host, words) for host, result in sorted(results.items()) for words in result.get("changed_back") or ()]


def _failed(results: Results) -> list[tuple[str, str]]:
    """The hosts that could not be looked through, or where another run is at work."""
    return [
        (host, str(result.get("msg") or "no reason was given").replace("Task failed: ", ""))
        for host, result in sorted(results.items())
        if "guests" not in result and not result.get("skipped") and result
    ]
