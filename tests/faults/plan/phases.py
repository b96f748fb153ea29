# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The phases of a move: what shows that one has begun, and that it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Details of libvirt's event "suspended": for the switchover, and for post-copy.
SUSPENDED_MIGRATED = 1
SUSPENDED_POSTCOPY = 7


@dataclass(frozen=True)
class Mark:
    """What shows on the source host that a phase has begun: a line of the journal or the progress, or libvirt's word.

    Attributes:
        event: of the journal.
        least_iteration: the line is about this round or a later one.
        progress: a phase in the progress file, where the journal says nothing.
        suspended: the detail of libvirt's event, where only libvirt knows.
    """

    event: str = ""
    least_iteration: int = 0
    progress: str = ""
    suspended: int = 0

    def wanted(self) -> dict[str, Any]:
        """The mark as the watcher on the host takes it."""
        return {key: value for key, value in vars(self).items() if value}


@dataclass(frozen=True)
class Phase:
    """A part of a move during which a fault may strike.

    Attributes:
        name: as the tables have it.
        begins: what shows that it has begun; None: before the run is started.
        over: events of the journal, each of which shows that it is over.
        what: in words.
        source: the host that is drained.
        guest: whose move it is; None: the first that moves.
        link_mbit: the rate of the source's link until the fault is there; 0: as fast as it is.
        hold: whether our own job is stopped until the fault is there, as the phase is short and the job's own.
        intent: what the move may cost.
        times: how often each case of it runs.
    """

    name: str
    begins: Mark | None
    over: tuple[str, ...] = ()
    what: str = ""
    source: str = "h1"
    guest: str | None = "mover"
    link_mbit: float = 0
    hold: bool = False
    intent: Mapping[str, Any] = field(default_factory=dict)
    times: int = 1


SLOW_MBIT = 60
#: A long switchover: the hot memory is sent while the guest stands still.
LONG_DOWNTIME_MS = 5000
#: Over the slow link every guest is down for 0.24 s at least, and this one, with its hot memory, for over a second.
POSTCOPY_DOWNTIME_MS = 400

PHASES = (
    Phase("before", None, (), "before the run begins"),
    Phase(
        "set-up",
        Mark(event="step.started"),
        ("migration.started",),
        "both sides are looked at, nothing is sent",
        hold=True,
    ),
    Phase(
        "set-up of disks",
        Mark(event="step.started"),
        ("migration.started",),
        "the same, of a guest whose disk goes along",
        source="h2",
        guest="disky",
        hold=True,
        intent={"allow_storage_copy": True},
    ),
    Phase(
        "disk mirror",
        Mark(progress="disks"),
        ("migration.completed", "migration.failed", "migration.switchover"),
        "a disk is copied while its guest writes",
        source="h2",
        guest="disky",
        link_mbit=SLOW_MBIT,
        intent={"allow_storage_copy": True},
    ),
    Phase(
        "first pass",
        Mark(progress="pre-copy"),
        ("migration.iteration", "migration.switchover", "migration.completed", "migration.failed"),
        "all memory is sent for the first time",
        guest=None,
        link_mbit=SLOW_MBIT,
    ),
    Phase(
        "later round",
        Mark(event="migration.iteration", least_iteration=2),
        ("migration.switchover", "migration.completed", "migration.failed"),
        "what was written meanwhile is sent again",
        link_mbit=SLOW_MBIT,
    ),
    Phase(
        "switchover",
        Mark(suspended=SUSPENDED_MIGRATED),
        ("migration.switchover", "migration.completed", "migration.failed"),
        "the guest stands still, and the rest is sent",
        link_mbit=SLOW_MBIT,
        intent={"max_downtime_ms": LONG_DOWNTIME_MS},
        times=3,
    ),
    Phase(
        "post-copy",
        Mark(suspended=SUSPENDED_POSTCOPY),
        ("migration.completed", "migration.failed"),
        "it runs at the destination, and its memory follows",
        link_mbit=SLOW_MBIT,
        intent={"allow_postcopy": True, "max_downtime_ms": POSTCOPY_DOWNTIME_MS},
        times=3,
    ),
    Phase(
        "verify",
        Mark(event="migration.completed"),
        ("step.verified",),
        "both sides are asked where it is",
        hold=True,
    ),
    Phase(
        "hand-over",
        Mark(event="step.verified"),
        ("step.finished",),
        "what libvirt does not take along is set at the destination",
        hold=True,
    ),
    Phase("any second", None, (), "wherever the run is by then"),
)
BY_NAME = {phase.name: phase for phase in PHASES}


def phase(name: str) -> Phase:
    """Return a phase by its name."""
    return BY_NAME[name]
