# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What to do about a migration while it runs: a state machine that is fed with samples and has no clock of its own.

Of these, the first that holds decides:

1. The deadline has passed (C(deadline)), or nothing moves any more (C(stalled_link)).
2. The migration is ending: it was asked to switch to post-copy, to suspend the guest or to abort.
3. xbzrle does not help (C(xbzrle_check)).
4. A round has ended (C(sync_decision)).
5. A round is under way: the first pass shows the link (C(first_pass)).
"""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control import deadline
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.deviation import Deviations
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.first_pass import FirstPass
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import JobState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import Reforecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.round_rate import RoundRate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.stalled_link import (
    StalledLink,
    SuspendedGuest,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sync_decision import SyncDecision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.xbzrle_check import XbzrleCheck
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision


class Control:
    """Decides from samples whether a migration goes on as it is.

    Feed it with every sample, in order. It answers with a reaction or None, and expects the reaction to be carried out.

    Args:
        decision: how the guest is moved, and what is permitted.
        reforecast: the forecast, made anew in flight; None: judge by the rounds alone.
        may_restart: whether a migration that began with the wrong method may be aborted early, to begin anew.
        rate_rule: floor and ceiling in MiB/s, to send each round no faster than the guest's dirty rate asks for.
    """

    def __init__(
        self,
        decision: Decision,
        reforecast: Reforecast | None = None,
        *,
        may_restart: bool = True,
        rate_rule: tuple[int, int] | None = None,
    ) -> None:
        self._decision = decision
        self._job = JobState(decision)
        self._round_rate = RoundRate(rate_rule)
        self._stalled_link = StalledLink()
        self._suspended: SuspendedGuest | None = None
        #: The suspend that is asked for as soon as the rate is at its ceiling.
        self._next: Reaction | None = None
        deviations = Deviations(reforecast) if reforecast and not rate_rule else None
        self._first_pass = FirstPass(self._job, reforecast, deviations, may_restart=may_restart) if reforecast else None
        self._xbzrle = XbzrleCheck(self._job, reforecast) if decision.method == "xbzrle" else None
        self._at_sync = SyncDecision(self._job, self._round_rate, reforecast, deviations)

    @property
    def limit_ms(self) -> int:
        """The downtime limit in force."""
        return self._job.limit_ms

    def react(self, sample: Sample) -> Reaction | None:
        """Look at one sample and say what must be done, if anything."""
        self._job.observe(sample)
        wanted = deadline.passed(self._job, sample) or self._stalled_link.at(
            sample, may_give_up=self._may_give_up(), in_postcopy=self._job.ending == "start_postcopy"
        )
        if not wanted:
            wanted = self._while_ending(sample) if self._job.ending else self._while_running(sample)
        return self._ask(wanted, sample) if wanted else None

    def not_done(self, reaction: Reaction) -> None:
        """The reaction could not be carried out; it is wanted again, and after some attempts the next one instead."""
        if reaction.action == "change_speed":
            self._round_rate.not_done()
            return
        self._job.not_done(reaction)
        self._at_sync.not_done(reaction)

    def _may_give_up(self) -> bool:
        """Whether a dead link may end it. Where the guest runs, the deadline says how long to wait."""
        return self._job.may_abort and (self._job.ending == "suspend" or self._decision.deadline_s is None)

    def _while_ending(self, sample: Sample) -> Reaction | None:
        if self._job.ending != "suspend":
            return None
        return self._next or (self._suspended.at(sample) if self._suspended else None)

    def _while_running(self, sample: Sample) -> Reaction | None:
        sync = self._job.sync
        first_rate = None if sync else self._round_rate.first()
        if first_rate:
            return first_rate
        if self._xbzrle and self._xbzrle.is_useless(sample):
            return self._xbzrle.end(sample)
        if sync:
            return self._at_sync.at(sync)
        if self._first_pass is None or self._round_rate.is_active:
            return None
        return self._first_pass.at(sample)

    def _ask(self, wanted: Reaction, sample: Sample) -> Reaction:
        self._job.ask(wanted)
        if wanted.action == "suspend":
            faster = self._round_rate.before_suspend()
            self._next = wanted if faster else None
            if faster:
                return faster
            self._suspended = SuspendedGuest(sample, self._job.throughput.bytes_per_s)
        return wanted
