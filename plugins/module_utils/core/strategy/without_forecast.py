# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The choice where methods cannot be compared: nobody knows the link, or what the guest dirties.

The move begins with pre-copy, and the control decides in flight.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import (
    CHOICE,
    FIGURES,
    OPENING_LIMIT_MS,
    Choice,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.remedy import MARGIN

UNKNOWN_LINK = "the speed of this path is not known yet; this move measures it"
UNMEASURED = "it was not measured, so its dirty rate shows only while it moves"


def unmeasured_choice(
    forecast_: t.Mapping[str, t.Any], ruled_out: t.Mapping[str, str], intent: Intent, *, knows_link: bool
) -> Choice:
    """The choice for a guest of which nobody knows what it dirties: only the least that its move takes is forecast.

    Args:
        forecast_: a document C(kvmops.forecast/1).
        ruled_out: methods that cannot be taken, with the reason.
        intent: a complete intent.
        knows_link: whether the bandwidth is known, and not only a cap on it. Only then may the move be refused.
    """
    chosen = start_with_precopy(UNMEASURED, ruled_out, intent)
    # Where pre-copy may never end, the least is one pass and a stop.
    outcomes = [forecast_["outcomes"][name] for name in ("pre-copy", "suspend")]
    least = {}
    for name in FIGURES:
        lows = [outcome[name]["low"] for outcome in outcomes if outcome[name]["low"] is not None]
        least[name] = {"value": None, "low": min(lows, default=None), "high": None}
    chosen.update(least)  # type: ignore[typeddict-item]
    chosen["bandwidth_bytes_per_s"] = forecast_["bandwidth_bytes_per_s"]
    down_ms, cap_ms = least["downtime_ms"]["low"], int(intent["max_downtime_ms"])
    if down_ms is None or down_ms <= cap_ms or not knows_link or "suspend" not in ruled_out:
        return chosen
    reason = f"no method keeps the intent: over this link every guest is down for {down_ms} ms or more"
    enough = math.ceil(MARGIN * down_ms / 10) * 10
    refused = refusal(
        "cannot_keep_intent",
        f"{reason}, and {cap_ms} ms are accepted",
        f"permit max_downtime_ms of at least {enough} or allow_suspend, or give it a faster link",
    )
    return {
        **chosen,
        "method": None,
        "verdict": "never",
        "reason": reason,
        "settings": {},
        "fallbacks": [],
        "refusal": refused,
    }


def start_with_precopy(why: str, ruled_out: t.Mapping[str, str], intent: Intent) -> Choice:
    """Begin with the simplest method.

    Args:
        why: the reason, as the end of a sentence.
        ruled_out: methods that cannot be taken, with the reason.
        intent: a complete intent.
    """
    return {
        "schema": CHOICE,
        "method": "pre-copy",
        "verdict": "marginal",
        "reason": f"pre-copy: {why}",
        "why_not": dict(ruled_out),
        "settings": {"limit_ms": min(OPENING_LIMIT_MS, int(intent["max_downtime_ms"]))},
        "rounds": None,
        "bytes": None,
        "total_s": None,
        "downtime_ms": None,
        "work_lost_s": None,
        "disks": None,
        "fallbacks": [name for name in ("post-copy", "suspend") if name not in ruled_out],
        "bandwidth_bytes_per_s": None,
        "at_once": 1,
        "needed_bytes_per_s": None,
        "measured_at": None,
        "refusal": None,
    }
