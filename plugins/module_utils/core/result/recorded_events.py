# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a report takes from a journal (docs/contracts.md, "Journal"): the events of each step, with the data it shows.

A journal of a long run is megabytes long. What a report does not show (forecasts, statistics, flags) stays on its host.
"""

from __future__ import annotations

import typing as t

#: Of each event, the data that a report shows.
SHOWN: t.Mapping[str, tuple[str, ...]] = {
    "step.started": (),
    "step.waiting": ("incoming", "after"),
    "step.refused": (),
    "migration.started": ("destination", "strategy"),
    "migration.iteration": ("at_s", "iteration", "remaining_bytes", "processed_bytes", "bytes_per_s"),
    "migration.decision": ("action", "reason", "code", "downtime_ms", "speed_mib_s"),
    "migration.switchover": (),
    "migration.completed": (),
    "migration.failed": (),
    "step.verified": ("verdict",),
    "step.finished": (),
    "memory.freeing": ("reason",),
    "memory.freed": ("freed_bytes", "stopped"),
    "hook.started": ("when", "where"),
    "hook.finished": ("when", "where"),
    "hook.failed": ("when", "where"),
}
#: Of so many rounds of a step all are kept; of more, as many that are spread evenly, with the first and the last.
MOST_ROUNDS = 120
#: Of so many other events of a step all are kept; of more, the first ones.
MOST_EVENTS = 200
#: A text is as long as this at most.
MOST_TEXT = 500

Entry = t.Mapping[str, t.Any]
Event = dict[str, t.Any]


def recorded_events(entries: t.Iterable[Entry]) -> dict[str, list[Event]]:
    """The events of each step that a report shows, in order, by the step's id.

    Args:
        entries: lines of a journal, as they were read.
    """
    steps: dict[str, list[Event]] = {}
    for entry in sorted(entries, key=lambda entry: int(entry["seq"])):
        step, event = entry.get("step"), entry.get("event")
        if isinstance(step, str) and event in SHOWN and isinstance(entry.get("at"), str):
            steps.setdefault(step, []).append(_shown(str(event), entry))
    return {step: _fewer(events) for step, events in steps.items()}


def _shown(event: str, entry: Entry) -> Event:
    data = entry.get("data") or {}
    kept = {name: _short(data[name]) for name in SHOWN[event] if data.get(name) is not None}
    return {"at": entry["at"], "event": event, "data": kept}


def _short(value: t.Any) -> t.Any:
    if isinstance(value, (bool, int, float)):
        return value
    return str(value)[:MOST_TEXT]


def _fewer(events: list[Event]) -> list[Event]:
    rounds = [event for event in events if event["event"] == "migration.iteration"]
    others = [event for event in events if event["event"] != "migration.iteration"]
    kept = {id(event) for event in (*_spread(rounds), *others[:MOST_EVENTS], *others[-1:])}
    return [event for event in events if id(event) in kept]


def _spread(rounds: list[Event]) -> list[Event]:
    if len(rounds) <= MOST_ROUNDS:
        return rounds
    last = len(rounds) - 1
    return [rounds[round(number * last / (MOST_ROUNDS - 1))] for number in range(MOST_ROUNDS)]
