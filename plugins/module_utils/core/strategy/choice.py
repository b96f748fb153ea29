# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Of all ways to move a guest, the cheapest one that keeps the operator's intent: the document C(kvmops.choice/1).

Cheap is what costs the link and the guest little: seconds of the link, and seconds of work that the guest does not get
done, which count as ``WORK_WEIGHT`` of those. Of two that cost about the same the simpler one is taken.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.intent_check import Outcome, breaks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.remedy import outrun_by_disks, remedy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_milliseconds, human_seconds

CHOICE = "kvmops.choice/1"
#: All methods of ``core.forecast.forecast``, the simplest first.
SIMPLEST_FIRST = ("pre-copy", "parallel-zstd", "xbzrle", "raise-downtime", "throttle", "post-copy", "suspend")
#: A second that the guest loses counts as so many of the link: people wait for the guest, and for the drain only at 2
#: a.m. With 5, guests with a small hot set are compressed rather than sent again and again, and never stopped for it.
WORK_WEIGHT = 5.0
#: A method that is not the simplest must cost less than this share of the simpler one.
WORTH_IT = 0.9
#: What a method's cost is multiplied with for what may go wrong. Post-copy has no way back once it has begun; where it
#: cannot be resumed after a broken link, it is for guests that nothing else moves. A throttled guest feels it.
RISK = {"post-copy": 1.25, "throttle": 1.5, "suspend": 2.0}
RISK_WITHOUT_RECOVERY = 3.0
#: A verdict that is not sure costs more by this much: some of such moves end by their fallback, some rounds later.
RISK_WHEN_MARGINAL = 1.3
TRIED = "it was tried and was not enough"
OUTRUN = "it writes its disks faster than the link can copy them"
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
    fallbacks: list[str]
    bandwidth_bytes_per_s: int | None
    at_once: int
    needed_bytes_per_s: int | None
    measured_at: str | None
    refusal: Refusal | None


def choose(
    forecast: t.Mapping[str, t.Any],
    intent: Intent,
    closed: t.Mapping[str, str],
    *,
    recoverable: bool = True,
    without: t.Collection[str] = (),
) -> Choice:
    """Choose the way to move a guest.

    Args:
        forecast: a document C(kvmops.forecast/1) with all methods.
        intent: a complete intent.
        closed: methods that cannot be taken, with the reason (``core.strategy.available_methods.closed``).
        recoverable: whether a post-copy that broke off can be resumed.
        without: methods that were tried already and did not do.
    """
    outcomes = {name: forecast["outcomes"][name] for name in SIMPLEST_FIRST if name in forecast["outcomes"]}
    shut = {name: reason for name, reason in closed.items() if name in outcomes}
    shut.update({name: TRIED for name in without if name in outcomes and name not in shut})
    why_not = {**shut, **_broken(forecast, outcomes, intent, shut)}
    able = [name for name in outcomes if name not in why_not]
    costs = {name: _cost(name, outcomes[name], intent, recoverable) for name in able}
    safe = [name for name in able if _is_safe(name, able, outcomes, costs)]
    method = _cheapest(safe, costs) or _cheapest(able, costs)
    if method is None:
        return _none(forecast, intent, shut, why_not)
    why_not.update({name: _dearer(name, method, outcomes, costs) for name in able if name != method})
    others = sorted((name for name in able if name != method), key=lambda name: costs[name])
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
        "fallbacks": [],
        "bandwidth_bytes_per_s": forecast["bandwidth_bytes_per_s"],
        "at_once": 1,
        "needed_bytes_per_s": forecast["needed_bytes_per_s"],
        "measured_at": forecast["working_set_at"],
        "refusal": None,
    }


def _broken(
    forecast: t.Mapping[str, t.Any], outcomes: Outcomes, intent: Intent, shut: t.Collection[str]
) -> dict[str, str]:
    """Of the methods that are not shut, those that surely break the intent, each with the reason."""
    if outrun_by_disks(forecast):
        return {name: OUTRUN for name in outcomes if name not in shut}
    reasons = {name: breaks(name, outcome, intent) for name, outcome in outcomes.items() if name not in shut}
    return {name: reason for name, reason in reasons.items() if reason}


def _is_safe(name: str, able: t.Collection[str], outcomes: Outcomes, costs: t.Mapping[str, float]) -> bool:
    """Whether a method surely ends, or likely does and has one at hand that surely does and needs no new start."""
    if outcomes[name]["verdict"] == "converges" or name == "suspend":
        return True
    armed = {"post-copy", "suspend"} if name != "parallel-zstd" else {"suspend"}
    return costs[name] < math.inf and bool(armed.intersection(able))


def _cost(name: str, outcome: Outcome, intent: Intent, recoverable: bool) -> float:
    """Seconds of the link, and of lost work as so many of those; infinite when nobody knows, or when the guest is down
    for longer than is accepted unless all goes well.
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
    """The cheapest of some methods; a simpler one that costs about as much goes before it."""
    chosen: str | None = None
    for name in names:
        if chosen is None or costs[name] < WORTH_IT * costs[chosen]:
            chosen = name
    return chosen


def _dearer(name: str, method: str, outcomes: Outcomes, costs: t.Mapping[str, float]) -> str:
    """Why a method that keeps the intent was not taken."""
    mine, taken = outcomes[name], outcomes[method]
    if mine["verdict"] == "marginal" and (taken["verdict"] != "marginal" or costs[name] == math.inf):
        return f"it may not be enough: {mine['reason']}"
    seconds, other_seconds = (human_seconds(one["total_s"]["value"]) for one in (mine, taken))
    lost, other_lost = (human_seconds(one["work_lost_s"]["value"]) for one in (mine, taken))
    if costs[name] < costs[method] / WORTH_IT or (seconds, lost) == (other_seconds, other_lost):
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


def _none(
    forecast: t.Mapping[str, t.Any], intent: Intent, shut: t.Mapping[str, str], why_not: t.Mapping[str, str]
) -> Choice:
    """Nothing keeps the intent: say so before anything starts, and what would change that."""
    why = "no method was left"
    if "pre-copy" in why_not:
        why = _plain_precopy(forecast, why_not["pre-copy"])
    if why_not.get("pre-copy") == OUTRUN:
        why = OUTRUN
    reason = f"no method keeps the intent: {why}"
    refused = refusal("cannot_keep_intent", reason, remedy(forecast, intent, shut))
    order = [name for name in SIMPLEST_FIRST if name in why_not]
    return {
        **_document(forecast),
        "reason": reason,
        "why_not": {name: why_not[name] for name in order},
        "refusal": refused,
    }
