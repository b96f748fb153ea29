# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a plan must keep to, and what is known about moving each guest."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.placement_rules import Rule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.path_refusals import PathRefusals
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import Choice


class Expected(t.NamedTuple):
    """What is known of moving one guest: from its forecast and working set, as far as there are any.

    Attributes:
        seconds: how long it takes, alone on its link.
        bytes: what goes over the wire; None: its memory.
        cpus: how many CPUs it really uses.
        is_risky: its move may fail or keep it down for too long.
    """

    seconds: float | None = None
    bytes: int | None = None
    cpus: float | None = None
    is_risky: bool = False


NOTHING_EXPECTED = Expected()
NOTHING: t.Mapping[t.Any, t.Any] = {}
#: Forecasts the move of a guest from a source to a destination with an intent.
Appraise = t.Callable[[Domain, str, str, Intent], Choice]


class Constraints(t.NamedTuple):
    """What a plan must keep to.

    Attributes:
        snapshots: every host that plays a part, by name.
        intent: the run's, as the operator stated it.
        reserve_bytes: memory that stays free on every destination.
        vcpu_ratio: virtual CPUs that may be promised for each physical one; None: any number.
        paths: what the paths say against moves (core/paths.py).
        excluded: UUIDs of guests to leave alone.
        expected: what is known of moving each guest, by UUID.
        pressure: share of time for which something waits for a CPU, by host (PSI).
        may_downgrade: guests may go to hosts with an older QEMU.
        rules: on which hosts guests may run, beside what their metadata says, by UUID.
        controller_uuids: what the machine that runs the controller says that its UUID is.
        refused_guests: guests that no way of moving can serve as they are meant to be, with the refusals, by UUID.
        appraise: forecasts each step; None: nothing is forecast.
    """

    snapshots: t.Mapping[str, Snapshot]
    intent: Intent = NOTHING
    reserve_bytes: int = 0
    vcpu_ratio: float | None = None
    paths: PathRefusals = NOTHING
    excluded: t.Collection[str] = ()
    expected: t.Mapping[str, Expected] = {}
    pressure: t.Mapping[str, float] = {}
    may_downgrade: bool = False
    rules: t.Mapping[str, t.Sequence[Rule]] = NOTHING
    controller_uuids: t.Collection[str] = ()
    refused_guests: t.Mapping[str, t.Sequence[Refusal]] = NOTHING
    appraise: Appraise | None = None
