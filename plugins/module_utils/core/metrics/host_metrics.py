# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""From what is known on a host to its metrics. Pure: all that it needs is given."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Intent,
    Snapshot,
    is_off,
    plain_state,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration
from ansible_collections.kvmops.cluster.plugins.module_utils.core.guest_intent import guest_intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics import foreseen, past_moves
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.guest_expectation import (
    Expectation,
    Lessons,
    expectation,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.metric_table import FIGURES, STATES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.metric_text import Sample, text_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.past_moves import seconds_of

Samples = t.Iterator[Sample]


@dataclasses.dataclass(frozen=True)
class Observation:
    """What is known on a host.

    Attributes:
        now: seconds since 1970.
        snapshot: of the host.
        lessons: measurements and calibration.
        intent: what the operator permits and accepts, as stated.
        window_s: how long a drain of this host may take, or None.
        moves: of guests away from here, as L(past_moves.moves) has them.
        lease: of the host; None if it cannot be read.
        lease_rest_s: how long it still lasts.
        run_at_work: whether a run moves guests away from here.
        plan: C(kvmops.foreseen/1) of the last plan, or None.
    """

    now: float
    snapshot: Snapshot
    lessons: Lessons = dataclasses.field(default_factory=Lessons)
    intent: Intent = dataclasses.field(default_factory=dict)
    window_s: float | None = None
    moves: t.Sequence[past_moves.Move] = ()
    lease: t.Mapping[str, t.Any] | None = None
    lease_rest_s: float = 0.0
    run_at_work: bool = False
    plan: t.Mapping[str, t.Any] | None = None


def host_metrics(seen: Observation) -> str:
    """The text of all metrics of a host."""
    guests = [domain for domain in seen.snapshot.get("domains") or [] if not is_off(domain)]
    expectations = [(domain, _expectation(domain, seen)) for domain in guests]
    return text_of(
        itertools.chain(
            _host(seen, guests),
            _lease(seen),
            _drain(seen, [found for _domain, found in expectations]),
            itertools.chain.from_iterable(_guest(domain, found, seen) for domain, found in expectations),
            itertools.chain.from_iterable(map(_last_move, past_moves.last_of_each(seen.moves))),
            _accuracy(seen),
            _paths(seen),
            _plan(seen.plan) if seen.plan is not None else (),
        )
    )


def _expectation(domain: Domain, seen: Observation) -> Expectation:
    """By this host or by the last plan, whichever is newer and says something."""
    own = expectation(domain, seen.snapshot, seen.intent, seen.lessons)
    planned = foreseen.expectation_of(seen.plan, domain["uuid"])
    telling = [one for one in (own, planned) if one is not None and one.says_something]
    return max(telling, key=lambda one: seconds_of(one.at) or 0.0, default=own)


def _host(seen: Observation, guests: t.Sequence[Domain]) -> Samples:
    snapshot, capacity = seen.snapshot, seen.snapshot.get("capacity") or {}
    versions = snapshot.get("versions") or {}
    yield Sample("kvmops_written_timestamp_seconds", seen.now)
    named = {name: versions.get(name) for name in ("libvirt", "qemu", "kernel")}
    yield Sample("kvmops_host_info", 1, {"host": snapshot["host"], **named})
    yield Sample("kvmops_host_memory_bytes", capacity.get("memory_bytes"))
    yield Sample("kvmops_host_memory_available_bytes", capacity.get("available_bytes"))
    yield Sample("kvmops_host_guests", len(guests))
    yield Sample("kvmops_host_guest_memory_bytes", sum(domain.get("memory_bytes") or 0 for domain in guests))
    record = snapshot.get("maintenance") or {}
    state = record.get("state") or "active"
    for one in STATES:
        yield Sample("kvmops_host_maintenance_state", state == one, {"state": one})
    if state != "active":
        yield Sample("kvmops_host_maintenance_since_timestamp_seconds", seconds_of(record.get("since")))
    yield Sample("kvmops_host_run_at_work", seen.run_at_work)


def _lease(seen: Observation) -> Samples:
    held = seen.lease is None or (seen.lease["run"] is not None and seen.lease_rest_s > 0)
    yield Sample("kvmops_host_lease_held", held)
    if held and seen.lease is not None:
        yield Sample("kvmops_host_lease_info", 1, {name: seen.lease[name] for name in ("owner", "run")})
        yield Sample("kvmops_host_lease_expires_timestamp_seconds", seen.now + seen.lease_rest_s)


def _drain(seen: Observation, expectations: t.Sequence[Expectation]) -> Samples:
    leaving = [one.total_s for one in expectations if not one.refusals]
    known = [seconds for seconds in leaving if seconds is not None]
    yield Sample("kvmops_host_drain_forecast_seconds", sum(known))
    yield Sample("kvmops_host_drain_unknown_guests", len(leaving) - len(known))
    yield Sample("kvmops_host_drain_window_seconds", seen.window_s)


def _guest(domain: Domain, found: Expectation, seen: Observation) -> Samples:
    labels = {"guest": domain["name"], "uuid": domain["uuid"]}
    yield Sample("kvmops_guest_info", 1, {**labels, "state": plain_state(domain)})
    yield Sample("kvmops_guest_memory_bytes", domain.get("memory_bytes"), labels)
    measured = seen.lessons.working_sets.get(domain["uuid"])
    if measured is not None:
        fit = measured.get("fit") or {}
        yield Sample("kvmops_guest_touched_bytes", measured["touched_bytes"], labels)
        for point in measured["points"][-1:]:
            rate = point["dirtied_bytes"] / point["window_s"] if point["window_s"] else None
            yield Sample("kvmops_guest_dirty_bytes_per_second", rate, labels)
        yield Sample("kvmops_guest_hot_bytes", fit.get("hot_bytes"), labels)
        yield Sample("kvmops_guest_cold_bytes_per_second", fit.get("cold_bytes_per_s"), labels)
        yield Sample("kvmops_guest_measured_timestamp_seconds", seconds_of(measured["taken_at"]), labels)
    intent = guest_intent(domain, seen.intent)
    if intent is not None:
        yield Sample("kvmops_guest_accepted_downtime_seconds", intent["max_downtime_ms"] / 1000, labels)
    yield Sample("kvmops_guest_movable", not found.refusals, labels)
    for code in found.refusals:
        yield Sample("kvmops_guest_refusal_info", 1, {**labels, "code": code})
    yield from _forecast(labels, found)


def _forecast(labels: t.Mapping[str, str], found: Expectation) -> Samples:
    if found.total_s is None:
        return
    words = {"destination": found.destination, "method": found.method, "verdict": found.verdict}
    yield Sample("kvmops_guest_forecast_info", 1, {**labels, **words})
    yield Sample("kvmops_guest_forecast_duration_seconds", found.total_s, labels)
    yield Sample("kvmops_guest_forecast_downtime_seconds", _thousandth(found.downtime_ms), labels)
    yield Sample("kvmops_guest_forecast_bytes", found.bytes_sent, labels)
    yield Sample("kvmops_guest_forecast_timestamp_seconds", seconds_of(found.at), labels)


def _last_move(move: past_moves.Move) -> Samples:
    labels = {name: move["guest"][key] for name, key in (("guest", "name"), ("uuid", "uuid"))}
    words = {"destination": move.get("destination"), "outcome": move["outcome"], "method": move.get("strategy")}
    yield Sample("kvmops_guest_last_move_info", 1, {**labels, **words})
    yield Sample("kvmops_guest_last_move_timestamp_seconds", seconds_of(move["finished_at"]), labels)
    yield Sample("kvmops_guest_last_move_duration_seconds", move.get("total_s"), labels)
    yield Sample("kvmops_guest_last_move_downtime_seconds", _thousandth(move.get("downtime_ms")), labels)


def _accuracy(seen: Observation) -> Samples:
    for key, found in past_moves.errors(seen.moves).items():
        labels = {"figure": FIGURES[key]}
        yield Sample("kvmops_forecast_compared_moves", found["compared"] if found else 0, labels)
        if found:
            yield Sample("kvmops_forecast_error_median_ratio", found["median"], labels)
            yield Sample("kvmops_forecast_error_worst_ratio", found["worst"], labels)


def _paths(seen: Observation) -> Samples:
    for destination, state in sorted(seen.lessons.paths.items()):
        link = calibration.link_of(state)
        rate = None if link is None else link.bandwidth_bytes_per_s
        yield Sample("kvmops_path_bandwidth_bytes_per_second", rate, {"destination": destination})


def _plan(plan: t.Mapping[str, t.Any]) -> Samples:
    yield Sample("kvmops_plan_info", 1, {"plan": plan["plan"], "goal": plan["goal"]})
    yield Sample("kvmops_plan_created_timestamp_seconds", seconds_of(plan["created_at"]))
    yield Sample("kvmops_plan_expected_seconds", plan["expected_s"])
    yield Sample("kvmops_plan_window_seconds", plan["window_s"])
    yield Sample("kvmops_plan_fits_window", plan["fits_window"])
    for code in plan["remarks"]:
        yield Sample("kvmops_plan_remark_info", 1, {"code": code})


def _thousandth(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
