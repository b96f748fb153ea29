# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Turn moves in numbers into steps of a plan, and compute when they start and end."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement, Stay, Step, guest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import (
    NOTHING_EXPECTED,
    Expected,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import Move
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import (
    ONE_AT_A_TIME,
    ROUNDING,
    SETUP_S,
    USUAL_BYTES_PER_S,
    USUAL_SHARE,
    Job,
    Slots,
    plain_seconds,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.schedule import schedule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.window_check import verdict
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB


class Planned(t.NamedTuple):
    """A plan's content.

    Attributes:
        placement: its steps, in order, and who stays.
        expected: for the plan's ``expected``: seconds, bound, verdict, start and end of each step.
        remarks: what concerns the plan as a whole.
        figures: what else a goal has to tell, such as scores.
    """

    placement: Placement
    expected: dict[str, t.Any]
    remarks: list[Refusal]
    figures: dict[str, t.Any]


class Window(t.NamedTuple):
    """The time there is and the slots there are.

    Attributes:
        window_s: seconds there are; None: any.
        slots: moves at once.
        stated: what the operator says that a host's link gives, in bytes/s, by host: what to reckon with for guests
            without a forecast; where neither end has it, what the interfaces give, else the usual.
        links: shared links between two hosts, by (source, destination).
        interfaces: what the interface that moves go over can give, in bytes/s, by host; no more than a guess.
    """

    window_s: float | None = None
    slots: Slots = ONE_AT_A_TIME
    stated: t.Mapping[str, float] = {}
    links: t.Mapping[tuple[str, str], tuple[str, ...]] = {}
    interfaces: t.Mapping[str, float] = {}

    def rate_of(self, source: str, destination: str) -> float:
        """Return the bytes/s to assume between two hosts without a forecast. The slower end counts."""
        ends = (source, destination)
        stated = [self.stated[host] for host in ends if host in self.stated]
        if stated:
            return min(stated)
        known = [self.interfaces[host] for host in ends if host in self.interfaces]
        return USUAL_SHARE * min(known) if known else USUAL_BYTES_PER_S


ANY_TIME = Window()


def steps_of(made: NumberedCluster, moves: t.Sequence[Move], why: t.Callable[[Move], str]) -> list[Step]:
    """Return a step for each guest of each move, in order. ``after`` has the steps that it waits for.

    A guest that goes last waits for all steps before its own.
    """
    steps: list[Step] = []
    ids: list[list[str]] = []
    for move in moves:
        goes_last = made.cluster.units[move.unit].goes_last
        after = [one for other in (range(len(ids)) if goes_last else move.after) for one in ids[other]]
        own = []
        source, destination = made.names[move.source], made.names[move.destination]
        for domain, intent in zip(made.domains[move.unit], made.intents[move.unit]):
            choice = (
                made.constraints.appraise(domain, source, destination, intent) if made.constraints.appraise else None
            )
            own.append(f"s{len(steps) + 1:03d}")
            steps.append({
                "id": own[-1],
                "guest": guest_of(domain),
                "source": source,
                "destination": destination,
                "memory_bytes": int(domain["memory_bytes"]),
                "intent": dict(intent),
                "reason": why(move),
                "strategy": choice["method"] if choice else None,
                "forecast": t.cast("dict[str, t.Any]", choice) if choice else None,
                "after": list(after),
            })  # fmt: skip
        ids.append(own)
    return steps


def stays_of(made: NumberedCluster, unit: int, refusals: t.Callable[[int], list[Refusal]]) -> list[Stay]:
    """Return a stay for each guest of a unit."""
    host = made.names[made.cluster.units[unit].host]
    return [
        {"guest": guest_of(domain), "host": host, "refusals": refusals(number)}
        for number, domain in enumerate(made.domains[unit])
    ]


def jobs_of(steps: t.Sequence[Step], expected: t.Mapping[str, Expected], window: Window = ANY_TIME) -> list[Job]:
    """Return the steps as the schedule takes them."""
    return [
        Job(
            id=step["id"],
            guest=step["guest"]["name"],
            source=step["source"],
            destination=step["destination"],
            **_times(step, expected.get(step["guest"]["uuid"], NOTHING_EXPECTED), window),
            after=tuple(step["after"]),
            links=window.links.get((step["source"], step["destination"]), ()),
        )
        for step in steps
    ]


def _times(step: Step, expected: Expected, window: Window) -> dict[str, t.Any]:
    """Seconds as forecast for this very step; else for its guest; else a guess, by what is known of its way. With those
    of them in which it fills what it has of the link, and how many moves at once that was reckoned with."""
    forecast = step["forecast"] or {}
    rate = forecast.get("bandwidth_bytes_per_s")
    at_once = int(forecast.get("at_once") or 1) if rate else 1
    held_to = step["intent"].get("bandwidth_floor_mib_s") or step["intent"].get("bandwidth_mib_s")
    seconds, sent = _forecast(step, "total_s", expected.seconds), _forecast(step, "bytes", expected.bytes)
    if seconds is None:
        sent = step["memory_bytes"] if expected.bytes is None else expected.bytes
        rate = rate or window.rate_of(step["source"], step["destination"])
        rate = rate if held_to is None else min(rate, held_to * MIB)
        seconds = plain_seconds(sent, rate)
    flow_s = max(0.0, seconds - SETUP_S) if rate is None or sent is None else min(seconds, sent / rate)
    # What is held to less than its share leaves the rest to others.
    is_held = held_to is not None and rate is not None and rate >= held_to * MIB * (1 - ROUNDING)
    return {"seconds": seconds, "flow_s": 0.0 if is_held else flow_s, "at_once": at_once}


def _forecast(step: Step, figure: str, otherwise: float | None) -> float | None:
    """A figure of the step's forecast; of its guest's where the step has no forecast of its own."""
    return otherwise if step["forecast"] is None else value_of(step["forecast"].get(figure))


def value_of(band: t.Mapping[str, t.Any] | None) -> float | None:
    """Return the likely value of a forecast's band; None where there is no band."""
    value = (band or {}).get("value")
    return None if value is None else float(value)


def expectation(
    steps: t.Sequence[Step], expected: t.Mapping[str, Expected], window: Window = ANY_TIME
) -> dict[str, t.Any]:
    """Return the plan's ``expected`` as plain JSON.

    ``guessed`` names guests without a forecast: their seconds are memory over bandwidth. ``bytes`` are null while one
    of the steps has no figure.
    """
    known = [(step, expected.get(step["guest"]["uuid"], NOTHING_EXPECTED)) for step in steps]
    sent = [_forecast(step, "bytes", one.bytes) for step, one in known]
    jobs = jobs_of(steps, expected, window)
    made = schedule(jobs, window.slots)
    told: dict[str, t.Any] = {
        "seconds": round(made.total_s, 1),
        "bytes": None if None in sent else round(sum(one or 0 for one in sent)),
        "fits_window": None,
        "window_s": window.window_s,
        "verdict": None,
        "without": [],
        "reason": None,
        "bound_s": round(made.bound_s, 1),
        "bound_reason": made.bound_why,
        "above_bound": round(made.distance, 3),
        "steps": {
            job.id: {"start_s": round(made.steps[job.id].start_s, 1), "end_s": round(made.steps[job.id].end_s, 1)}
            for job in jobs
        },
        "guessed": sorted({
            step["guest"]["name"] for step, one in known if _forecast(step, "total_s", one.seconds) is None
        }),
    }  # fmt: skip
    if window.window_s is not None:
        found = verdict(jobs, window.window_s, window.slots)
        told.update(
            fits_window=found.code == "fits", verdict=found.code, without=list(found.without), reason=found.reason
        )
    return told
