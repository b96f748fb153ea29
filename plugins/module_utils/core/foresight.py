# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a whole plan will cost: measurements and lessons of all hosts, put to each move of it."""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import copied_disks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.appraisal import Knowledge, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.calibration import link_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.choice import Choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB


@dataclasses.dataclass(frozen=True)
class Foresight:
    """Forecasts any move between hosts of a cluster.

    Attributes:
        snapshots: every host by name.
        connect: how each host is reached, by name; C(bandwidth_mib_s) is what the operator says that its link gives.
        working_sets: documents C(kvmops.working_set/1), the newest of each guest; a guest without one was not measured.
        calibration: what finished moves taught each source, by name, each with C(guests) by UUID and C(paths) by
            destination.
        tuned: whether what waits unsent in a move's connection is bounded (core/send_buffer.py).
    """

    snapshots: t.Mapping[str, Snapshot]
    connect: t.Mapping[str, t.Mapping[str, t.Any]]
    working_sets: t.Sequence[t.Mapping[str, t.Any]] = ()
    calibration: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    tuned: bool = False

    def choice(self, guest: Domain, source: str, destination: str, intent: Intent) -> Choice:
        """The way to move a guest from one host to another, what that costs, or why it cannot be done as intended."""
        disks = [disk for disk in copied_disks.to_copy(guest, intent) if disk["copy_bytes"]]
        knowledge = self._knowledge(guest, source, destination)
        here, there = self.snapshots[source], self.snapshots[destination]
        return appraise(guest, here, there, intent, knowledge, disks=disks).choice

    @functools.cached_property
    def measured(self) -> dict[str, t.Mapping[str, t.Any]]:
        """The newest working set of each guest that has one, by UUID."""
        in_order = sorted(self.working_sets, key=lambda document: str(document["taken_at"]))
        return {document["guest"]["uuid"]: document for document in in_order}

    def lessons(self, source: str, destination: str) -> t.Mapping[str, t.Any] | None:
        """What finished moves have taught about a path; None where there were none."""
        return ((self.calibration.get(source) or {}).get("paths") or {}).get(destination)

    def bytes_per_s(self, source: str, destination: str) -> float | None:
        """What a path gives, as learned, else as stated; None where nobody knows."""
        stated = stated_bytes_per_s(self.connect, source, destination)
        link = link_of(self.lessons(source, destination), stated)
        return None if link is None else link.bandwidth_bytes_per_s

    def _knowledge(self, guest: Domain, source: str, destination: str) -> Knowledge:
        learned = self.calibration.get(source) or {}
        return Knowledge(
            working_set=self.measured.get(guest["uuid"]),
            path=self.lessons(source, destination),
            guest=(learned.get("guests") or {}).get(guest["uuid"]),
            stated_bytes_per_s=stated_bytes_per_s(self.connect, source, destination),
            tuned=self.tuned,
        )


def stated_bytes_per_s(connect: t.Mapping[str, t.Mapping[str, t.Any]], source: str, destination: str) -> float | None:
    """What the operator says that the slower one of both ends gives, or None where nobody says anything."""
    ends = (connect.get(host) or {} for host in (source, destination))
    stated = [float(end["bandwidth_mib_s"]) * MIB for end in ends if end.get("bandwidth_mib_s")]
    return min(stated) if stated else None


def value_of(band: t.Mapping[str, t.Any] | None) -> float | None:
    """The likely value of a band of a forecast; None where there is none."""
    value = (band or {}).get("value")
    return None if value is None else float(value)
