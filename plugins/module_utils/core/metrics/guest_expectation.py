# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Where a guest could go from this host, and what that would cost, as far as this host alone knows.

It knows the paths over which its guests have moved, and nothing of what the other hosts have free. So what a plan says
of the guest is better known, as long as it is newer than the measurement.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration
from ansible_collections.kvmops.cluster.plugins.module_utils.core.guest_intent import guest_intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import (
    compatibility,
    copied_disks,
    evacuability,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import Choice

#: A forecast takes some milliseconds. The fastest paths are tried, and the best one is among them.
MOST_PATHS = 4
#: Of another host nothing is known. What a host does not say is no reason against anything.
ELSEWHERE: dict[str, t.Any] = {"host": "another host"}


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What is expected of a guest's move, by a host or by a plan.

    Attributes:
        at: when what it rests on was measured or planned, UTC, or None.
        destination: a host, or None.
        method, verdict: of a C(kvmops.choice/1), or None.
        total_s, downtime_ms, bytes_sent: likely figures, each None where it is not known.
        refusals: codes of what keeps the guest; empty if it can leave.
    """

    at: str | None = None
    destination: str | None = None
    method: str | None = None
    verdict: str | None = None
    total_s: float | None = None
    downtime_ms: float | None = None
    bytes_sent: float | None = None
    refusals: tuple[str, ...] = ()

    @property
    def says_something(self) -> bool:
        return self.total_s is not None or bool(self.refusals)


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What this host knows from before.

    Attributes:
        working_sets: the newest C(kvmops.working_set/1) of each guest, by UUID.
        guests: states of calibration by UUID.
        paths: states of calibration by destination.
        stated_bytes_per_s: what the operator says that the link gives, or None.
    """

    working_sets: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    guests: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    paths: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    stated_bytes_per_s: float | None = None


def expectation(domain: Domain, source: Snapshot, of_run: Intent, lessons: Lessons) -> Expectation:
    """What this host expects of a move of a guest that runs here.

    Args:
        domain: in the snapshot.
        source: the snapshot of this host.
        of_run: what the operator permits and accepts, as stated.
        lessons: from before.
    """
    measured_at = (lessons.working_sets.get(domain["uuid"]) or {}).get("taken_at")
    intent = guest_intent(domain, of_run)
    if intent is None:
        return Expectation(measured_at, refusals=("intent",))
    refused = [
        *evacuability.refusals(domain, source, intent),
        *compatibility.destination_refusals(domain, source, ELSEWHERE, intent),
    ]
    if refused:
        return Expectation(measured_at, refusals=tuple(dict.fromkeys(one["code"] for one in refused)))
    hosts: list[str | None] = [*_fastest(lessons, source["host"])] or [None]
    found = [(host, _choice(domain, source, intent, lessons, host)) for host in hosts]
    # Whoever is refused everywhere has the reason of the fastest path.
    host, best = min(found, key=lambda one: (one[1]["refusal"] is not None, _rank(one[1])))
    return _from_choice(best, host, measured_at)


def _fastest(lessons: Lessons, here: str) -> list[str]:
    links = {host: calibration.link_of(state) for host, state in lessons.paths.items() if host != here}
    rates = {host: link.bandwidth_bytes_per_s for host, link in links.items() if link is not None}
    return sorted(rates, key=lambda host: (-rates[host], host))[:MOST_PATHS]


def _rank(choice: Choice) -> float:
    value = (choice["total_s"] or {}).get("value")
    return float("inf") if value is None else float(value)


def _choice(domain: Domain, source: Snapshot, intent: Intent, lessons: Lessons, host: str | None) -> Choice:
    uuid = domain["uuid"]
    known = Knowledge(
        working_set=lessons.working_sets.get(uuid),
        path=lessons.paths.get(host) if host is not None else None,
        guest=lessons.guests.get(uuid),
        stated_bytes_per_s=lessons.stated_bytes_per_s,
        other_paths=tuple(lessons.paths.values()),
    )
    disks = [{**disk, "copy_bytes": disk["copy_bytes"] or 0} for disk in copied_disks.to_copy(domain, intent)]
    return appraise(domain, source, ELSEWHERE, intent, known, disks=disks).choice


def _from_choice(choice: Choice, host: str | None, measured_at: str | None) -> Expectation:
    figures: dict[str, float | None] = {
        name: (choice[name] or {}).get("value") for name in ("total_s", "downtime_ms", "bytes")
    }
    refused = choice["refusal"]
    return Expectation(
        at=measured_at,
        destination=host,
        method=choice["method"],
        verdict=choice["verdict"],
        total_s=figures["total_s"],
        downtime_ms=figures["downtime_ms"],
        bytes_sent=figures["bytes"],
        refusals=(refused["code"],) if refused else (),
    )
