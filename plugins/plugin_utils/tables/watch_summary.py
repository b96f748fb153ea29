# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what came of runs that were watched.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.registered_results import why
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean

Result = t.Mapping[str, t.Any]
#: Outcomes after which a guest is where it should be.
_THERE = ("moved", "already_there")
_MOST_NAMES = 10
_AGAIN = "run the playbook that was at work again: it goes on from what is done"


def watch_summary(results: t.Mapping[str, Result]) -> dict[str, t.Any]:
    """What to tell of runs that were watched.

    Args:
        results: of run_watch, by host.

    Returns: C(lines), and C(failure), which is empty if every guest of a run that was watched has moved, or no run was
        at work.
    """
    silent = {host: result for host, result in results.items() if "watched" not in result}
    watched = {host: result for host, result in results.items() if result.get("watched")}
    idle = {host: result for host, result in results.items() if host not in silent and host not in watched}
    lines = [line for host, result in watched.items() for line in _over(host, result)]
    lines += _idle(idle, others=bool(watched))
    lines += [clean(f"{host} is not watched: {why(result)}") for host, result in silent.items()]
    return {"lines": lines, "failure": _failure(results, silent, watched)}


def _failure(results: t.Mapping[str, Result], silent: t.Mapping[str, Result], watched: t.Mapping[str, Result]) -> str:
    if not results or len(silent) == len(results):
        return (
            "No host answers, so nothing is known of any run. Repair that (try: ansible -m ping"
            f" {clean(next(iter(silent), 'HOST'))}), then watch again. What is at work goes on."
        )
    undone = [host for host, result in watched.items() if result["outcomes"] is None or _undone(result["outcomes"])]
    if undone:
        return f"Not every guest that was to leave {_names(undone)} has moved; {_AGAIN}."
    return ""


def _over(host: str, result: Result) -> list[str]:
    """What came of the run of one host."""
    run, outcomes = result["watched"], result["outcomes"]
    begin = f"{host}: {run['plan']} of {run['owner']}"
    if outcomes is None:
        return [
            clean(
                f"{begin} has ended without a result: it was killed on {host}. A guest in flight arrives by itself;"
                f" {_AGAIN}"
            )
        ]
    undone = _undone(outcomes)
    moved = len(outcomes) - len(undone)
    if not undone:
        return [clean(f"{begin} is over: {counted(moved, 'guest', 'guests')} moved.")]
    return [
        clean(f"{begin} is over: {moved} of {counted(len(outcomes), 'guest', 'guests')} moved."),
        *(f"  {clean(one['guest']['name'])} ({clean(one['outcome'])}): {_reason(one)}" for one in undone),
    ]


def _idle(idle: t.Mapping[str, Result], *, others: bool) -> list[str]:
    """What is said of hosts without a run."""
    if not idle:
        return []
    what = "No other run moves guests away from" if others else "No run moves guests away from"
    lines = [f"{what} {_names(list(idle))}."]
    having: dict[str, list[str]] = {}
    for host, result in idle.items():
        lease = result.get("lease")
        if lease:
            having.setdefault(f"{lease['owner']} for run {lease['run']} since {lease['since']}", []).append(host)
    for who, hosts in having.items():
        verb = "is" if len(hosts) == 1 else "are"
        more = "moves may begin later (-e watch_wait_s=600 waits for them)"
        lines.append(clean(f"{_names(hosts)} {verb} taken by {who}: {more}."))
    return lines


def _undone(results: t.Iterable[Result]) -> list[Result]:
    return [one for one in results if one["outcome"] not in _THERE]


def _reason(result: Result) -> str:
    refused = "; ".join(sentence(one) for one in result.get("refusals") or ())
    return clean(refused or result.get("error") or "it was not its turn when the run ended")


def _names(hosts: list[str]) -> str:
    return clean(listed(hosts, _MOST_NAMES))
