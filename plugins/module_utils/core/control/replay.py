# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Feed the control with a journal: what would it do today with the rounds that a migration had then?

A journal holds one line a round and none in between. So what the control does between rounds (a slow link in the first
pass, a dead link) does not show again.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import Reforecast, reforecast_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import (
    OPENING_DOWNTIME_MS,
    Decision,
)

_ENTRY = shape.mapping(
    {},
    {
        "step": shape.or_null(shape.text()),
        "uuid": shape.or_null(shape.text()),
        "event": shape.text(),
        "data": shape.or_null(shape.mapping({}, others=True)),
    },
    others=True,
)
_CHOICE = shape.mapping(
    {
        "method": shape.or_null(shape.text()),
        "settings": shape.mapping({}, {"after_rounds": shape.or_null(shape.whole(0))}, others=True),
        "bandwidth_bytes_per_s": shape.or_null(shape.number(0)),
    },
    others=True,
)
_STARTED = shape.mapping(
    {},
    {
        "intent": shape.or_null(shape.mapping({}, others=True)),
        "forecast": shape.or_null(_CHOICE),
        "flags": shape.or_null(shape.list_of(shape.text())),
        "downtime_ms": shape.or_null(shape.number(0)),
    },
    others=True,
)
_ROUND = shape.mapping(
    dict.fromkeys(("at_s", "iteration", "remaining_bytes", "processed_bytes", "bytes_per_s"), shape.number(0)),
    dict.fromkeys(("delta_pages", "whole_pages"), shape.or_null(shape.number(0))),
    others=True,
)


@dataclasses.dataclass(frozen=True)
class Replayed:
    """One reaction.

    Attributes:
        step: of the plan.
        iteration: the round it came at.
        reaction: what the control wanted.
    """

    step: str
    iteration: int
    reaction: Reaction


def replay(
    lines: t.Iterable[str],
    *,
    intent: t.Mapping[str, t.Any] | None = None,
    working_sets: t.Mapping[str, t.Mapping[str, t.Any]] | None = None,
) -> list[Replayed]:
    """Feed the rounds of a journal's moves through the control.

    Args:
        lines: of C(journal.jsonl), in order. What is no JSON, such as a torn last line, is passed over.
        intent: what was permitted, where the journal does not say it.
        working_sets: by the guest's UUID; without one its move is judged by what the rounds show alone.
    """
    found: list[Replayed] = []
    controls: dict[str, Control] = {}
    for entry in _entries(lines):
        step, event, data = entry.get("step"), entry.get("event"), entry.get("data") or {}
        if not isinstance(step, str):
            continue
        if event == "migration.started" and shape.fits(_STARTED, data):
            try:
                decision = decision_of(data, intent)
            except intents.IntentError:
                continue
            controls[step] = Control(decision, _reforecast(decision, (working_sets or {}).get(entry.get("uuid") or "")))
        elif event == "migration.iteration" and step in controls and shape.fits(_ROUND, data):
            reaction = controls[step].react(_sample(data))
            if reaction:
                found.append(Replayed(step, int(data["iteration"]), reaction))
    return found


def _entries(lines: t.Iterable[str]) -> t.Iterator[dict[str, t.Any]]:
    for line in lines:
        try:
            entry = json_text.parsed(line)
        except json_text.JsonTextError:
            continue
        if shape.fits(_ENTRY, entry):
            yield entry


def decision_of(data: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any] | None = None) -> Decision:
    """The decision that a C(migration.started) line tells of."""
    wanted = intents.normalise(data.get("intent") or intent)
    choice = data.get("forecast")
    settings = choice["settings"] if choice else {}
    name = str(data.get("strategy") or "pre-copy")
    flags = tuple(data.get("flags") or ())
    return Decision(
        name=name,
        reason=str(data.get("reason") or ""),
        flags=flags,
        parameters={},
        downtime_ms=int(data.get("downtime_ms") or OPENING_DOWNTIME_MS),
        downtime_cap_ms=int(wanted["max_downtime_ms"]),
        postcopy="POSTCOPY" in flags,
        suspend=bool(wanted["allow_suspend"]),
        deadline_s=wanted["deadline_s"],
        method=(choice and choice["method"]) or name.split("+", 1)[0],
        after_rounds=settings.get("after_rounds"),
        choice=choice,
    )


def _reforecast(decision: Decision, working_set: t.Mapping[str, t.Any] | None) -> Reforecast | None:
    if working_set is None:
        return None
    rate = decision.choice["bandwidth_bytes_per_s"] if decision.choice else None
    return reforecast_of(working_set, Link(rate) if rate else None, decision)


def _sample(data: t.Mapping[str, t.Any]) -> Sample:
    return Sample(
        at_s=float(data["at_s"]),
        iteration=int(data["iteration"]),
        remaining_bytes=int(data["remaining_bytes"]),
        processed_bytes=int(data["processed_bytes"]),
        bytes_per_s=int(data["bytes_per_s"]),
        delta_pages=int(data.get("delta_pages") or 0),
        whole_pages=int(data.get("whole_pages") or 0),
    )
