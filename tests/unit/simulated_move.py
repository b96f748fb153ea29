# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A migration as QEMU runs it, in chunks of memory, which obeys the control: what no recording can do.

The guest rewrites its hot memory in a circle, at a rate that may change while it moves. QEMU sends in the order of
addresses, looks at what remains every 50 ms, and collects dirty pages when that is below the limit.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision

MIB = 1 << 20
#: Memory is counted in chunks of this size, time in steps of this length.
CHUNK = 256 << 10
STEP_S = 0.010
LOOK_S = 0.050
POLL_S = 0.25
#: No test waits longer than this, in the guest's time.
PATIENCE_S = 400.0


@dataclasses.dataclass(frozen=True)
class Phase:
    """From a moment on (in seconds of the move): so much memory rewritten in a circle, at so many bytes per second."""

    from_s: float
    hot_mib: float
    mib_per_s: float


def measured(hot_mib: float, mib_per_s: float, *, touched_mib: float = 230, **known) -> dict:
    """The working set of a guest that does that and nothing else."""
    hot, rate = hot_mib * MIB, mib_per_s * MIB
    windows = (0.1, 0.3, 1.0, 3.0, 10.0)
    return {
        "schema": "kvmops.working_set/1",
        "guest": {"name": "web1", "uuid": "u"},
        "taken_at": "2026-11-24T02:00:00Z",
        "method": "qmp",
        "samples_per_gib": 4096,
        "memory_bytes": 384 * MIB,
        "touched_bytes": int(touched_mib * MIB),
        "touched_how": "balloon",
        "touched_error": 0.02,
        "points": [
            {"window_s": one, "dirtied_bytes": int(min(hot, rate * one)), "sd_bytes": 0, "repeats": 1}
            for one in windows
        ],
        "fit": None,
        "vcpu_utilisation": 0.04,
        "compressed_share": None,
        "sparse": None,
        "disk_write_bytes_per_s": 0,
        "unusual": None,
        "sentence": "",
        **known,
    }


def decision(**changes) -> Decision:
    given = {
        "name": changes.get("method", "pre-copy"),
        "reason": "because",
        "flags": (),
        "parameters": {},
        "downtime_ms": 30,
        "downtime_cap_ms": 500,
        "postcopy": False,
        "suspend": False,
        "deadline_s": None,
    }
    return Decision(**{**given, **changes})


class Move:
    """One move of a guest that touches so much memory, over a link of so many bytes per second.

    Attributes:
        reactions: (round, seconds, reaction), in order.
        ended: C(converged), C(start_postcopy), C(suspend), C(abort), or None when the patience of the test ended.
        sent_bytes, at_s, down_s: figures of the end.
        syncs: (round, seconds, bytes that remained).
    """

    def __init__(
        self, control: Control, *phases: Phase, bytes_per_s: float = 23_900_000, touched_mib: float = 230, obey=True
    ) -> None:
        self.control = control
        self.phases = phases
        self.bytes_per_s = self.full_bytes_per_s = bytes_per_s
        self.obeys = obey
        self.reactions = []
        self.syncs = []
        self.ended = None
        self.at_s = self.sent_bytes = self.down_s = 0.0
        self.iteration = 1
        self.limit_ms = control.limit_ms
        self._chunks = int(touched_mib * MIB) // CHUNK
        self._pending = set(range(self._chunks))
        self._dirty: set[int] = set()
        self._written = self._credit = 0.0
        self._position = 0

    def run(self):
        look_at, poll_at = LOOK_S, POLL_S
        while self.ended is None and self.at_s < PATIENCE_S:
            self.at_s += STEP_S
            self._write()
            self._send()
            if self.at_s >= look_at:
                look_at = self.at_s + LOOK_S
                self._look()
            if self.ended is None and self.at_s >= poll_at:
                poll_at = self.at_s + POLL_S
                self._sample()
        return self

    @property
    def actions(self):
        return [reaction.action for _round, _at_s, reaction in self.reactions]

    def first(self, action):
        """Round, seconds and reaction of the first one of that kind."""
        return next(one for one in self.reactions if one[2].action == action)

    @property
    def _left(self):
        return len(self._pending) * CHUNK

    def _write(self):
        phase = next((one for one in reversed(self.phases) if self.at_s >= one.from_s), None)
        if phase is None or phase.hot_mib <= 0:
            return
        before, self._written = int(self._written), self._written + phase.mib_per_s * MIB * STEP_S / CHUNK
        chunks = max(1, int(phase.hot_mib * MIB) // CHUNK)
        self._dirty.update(number % chunks for number in range(before, int(self._written)))

    def _send(self):
        self._credit += self.bytes_per_s * STEP_S / CHUNK
        count = min(int(self._credit), len(self._pending))
        self._credit -= int(self._credit)
        if self._pending:
            self.sent_bytes += self.bytes_per_s * STEP_S
        # The scan goes round.
        while count:
            if self._position in self._pending:
                self._pending.discard(self._position)
                count -= 1
            self._position = (self._position + 1) % self._chunks

    def _look(self):
        allowed = self.bytes_per_s * self.limit_ms / 1000
        if self._left > allowed:
            return
        self._pending |= self._dirty
        self._dirty.clear()
        if self._left <= allowed:
            self.ended, self.down_s = "converged", self._left / self.full_bytes_per_s
            return
        self.iteration += 1
        self.syncs.append((self.iteration, self.at_s, self._left))
        self._sample()

    def _sample(self):
        sample = Sample(self.at_s, self.iteration, self._left, int(self.sent_bytes), int(self.bytes_per_s))
        reaction = self.control.react(sample)
        if reaction is None:
            return
        self.reactions.append((self.iteration, self.at_s, reaction))
        if not self.obeys:
            return
        if reaction.action == "raise_downtime":
            self.limit_ms = reaction.downtime_ms
        elif reaction.action == "change_speed":
            self.bytes_per_s = min(self.full_bytes_per_s, reaction.speed_mib_s * MIB)
        elif reaction.action in ("start_postcopy", "suspend", "abort"):
            self.ended = reaction.action
            self.down_s = self._left / self.full_bytes_per_s if reaction.action == "suspend" else 0.0
