# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The result of one step of a plan (docs/contracts.md, "Step result")."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import (
    Corrections,
    faults_in_words,
)

#: A step of a plan, and what became of it, as plain JSON.
Step = dict[str, t.Any]
Result = dict[str, t.Any]

OUTCOMES = ("moved", "already_there", "would_move", "refused", "failed", "off", "lost", "unclear", "not_started")
#: Outcomes that leave nothing to do.
GOOD = ("moved", "already_there", "would_move")


def leaves_nothing_to_do(result: t.Mapping[str, t.Any]) -> bool:
    """Whether a step is done, or not needed any more because somebody has shut its guest down."""
    return result["outcome"] in GOOD or (result["outcome"] == "off" and not result.get("error"))


def step_result(  # noqa: PLR0913 - a result has that many parts, and each is named where it is given
    step: t.Mapping[str, t.Any],
    outcome: str,
    *,
    refusals: t.Sequence[Refusal] = (),
    error: str | None = None,
    strategy: str | None = None,
    reason: str | None = None,
    started_at: str | None = None,
    finished_at: str | None = None,
    total_s: float | None = None,
    bytes_sent: int | None = None,
    downtime_ms: int | None = None,
    iterations: int | None = None,
    forecast: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any]:
    """Build a step's result. What is not known stays None.

    Args:
        step: the plan's step.
        outcome: one of L(OUTCOMES).
        refusals: why nothing was tried.
        error: what went wrong and what to do, in words.
        strategy, reason: how it was moved and why so.
        started_at, finished_at: UTC times.
        total_s: from the decision to move it until both sides agreed.
        bytes_sent: on the wire.
        downtime_ms: how long the guest stood still.
        iterations: rounds of pre-copy.
        forecast: what was expected, as a C(kvmops.choice/1).
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"unknown outcome {outcome!r}")
    return {
        "step": step["id"],
        "guest": dict(step["guest"]),
        "source": step["source"],
        "destination": step["destination"],
        "outcome": outcome,
        "refusals": list(refusals),
        "error": error,
        "strategy": strategy,
        "reason": reason,
        "started_at": started_at,
        "finished_at": finished_at,
        "total_s": None if total_s is None else round(total_s, 2),
        "bytes": bytes_sent,
        "downtime_ms": downtime_ms,
        "iterations": iterations,
        "forecast": None if forecast is None else dict(forecast),
        "corrected": [],
        "notes": [],
        "faults": [],
    }


def with_faults(result: Result, faults: t.Sequence[Refusal], notes: t.Sequence[str] = ()) -> Result:
    """A result with what failed after the move, whatever became of the move itself."""
    if result["outcome"] in GOOD:
        return corrected_result(result, Corrections(notes=list(notes), faults=list(faults)))
    return {**result, "notes": [*result["notes"], *notes], "faults": [*result["faults"], *faults]}


def corrected_result(result: Result, corrections: Corrections) -> Result:
    """The result of a guest that is at its destination, with what was put right and what is still wrong with it."""
    faults = [*result["faults"], *corrections.faults]
    return {
        **result,
        "error": faults_in_words(faults) or result["error"],
        "corrected": [*result["corrected"], *corrections.done],
        "notes": [*result["notes"], *corrections.notes],
        "faults": faults,
    }
