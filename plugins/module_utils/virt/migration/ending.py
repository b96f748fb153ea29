# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: how a migration call ended, as libvirt and the events of both hosts tell.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.observation import Observation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction


@dataclasses.dataclass
class Switchover:
    """When the guest stopped at its source and went on at its destination, in monotonic seconds; None: not seen."""

    stopped_at: float | None = None
    resumed_at: float | None = None

    @property
    def downtime_ms(self) -> int | None:
        """The time between both, or None. In post-copy this figure is right, and libvirt's is not."""
        if self.stopped_at is None or self.resumed_at is None:
            return None
        return max(0, round(1000 * (self.resumed_at - self.stopped_at)))


@dataclasses.dataclass
class MigrationEnding:
    """How a migration call ended.

    Attributes:
        error: what libvirt said, or None when it reports success.
        error_code: libvirt's error number.
        abort_reaction: the reaction that aborted it, if it was aborted on purpose, or that left it to itself.
        suspended: whether the guest was stopped so that the migration can finish.
        postcopy: whether it switched to post-copy.
        maybe_postcopy: whether it switched to post-copy, or may have.
        statistics: libvirt's final job statistics, empty when there are none.
        switchover: when the guest stopped and went on.
        handed_over: whether it was stopped for the switchover.
        reached: whether the guest was seen coming in at the destination.
        iterations: rounds seen.
        memory_bytes: the last figure seen of memory sent.
        disk_bytes: the last figure seen of disks sent; libvirt's final statistics know nothing of them.
        elapsed_s: seconds from the start of the call to its end.
        after_s: seconds from when the guest ran at its destination to the end of the call; None when nobody saw that.
        observation: what its samples teach.
        shared_link: whether other moves used the link at the same time.
    """

    error: str | None = None
    error_code: int | None = None
    abort_reaction: Reaction | None = None
    suspended: bool = False
    postcopy: bool = False
    maybe_postcopy: bool = False
    statistics: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    switchover: Switchover = dataclasses.field(default_factory=Switchover)
    handed_over: bool = False
    reached: bool = False
    iterations: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    elapsed_s: float = 0.0
    after_s: float | None = None
    observation: Observation = dataclasses.field(default_factory=Observation)
    shared_link: bool = False

    @property
    def bytes(self) -> int:
        """Bytes on the wire, as libvirt counted them."""
        return max(int(self.statistics.get("memory_processed", 0)), self.memory_bytes) + self.disk_bytes

    @property
    def downtime_ms(self) -> int | None:
        """How long the guest stood still, or None when nobody saw it.

        In pre-copy libvirt's own figure, which agrees with an outside probe within 10 ms; in post-copy libvirt counts
        only to the hand-over and reports 2-4 ms for 70-80, so there it is the gap between both sides' events.
        """
        reported, seen = self.statistics.get("downtime"), self.switchover.downtime_ms
        if self.postcopy or reported is None:
            return seen
        # A guest that was suspended stood still before the switchover as well.
        return max(int(reported), seen or 0) if self.suspended else int(reported)
