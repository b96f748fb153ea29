# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which methods keep the intent over a link that gives another rate than was assumed."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import Reforecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.xbzrle_cache import cache_bytes

#: Methods that no job can be switched to once it runs.
NEEDS_NEW_START = ("xbzrle", "parallel-zstd", "throttle")


@dataclasses.dataclass(frozen=True)
class Feasibility:
    """What would move the guest over a link of another rate.

    Attributes:
        keeps_intent: whether the chosen method, or one that the job can be switched to in flight, keeps the intent.
        other_method: one that surely does where those do not, but needs a new start; None where there is none.
        needed_bytes_per_s: the bandwidth at which pre-copy would; None where none in reason.
    """

    keeps_intent: bool
    other_method: str | None
    needed_bytes_per_s: float | None


def feasibility(reforecast: Reforecast, bytes_per_s: float, seconds_left: float | None) -> Feasibility:
    """Forecast the whole move over a link of such a rate, for a guest as it was measured.

    Args:
        reforecast: knows guest, link and decision.
        bytes_per_s: what the link gives.
        seconds_left: until the deadline; None where there is none.
    """
    decision, working_set = reforecast.decision, reforecast.working_set
    link = dataclasses.replace(reforecast.link or Link(bytes_per_s), bandwidth_bytes_per_s=bytes_per_s)
    in_flight = _in_flight(decision)
    document = forecast(
        working_set,
        link,
        cap_ms=decision.downtime_cap_ms,
        limit_ms=decision.downtime_ms,
        chosen=(*in_flight, *_after_new_start(decision)),
        xbzrle_cache_bytes=cache_bytes(working_set, link, None),
        guest_factor=reforecast.guest_factor,
    )
    outcomes = document["outcomes"]
    able = [name for name, outcome in outcomes.items() if _may_keep_intent(name, outcome, seconds_left)]
    keeps = any(name in able for name in in_flight)
    surely = [name for name in able if outcomes[name]["verdict"] == "converges" and name in NEEDS_NEW_START]
    return Feasibility(keeps, None if keeps or not surely else surely[0], document["needed_bytes_per_s"])


def _in_flight(decision: Decision) -> tuple[str, ...]:
    """What this job can end by."""
    found = [decision.method, "raise-downtime"]
    found += ["post-copy"] if decision.postcopy else []
    found += ["suspend"] if decision.suspend else []
    return tuple(dict.fromkeys(found))


def _after_new_start(decision: Decision) -> tuple[str, ...]:
    choice = decision.choice
    if choice is None:
        return ()
    return tuple(
        name
        for name in NEEDS_NEW_START
        if name != decision.method and (name in choice["fallbacks"] or name not in choice["why_not"])
    )


def _may_keep_intent(name: str, outcome: t.Mapping[str, t.Any], seconds_left: float | None) -> bool:
    """Whether a method may keep the intent. A guest that may be suspended may be so for as long as that takes."""
    seconds = outcome["total_s"]["value"]
    if seconds is None or (outcome["verdict"] == "never" and name != "suspend"):
        return False
    return seconds_left is None or seconds <= seconds_left
