# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a move went through: its phases, its rounds, and what was decided while it was under way.

It is told by the recorded events of its step (recorded_events.py), with the clock of the source host.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape

#: The phase that begins with an event, and that lasts until the next one of these.
PHASE_OF = {
    "step.started": "prepare",
    "step.waiting": "wait",
    "hook.started": "hook",
    "hook.finished": "prepare",
    "hook.failed": "prepare",
    "memory.freeing": "free_memory",
    "memory.freed": "prepare",
    "migration.started": "pre-copy",
    "migration.switchover": "verify",
    "migration.completed": "verify",
    "migration.failed": "verify",
    "step.verified": "finish",
    "step.finished": "",
    "step.refused": "",
}
#: Actions of the control (docs/contracts.md, "Journal") that begin a phase.
PHASE_OF_ACTION = {"start_postcopy": "post-copy", "suspend": "suspend", "start_anew": "prepare", "delta": "disks"}
#: Phases in which a guest is sent.
SENDING = ("disks", "pre-copy", "post-copy", "suspend")
#: Actions that are no decisions: what was found, and how far something is.
NO_DECISIONS = ("accept", "reject", "delta")

_NUMBER = shape.number(0)
_ROUND = shape.mapping(
    {"at_s": _NUMBER, "iteration": _NUMBER, "remaining_bytes": _NUMBER},
    {"processed_bytes": _NUMBER, "bytes_per_s": _NUMBER},
    others=True,
)
#: What a source host returns of a step (run_info).
EVENTS = shape.list_of(
    shape.mapping({"at": shape.text(), "event": shape.text(), "data": shape.mapping({}, others=True)}, others=True)
)

Event = t.Mapping[str, t.Any]


def record_of(events: t.Sequence[Event]) -> dict[str, t.Any]:
    """C(phases), C(rounds), C(decisions) and C(waits) of one step, for its row in the report.

    Args:
        events: of the step, in order.
    """
    return {
        "phases": phases(events),
        "rounds": [_round(event["data"]) for event in events if _is_round(event)],
        "decisions": [_decision(event) for event in events if _is_decision(event)],
        "waits": [{"at": event["at"], **event["data"]} for event in events if event["event"] == "step.waiting"],
    }


NO_RECORD: t.Mapping[str, t.Any] = {"phases": [], "rounds": [], "decisions": [], "waits": []}


def phases(events: t.Iterable[Event]) -> list[dict[str, t.Any]]:
    """The phases of a step one after the other, each with its name, beginning and end.

    The last one has no end if the record has none.

    >>> begun = {"at": "T1", "event": "step.started", "data": {}}
    >>> phases([begun, {"at": "T2", "event": "migration.started", "data": {}}])
    [{'phase': 'prepare', 'start_at': 'T1', 'end_at': 'T2'}, {'phase': 'pre-copy', 'start_at': 'T2', 'end_at': None}]
    """
    found: list[dict[str, t.Any]] = []
    for event in events:
        phase = _begun_by(event, found[-1]["phase"] if found else "")
        if phase is None or (found and found[-1]["phase"] == phase and found[-1]["end_at"] is None):
            continue
        if found and found[-1]["end_at"] is None:
            found[-1]["end_at"] = event["at"]
        if phase:
            found.append({"phase": phase, "start_at": event["at"], "end_at": None})
    return found


def _begun_by(event: Event, now: str) -> str | None:
    """The phase that an event begins; empty for none, None if it begins nothing."""
    if event["event"] == "migration.decision":
        return PHASE_OF_ACTION.get(str(event["data"].get("action")))
    # After the switchover to post-copy the guest runs there already, and its memory is still sent.
    if event["event"] == "migration.switchover" and now in ("post-copy", "suspend"):
        return None
    return PHASE_OF.get(event["event"])


def _is_round(event: Event) -> bool:
    return event["event"] == "migration.iteration" and shape.fits(_ROUND, event["data"])


def _round(data: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    names = ("at_s", "iteration", "remaining_bytes", "processed_bytes", "bytes_per_s")
    return {name: data.get(name) for name in names}


def _is_decision(event: Event) -> bool:
    data = event["data"]
    is_one = bool(data.get("reason") and data.get("action")) and data["action"] not in NO_DECISIONS
    return event["event"] == "migration.decision" and is_one


def _decision(event: Event) -> dict[str, t.Any]:
    return {"at": event["at"], "action": str(event["data"]["action"]), "reason": str(event["data"]["reason"])}
