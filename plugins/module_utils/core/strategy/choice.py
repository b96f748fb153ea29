# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The cheapest method that keeps the operator's intent: the document C(kvmops.choice/1).

The cost of a method is the seconds that it uses the link, and the seconds of work that the guest loses. Each of the
latter counts as C(WORK_WEIGHT) of the former. Of two methods that cost about the same, the simpler one is taken.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.intent_check import Outcome, breaks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.remedy import disks_never_copied, remedy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_milliseconds, human_seconds

CHOICE = "kvmops.choice/1"
#: All methods of C(core.forecast.forecast), the simplest first.
SIMPLEST_FIRST = ("pre-copy", "parallel-zstd", "xbzrle", "raise-downtime", "throttle", "post-copy", "suspend")
#: A second that the guest loses counts as so many of the link. With 5, a guest with a small hot set is compressed, not
#: sent again and again, and it is never suspended to save time on the link.
WORK_WEIGHT = 5.0
#: A method that is not the simplest must cost less than this share of the simpler one.
SIMPLER_SHARE = 0.9
#: The cost of a method is multiplied with this for what may go wrong. Post-copy cannot be aborted once it has begun.
#: Where it cannot be resumed after a broken link either, it is for guests that no other method moves. A throttle makes
#: the guest slower.
RISK = {"post-copy": 1.25, "throttle": 1.5, "suspend": 2.0}
RISK_WITHOUT_RECOVERY = 3.0
#: A verdict that is not sure costs more by this factor: some of these moves end by their fallback, some rounds later.
RISK_WHEN_MARGINAL = 1.3
#: The downtime limit that a move opens with: QEMU uses all of it, and needs that much (forecast/convergence_limit.py).
OPENING_LIMIT_MS = 30
TRIED = "it was tried and was not enough"
DISKS_NEVER_COPIED = "it writes its disks faster than the link can copy them"
FIGURES = ("rounds", "bytes", "total_s", "downtime_ms", "work_lost_s")

Outcomes = t.Mapping[str, Outcome]


class Choice(t.TypedDict):
    """What was chosen and why (docs/contracts.md, "Choice"). ``method`` is null where the intent cannot be kept."""

    schema: str
    method: str | None
    verdict: str
    reason: str
    why_not: dict[str, str]
    settings: dict[str, t.Any]
    rounds: dict[str, t.Any] | None
    bytes: dict[str, t.Any] | None
    total_s: dict[str, t.Any] | None
    downtime_ms: dict[str, t.Any] | None
    work_lost_s: dict[str, t.Any] | None
    disks: dict[str, t.Any] | None
    fallbacks: list[str]
    bandwidth_bytes_per_s: int | None
    at_once: int
    needed_bytes_per_s: int | None
    measured_at: str | None
    refusal: Refusal | None


def choose(
    forecast: t.Mapping[str, t.Any],
    intent: Intent,
    unavailable: t.Mapping[str, str],
    *,
    recoverable: bool = True,
    tried: t.Collection[str] = (),
) -> Choice:
    """Choose the method for a guest.

    Args:
        forecast: a document C(kvmops.forecast/1) with all methods.
        intent: a complete intent.
        unavailable: methods that cannot be taken, with the reason (C(core.strategy.available_methods)).
        recoverable: whether a post-copy that broke off can be resumed.
        tried: methods that were tried already and did not do.
    """
    outcomes = {name: forecast["outcomes"][name] for name in SIMPLEST_FIRST if name in forecast["outcomes"]}
    ruled_out = {name: reason for name, reason in unavailable.items() if name in outcomes}
    ruled_out.update({name: TRIED for name in tried if name in outcomes and name not in ruled_out})
    why_not = {**ruled_out, **_breaking_intent(forecast, outcomes, intent, ruled_out)}
    candidates = [name for name in outcomes if name not in why_not]
    costs = {name: _cost(name, outcomes[name], intent, recoverable) for name in candidates}
    safe = [name for name in candidates if _is_safe(name, candidates, outcomes, costs)]
    method = _cheapest(safe, costs) or _cheapest(candidates, costs)
    if method is None:
        return _nothing_keeps_intent(forecast, intent, ruled_out, why_not)
    why_not.update({name: _why_costlier(name, method, outcomes, costs) for name in candidates if name != method})
    others = sorted((name for name in candidates if name != method), key=lambda name: costs[name])
    return {
        **_document(forecast),
        "method": method,
        "verdict": outcomes[method]["verdict"] if method != "suspend" else "converges",
        "reason": _reason(method, forecast, why_not, recoverable),
        "why_not": {name: why_not[name] for name in outcomes if name in why_not},
        "settings": dict(outcomes[method]["settings"]),
        **{figure: dict(outcomes[method][figure]) for figure in FIGURES},  # type: ignore[typeddict-item]
        "fallbacks": others,
    }


def _document(forecast: t.Mapping[str, t.Any]) -> Choice:
    return {
        "schema": CHOICE,
        "method": None,
        "verdict": "never",
        "reason": "",
        "why_not": {},
        "settings": {},
        "rounds": None,
        "bytes": None,
        "total_s": None,
        "downtime_ms": None,
        "work_lost_s": None,
        "disks": forecast["disks"],
        "fallbacks": [],
        "bandwidth_bytes_per_s": forecast["bandwidth_bytes_per_s"],
        "at_once": 1,
        "needed_bytes_per_s": forecast["needed_bytes_per_s"],
        "measured_at": forecast["working_set_at"],
        "refusal": None,
    }


def _breaking_intent(
    forecast: t.Mapping[str, t.Any], outcomes: Outcomes, intent: Intent, ruled_out: t.Collection[str]
) -> dict[str, str]:
    """Of the methods that are not ruled out, those that surely break the intent, each with the reason."""
    if disks_never_copied(forecast):
        return {name: DISKS_NEVER_COPIED for name in outcomes if name not in ruled_out}
    reasons = {name: breaks(name, outcome, intent) for name, outcome in outcomes.items() if name not in ruled_out}
    return {name: reason for name, reason in reasons.items() if reason}


def _is_safe(name: str, candidates: t.Collection[str], outcomes: Outcomes, costs: t.Mapping[str, float]) -> bool:
    """Whether a method surely ends, or likely does, and else the job can be switched to one that surely does."""
    if outcomes[name]["verdict"] == "converges" or name == "suspend":
        return True
    in_flight = {"post-copy", "suspend"} if name != "parallel-zstd" else {"suspend"}
    return costs[name] < math.inf and bool(in_flight.intersection(candidates))


def _cost(name: str, outcome: Outcome, intent: Intent, recoverable: bool) -> float:
    """Seconds of the link and, weighted, of lost work.

    Infinite when nobody knows, or when the guest is likely down for longer than is accepted.
    """
    seconds, lost = outcome["total_s"]["value"], outcome["work_lost_s"]["value"]
    if seconds is None or lost is None:
        return math.inf
    if name != "suspend" and outcome["downtime_ms"]["value"] > intent["max_downtime_ms"]:
        return math.inf
    risk = RISK.get(name, 1.0)
    if name == "post-copy" and not recoverable:
        risk = RISK_WITHOUT_RECOVERY
    if outcome["verdict"] == "marginal":
        risk *= RISK_WHEN_MARGINAL
    return float(risk * (seconds + WORK_WEIGHT * lost))


def _cheapest(names: t.Sequence[str], costs: t.Mapping[str, float]) -> str | None:
    """The cheapest of some methods; a simpler one that costs about as much is preferred."""
    chosen: str | None = None
    for name in names:
        if chosen is None or costs[name] < SIMPLER_SHARE * costs[chosen]:
            chosen = name
    return chosen


def _why_costlier(name: str, method: str, outcomes: Outcomes, costs: t.Mapping[str, float]) -> str:
    """Why a method that keeps the intent was not taken."""
    mine, taken = outcomes[name], outcomes[method]
    if mine["verdict"] == "marginal" and (taken["verdict"] != "marginal" or costs[name] == math.inf):
        return f"it may not be enough: {mine['reason']}"
    seconds, other_seconds = (human_seconds(one["total_s"]["value"]) for one in (mine, taken))
    lost, other_lost = (human_seconds(one["work_lost_s"]["value"]) for one in (mine, taken))
    if costs[name] < costs[method] / SIMPLER_SHARE or (seconds, lost) == (other_seconds, other_lost):
        return f"it saves nothing compared with {method}"
    if seconds == other_seconds:
        return f"it costs the guest {lost} of work, {method} only {other_lost}"
    if lost == other_lost:
        return f"it takes about {seconds}, {method} only {other_seconds}"
    return f"it takes about {seconds} and {lost} of the guest's work, {method} {other_seconds} and {other_lost}"


def _reason(method: str, forecast: t.Mapping[str, t.Any], why_not: t.Mapping[str, str], recoverable: bool) -> str:
    """One sentence: why this one, and why the simplest was not enough."""
    own = f"{method}: {forecast['outcomes'][method]['reason']}"
    if method == "post-copy" and not recoverable:
        own = f"{own}, and cannot be resumed if the link breaks"
    return own if "pre-copy" not in why_not else f"{own}; {_plain_precopy(forecast, why_not['pre-copy'])}"


def _plain_precopy(forecast: t.Mapping[str, t.Any], why: str) -> str:
    """Why plain pre-copy is not enough, short enough to stand in a sentence about something else."""
    outcome = forecast["outcomes"]["pre-copy"]
    if why == outcome["reason"]:
        return f"plain pre-copy would never get below {human_milliseconds(forecast['floor_ms'])} of downtime"
    if not why.startswith("it "):
        return f"plain pre-copy cannot be used: {why}"
    return f"plain pre-copy {why[len('it ') :].split(':', maxsplit=1)[0]}"


def _nothing_keeps_intent(
    forecast: t.Mapping[str, t.Any], intent: Intent, ruled_out: t.Mapping[str, str], why_not: t.Mapping[str, str]
) -> Choice:
    """Nothing keeps the intent: say so before anything starts, and what would change that."""
    why = "no method was left"
    if "pre-copy" in why_not:
        why = _plain_precopy(forecast, why_not["pre-copy"])
    if why_not.get("pre-copy") == DISKS_NEVER_COPIED:
        why = DISKS_NEVER_COPIED
    reason = f"no method keeps the intent: {why}"
    refused = refusal("cannot_keep_intent", reason, remedy(forecast, intent, ruled_out))
    order = [name for name in SIMPLEST_FIRST if name in why_not]
    return {
        **_document(forecast),
        "reason": reason,
        "why_not": {name: why_not[name] for name in order},
        "refusal": refused,
    }
