# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The report: a plan and its results, and what an operator must do now."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import REPORT, Plan, Stay, Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import accuracy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import HOOK_STOPS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_record import NO_RECORD
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import leaves_nothing_to_do

Documents = t.Mapping[str, t.Mapping[str, t.Any]]

#: Outcomes after which a guest is where the plan wants it.
GOOD = ("moved", "already_there")


def noun(kind: str) -> str:
    """The kind of a goal as a noun.

    >>> noun("evacuate"), noun("drain")
    ('evacuation', 'drain')
    """
    return {"evacuate": "evacuation"}.get(kind, kind)


def goal_words(goal: t.Mapping[str, t.Any]) -> str:
    """What a run is for, in words.

    >>> goal_words({"kind": "evacuate", "hosts": ["h1", "h2"]}), goal_words({"kind": "rebalance", "hosts": []})
    ('evacuation of h1, h2', 'rebalance')
    """
    what = noun(goal["kind"])
    return f"{what} of {', '.join(goal['hosts'])}" if goal["hosts"] else what


def join(
    plan: Plan,
    results_by_host: t.Mapping[str, t.Sequence[t.Mapping[str, t.Any]]],
    *,
    started_at: str,
    finished_at: str,
    records: Documents | None = None,
    working_sets: Documents | None = None,
) -> dict[str, t.Any]:
    """Join a plan with the step results of each source host; a step without a result has not started.

    Args:
        plan: what was to be done.
        results_by_host: what the sources say.
        started_at, finished_at: of the run.
        records: what each move went through (step_record.py), by step.
        working_sets: what was measured of guests before the plan was made, by UUID.
    """
    results = {result["step"]: result for of_host in results_by_host.values() for result in of_host}
    guests = [
        {
            **_row(step, results.get(step["id"])),
            **(records or {}).get(step["id"], NO_RECORD),
            "working_set": (working_sets or {}).get(step["guest"]["uuid"]),
        }
        for step in plan["steps"]
    ]
    stuck = [stay for stay in plan["stays"] if any(r["code"] != "excluded" for r in stay["refusals"])]
    return {
        "schema": REPORT,
        "plan": plan["id"],
        "goal": dict(plan["goal"]),
        "started_at": started_at,
        "finished_at": finished_at,
        "total_s": _seconds_between(started_at, finished_at),
        "ok": not stuck and all(leaves_nothing_to_do(row) and not _stops(row) for row in guests),
        "bytes": sum(row["bytes"] or 0 for row in guests),
        "expected": dict(plan["expected"]),
        "accuracy": accuracy.summary(row["errors"] for row in guests),
        "guests": guests,
        "stays": [dict(stay) for stay in plan["stays"]],
        "remarks": [dict(remark) for remark in plan.get("remarks") or ()],
        "hosts": [],
        "todo": _todo(plan, stuck, guests),
    }


def _row(step: Step, result: t.Mapping[str, t.Any] | None) -> dict[str, t.Any]:
    got = result or {"outcome": "not_started"}
    # What the plan promised; where it promised nothing, what the host expected when it began.
    forecast = step["forecast"] or got.get("forecast")
    accepted = step["intent"].get("max_downtime_ms")
    return {
        "step": step["id"],
        "guest": step["guest"]["name"],
        "uuid": step["guest"]["uuid"],
        "memory_bytes": step["memory_bytes"],
        "source": step["source"],
        "destination": step["destination"],
        "outcome": got["outcome"],
        "started_at": got.get("started_at"),
        "finished_at": got.get("finished_at"),
        "total_s": got.get("total_s"),
        "bytes": got.get("bytes"),
        "downtime_ms": got.get("downtime_ms"),
        "strategy": got.get("strategy") or step["strategy"],
        "reason": got.get("reason") or step["reason"],
        "forecast": forecast,
        "errors": accuracy.errors(forecast, got) if got["outcome"] == "moved" else None,
        "max_downtime_ms": accepted,
        "kept_downtime": _kept(got, accepted),
        "refusals": list(got.get("refusals") or []),
        "error": got.get("error"),
        "corrected": list(got.get("corrected") or []),
        "notes": list(got.get("notes") or []),
        "faults": list(got.get("faults") or []),
        "left_copies": list(got.get("left_copies") or []),
        "disks": list(got.get("disks") or []),
        "disk_bytes": got.get("disk_bytes"),
    }


def _kept(got: t.Mapping[str, t.Any], accepted: int | None) -> bool | None:
    """Return whether the downtime was within the limit; None if that is not known."""
    downtime = got.get("downtime_ms")
    return None if downtime is None or accepted is None else bool(downtime <= accepted)


def _todo(plan: Plan, stuck: list[Stay], guests: list[dict[str, t.Any]]) -> list[str]:
    """Return sentences, the most urgent first: what may be lost, what failed, what was refused, what is left."""
    todo = [_unclear(row) for row in guests if row["outcome"] == "unclear"]
    todo.extend(_gone(row) for row in guests if row["outcome"] in ("lost", "off") and not leaves_nothing_to_do(row))
    todo.extend(_failed(row) for row in guests if row["outcome"] == "failed")
    todo.extend(faulty for row in guests for faulty in _faulty(row))
    todo.extend(_refused(row) for row in guests if row["outcome"] == "refused")
    for stay in stuck:
        todo.extend(
            f"{stay['guest']['name']} stays on {stay['host']}: {_end(sentence(refused))}"
            for refused in stay["refusals"]
        )
    waiting = len(stuck) + sum(not leaves_nothing_to_do(row) for row in guests)
    if waiting:
        todo.append(_again(plan, waiting))
    return todo


def _unclear(row: t.Mapping[str, t.Any]) -> str:
    return (
        f"Look at {row['guest']} on both {row['source']} and {row['destination']} before anything else, and destroy "
        f"neither: it is not clear which of them holds it{_because(row)}."
    )


def _gone(row: t.Mapping[str, t.Any]) -> str:
    what = "is LOST" if row["outcome"] == "lost" else f"is off on {row['source']}, and runs nowhere"
    return f"{row['guest']} {what}{_because(row)}."


def _failed(row: t.Mapping[str, t.Any]) -> str:
    return f"{row['guest']} still runs on {row['source']}: its move to {row['destination']} failed{_because(row)}."


def _faulty(row: t.Mapping[str, t.Any]) -> list[str]:
    """What is wrong with a guest that is where it should be, and what failed after a move that did not succeed."""
    there = f" runs on {row['destination']}, but" if row["outcome"] in GOOD else ":"
    return [f"{row['guest']}{there} {_end(sentence(fault))}" for fault in row["faults"]]


def _stops(row: t.Mapping[str, t.Any]) -> bool:
    """Whether the operator does not want further guests sent where this one has gone."""
    return any(fault["code"] == HOOK_STOPS for fault in row["faults"])


def _refused(row: t.Mapping[str, t.Any]) -> str:
    why = "; ".join(sentence(refused) for refused in row["refusals"]) or row["error"] or "no reason was given"
    return f"{row['guest']} was not moved to {row['destination']}: {_end(why)}"


def _again(plan: Plan, waiting: int) -> str:
    count = "1 guest has" if waiting == 1 else f"{waiting} guests have"
    return f"Then run the {goal_words(plan['goal'])} again: {count} not moved."


def _because(row: t.Mapping[str, t.Any]) -> str:
    return f" ({str(row['error']).rstrip('.')})" if row["error"] else ""


def _end(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else text + "."


def _seconds_between(start: str, end: str) -> float | None:
    try:
        first, last = (datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) for at in (start, end))
        return round((last - first).total_seconds(), 3)
    except (ValueError, TypeError):
        return None
