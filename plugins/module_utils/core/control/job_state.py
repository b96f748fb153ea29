# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The state of a migration job: what its samples show, its downtime limit, and what it was asked to do so far."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Rounds, Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.throughput import Throughput
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision

#: An action that libvirt has refused so often is not asked for again.
ATTEMPTS = 3


class JobState:
    """The state of one migration job, as far as the control has to know it.

    Args:
        decision: how the guest is moved, and what is permitted.

    Attributes:
        decision: the same.
        throughput: how fast it goes.
        sync: the sync that the last sample shows; None where that shows none.
        limit_ms: the downtime limit in force.
        ending: what the job was asked to end by: C(start_postcopy), C(suspend) or C(abort); empty while it was not.
    """

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.throughput = Throughput()
        self.sync: Sync | None = None
        self._rounds = Rounds()
        self.limit_ms = self._limit_before_ms = decision.downtime_ms
        self.ending = self._ending_before = ""
        self._failures = {"raise_downtime": 0, "start_postcopy": 0, "suspend": 0, "abort": 0}

    def observe(self, sample: Sample) -> None:
        """One more sample."""
        self.throughput.add(sample)
        self.sync = self._rounds.add(sample, self.throughput.bytes_per_s, self.limit_ms)

    def can(self, action: str) -> bool:
        """Whether an action is permitted, and was not refused too often."""
        if action == "start_postcopy" and not self.decision.postcopy:
            return False
        if action == "suspend" and not self.decision.suspend:
            return False
        return self._failures[action] < ATTEMPTS

    @property
    def may_abort(self) -> bool:
        """Whether an abort leaves the guest running where it was. After the switch to post-copy it would lose it."""
        return self.ending in ("", "suspend")

    def fits(self, left_bytes: float) -> bool:
        """Whether so little is left that QEMU switches over at the limit in force."""
        rate = self.throughput.bytes_per_s
        return rate > 0 and left_bytes <= rate * self.limit_ms / 1000

    def ask(self, reaction: Reaction) -> None:
        """Note what the job is asked to do."""
        if reaction.action == "raise_downtime":
            self._limit_before_ms, self.limit_ms = self.limit_ms, reaction.downtime_ms
        elif reaction.action == "abort":
            self._ending_before, self.ending = self.ending, "abort"
        elif reaction.action in ("start_postcopy", "suspend"):
            self.ending = reaction.action

    def not_done(self, reaction: Reaction) -> None:
        """The job could not do that: as before, until too many attempts have failed."""
        if reaction.action not in self._failures:
            return
        self._failures[reaction.action] += 1
        if reaction.action == "abort":
            self.ending = self._ending_before
        elif reaction.action != "raise_downtime":
            self.ending = ""
        elif self.can("raise_downtime"):
            self.limit_ms = self._limit_before_ms
