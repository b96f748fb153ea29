# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Forecast any move of a plan from the measurements and the calibration of all hosts."""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.calibration import link_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import ONE_AT_A_TIME, Slots
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import copied_disks, expected_deltas
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import Choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB


@dataclasses.dataclass(frozen=True)
class PlanForecasts:
    """Forecasts any move between hosts of a cluster.

    Attributes:
        snapshots: every host by name.
        connect: how each host is reached, by name; C(bandwidth_mib_s) is what the operator says that its link gives.
        working_sets: documents C(kvmops.working_set/1), the newest of each guest; a guest without one was not measured.
        calibration: what finished moves taught each source, by name, each with C(guests) by UUID and C(paths) by
            destination.
        tuned: whether what waits unsent in a move's connection is bounded (core/send_buffer.py).
        slots: moves that may run at once.
        links: shared links between two hosts, by (source, destination).
        senders: hosts that guests leave; None: any of them.
        receivers: hosts that they go to; None: any of them.
    """

    snapshots: t.Mapping[str, Snapshot]
    connect: t.Mapping[str, t.Mapping[str, t.Any]]
    working_sets: t.Sequence[t.Mapping[str, t.Any]] = ()
    calibration: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    tuned: bool = False
    slots: Slots = ONE_AT_A_TIME
    links: t.Mapping[tuple[str, str], tuple[str, ...]] = dataclasses.field(default_factory=dict)
    senders: int | None = None
    receivers: int | None = None

    def choice(self, guest: Domain, source: str, destination: str, intent: Intent) -> Choice:
        """Return the method for a move with its cost, or why it cannot be done as intended."""
        here, there = self.snapshots[source], self.snapshots[destination]
        guest = expected_deltas.with_expected(guest, there, intent)
        disks = [{**disk, "copy_bytes": disk["copy_bytes"] or 0} for disk in copied_disks.to_copy(guest, intent)]
        knowledge = self._knowledge(guest, source, destination)
        return appraise(guest, here, there, intent, knowledge, disks=disks).choice

    @functools.cached_property
    def measured(self) -> dict[str, t.Mapping[str, t.Any]]:
        """The newest working set of each guest that has one, by UUID."""
        in_order = sorted(self.working_sets, key=lambda document: str(document["taken_at"]))
        return {document["guest"]["uuid"]: document for document in in_order}

    def lessons(self, source: str, destination: str) -> t.Mapping[str, t.Any] | None:
        """Return what finished moves have taught about a path; None if there were none."""
        return ((self.calibration.get(source) or {}).get("paths") or {}).get(destination)

    def at_once(self, source: str, destination: str) -> int:
        """Return the most moves that may share a path, this one among them."""
        return self.slots.at_once(
            leaving=self._running.get(source, 0),
            senders=len(self.snapshots) - 1 if self.senders is None else self.senders,
            receivers=len(self.snapshots) - 1 if self.receivers is None else self.receivers,
            links=self.links.get((source, destination), ()),
        )

    @functools.cached_property
    def _running(self) -> dict[str, int]:
        """Guests that run, by host."""
        return {
            host: sum(not is_off(domain) for domain in snapshot.get("domains") or [])
            for host, snapshot in self.snapshots.items()
        }

    def bytes_per_s(self, source: str, destination: str) -> float | None:
        """Return a move's share of a path's bandwidth: learned, otherwise stated; None if unknown."""
        stated = stated_bytes_per_s(self.connect, source, destination)
        link = link_of(self.lessons(source, destination), stated)
        return None if link is None else link.bandwidth_bytes_per_s / self.at_once(source, destination)

    def _knowledge(self, guest: Domain, source: str, destination: str) -> Knowledge:
        learned = self.calibration.get(source) or {}
        return Knowledge(
            working_set=self.measured.get(guest["uuid"]),
            path=self.lessons(source, destination),
            guest=(learned.get("guests") or {}).get(guest["uuid"]),
            stated_bytes_per_s=stated_bytes_per_s(self.connect, source, destination),
            tuned=self.tuned,
            at_once=self.at_once(source, destination),
            other_paths=self._other_paths(source),
        )

    def _other_paths(self, source: str) -> list[t.Mapping[str, t.Any]]:
        """What moves from a host have taught about its paths; where there were none, moves from any host."""
        paths = {host: list((learned.get("paths") or {}).values()) for host, learned in self.calibration.items()}
        return paths.get(source) or [path for others in paths.values() for path in others]


def stated_bytes_per_s(connect: t.Mapping[str, t.Mapping[str, t.Any]], source: str, destination: str) -> float | None:
    """Return the bandwidth that the operator states for the slower end; None if nothing is stated."""
    ends = (connect.get(host) or {} for host in (source, destination))
    stated = [float(end["bandwidth_mib_s"]) * MIB for end in ends if end.get("bandwidth_mib_s")]
    return min(stated) if stated else None


def interface_bytes_per_s(snapshot: Snapshot, address: str | None) -> float | None:
    """Return the speed of the interface with this address; None if the host does not tell it."""
    for link in snapshot.get("links") or []:
        if address in [one.partition("/")[0] for one in link.get("addresses") or []] and link.get("speed_mbit"):
            return float(link["speed_mbit"]) * 1e6 / 8
    return None
