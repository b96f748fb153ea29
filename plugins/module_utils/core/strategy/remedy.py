# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What would let a guest be moved that no method can move within the intent: the options, and the bandwidth.

Each option that is offered is enough by itself. Its value has a margin of a tenth, as forecasts have errors.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.available_methods import (
    PERMISSIONS,
    not_permitted,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.intent_check import (
    Outcome,
    breaks,
    exceeds,
    slowdown_pct,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import (
    MIB,
    human_bytes,
    human_milliseconds,
    human_seconds,
)

MARGIN = 1.1
#: Where pre-copy just converges, the hot set is sent many times, so a deadline needs more bandwidth than that.
MARGIN_AT_EDGE = 1.5
#: Where no single option helps.
WHEN_LESS_BUSY = "move it when it is less busy, or permit more of everything: time, downtime and slowdown"

Outcomes = t.Mapping[str, Outcome]


def remedy(forecast: t.Mapping[str, t.Any], intent: Intent, unavailable: t.Mapping[str, str]) -> str:
    """What the operator can do about a guest that nothing moves.

    Args:
        forecast: a document C(kvmops.forecast/1).
        intent: the intent that is not kept.
        unavailable: the methods that cannot be taken, each with the reason; those that were tried are among them.
    """
    if disks_never_copied(forecast):
        return "put its disks on shared storage, or give it a link that is faster than it writes them"
    outcomes = forecast["outcomes"]
    candidates = {name: outcome for name, outcome in outcomes.items() if name not in unavailable}
    options = [
        *_permissions(outcomes, intent, unavailable),
        *_downtime(candidates, intent),
        *_deadline(candidates, intent),
        *_slowdown(candidates, intent),
    ]
    permit = f"permit {' or '.join(options)}" if options else ""
    faster = _faster(forecast, intent) if "pre-copy" in candidates else ""
    return ", or ".join(filter(None, [permit, faster])) or WHEN_LESS_BUSY


def disks_never_copied(forecast: t.Mapping[str, t.Any]) -> bool:
    """Whether the guest writes to its disks faster than the link can mirror them: then no method ends."""
    return bool(forecast["disks"]) and forecast["disks"]["seconds"] is None


def _permissions(outcomes: Outcomes, intent: Intent, unavailable: t.Mapping[str, str]) -> list[str]:
    found = []
    for name, option in PERMISSIONS:
        if (
            unavailable.get(name) == not_permitted(option)
            and name in outcomes
            and breaks(name, outcomes[name], intent) is None
        ):
            seconds, down_ms = outcomes[name]["total_s"]["value"], outcomes[name]["downtime_ms"]["value"]
            found.append(f"{option} (about {human_seconds(seconds)}, down {human_milliseconds(down_ms)})")
    return found


def _downtime(candidates: Outcomes, intent: Intent) -> list[str]:
    """The downtime of what ends, but too late for the intent."""
    needed = []
    for outcome in candidates.values():
        down_ms = outcome["downtime_ms"]["high"] or outcome["downtime_ms"]["value"]
        if down_ms and down_ms > intent["max_downtime_ms"]:
            wanted = int(-(-MARGIN * down_ms // 100) * 100)
            if exceeds(outcome, {**intent, "max_downtime_ms": wanted}) is None:
                needed.append(wanted)
    return [f"max_downtime_ms of at least {min(needed)}"] if needed else []


def _deadline(candidates: Outcomes, intent: Intent) -> list[str]:
    if intent["deadline_s"] is None:
        return []
    longer = {**intent, "deadline_s": None}
    needed = [
        outcome["total_s"]["high"] or outcome["total_s"]["value"]
        for name, outcome in candidates.items()
        if outcome["total_s"]["value"] is not None and breaks(name, outcome, longer) is None
    ]
    return [f"deadline_s of at least {math.ceil(MARGIN * min(needed))}"] if needed else []


def _slowdown(candidates: Outcomes, intent: Intent) -> list[str]:
    if intent["max_slowdown_pct"] is None:
        return []
    slower = {**intent, "max_slowdown_pct": None}
    shares = [slowdown_pct(outcome) for name, outcome in candidates.items() if breaks(name, outcome, slower) is None]
    needed = [math.ceil(MARGIN * share) for share in shares if share is not None]
    return [f"max_slowdown_pct of at least {min(needed)}"] if needed and min(needed) <= 100 else []


def _faster(forecast: t.Mapping[str, t.Any], intent: Intent) -> str:
    """The bandwidth at which plain pre-copy keeps both downtime and deadline, where that is more than there is."""
    have, outcome = forecast["bandwidth_bytes_per_s"], forecast["outcomes"]["pre-copy"]
    needed = forecast["needed_bytes_per_s"] if outcome["verdict"] != "converges" else 0
    if needed is not None and intent["deadline_s"] is not None:
        margin = MARGIN if outcome["total_s"]["high"] is not None else MARGIN_AT_EDGE
        in_time = _in_time(forecast, intent["deadline_s"])
        needed = None if in_time is None else max(margin * needed, margin * in_time)
    if needed is None or needed <= have:
        return ""
    cap = intent["bandwidth_mib_s"]
    if cap is not None and have >= int(cap * MIB):
        return f"raise bandwidth_mib_s to {math.ceil(needed / MIB)}, if the link gives it"
    return f"give it a link of {human_bytes(needed)}/s"


def _in_time(forecast: t.Mapping[str, t.Any], deadline_s: float) -> float | None:
    """The bandwidth at which pre-copy ends just in time; None when no bandwidth would do.

    Where pre-copy does not end at all, the bytes of the method that sends most stand for its own.
    """
    outcomes = [forecast["outcomes"]["pre-copy"], *forecast["outcomes"].values()]
    sent = [(one["bytes"]["value"], one) for one in outcomes if one["bytes"]["value"] is not None]
    if not sent:
        return None
    count, outcome = sent[0] if sent[0][1] is outcomes[0] else max(sent, key=lambda pair: float(pair[0]))
    # What no bandwidth shortens: set-up, and the end of the call.
    fixed_s = max(0.0, outcome["total_s"]["value"] - count / forecast["bandwidth_bytes_per_s"])
    count = outcome["bytes"]["high"] or count
    return float(count / (deadline_s - fixed_s)) if deadline_s > fixed_s else None
