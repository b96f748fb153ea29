# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What to do when a round has ended."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control import deadline
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.convergence import Assessment, convergence_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.deviation import Deviations
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.end_now import end_now
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import JobState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.planned_action import PlannedAction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction, raise_limit, report
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import Reforecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.round_rate import RoundRate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync, rounds_in_words
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import mib

#: What is left is next to nothing where it is so small a share of what the limit permits: the migration is over. QEMU
#: counts some such rounds at the end.
OVER_SHARE = 0.1
OVER_SYNCS = 10


class SyncDecision:
    """Decides at each sync of one migration.

    Args:
        job: the state of the job.
        round_rate: the rate of each round.
        reforecast: the forecast, made anew in flight; None: judge by the rounds alone.
        deviations: tells where the guest deviates from its forecast; None: nobody is told.
    """

    def __init__(
        self, job: JobState, round_rate: RoundRate, reforecast: Reforecast | None, deviations: Deviations | None
    ) -> None:
        self._job = job
        self._decision = job.decision
        self._round_rate = round_rate
        self._deviations = deviations
        self._convergence = convergence_of(job.decision.method, reforecast)
        self._planned = PlannedAction(job, reforecast)
        self._over_syncs = 0

    def at(self, sync: Sync) -> Reaction | None:
        """One more sync, and what must be done, if anything."""
        if self._is_over(sync):
            return None
        assessment = self._convergence.assess(sync, self._job.limit_ms, self._decision.limit_cap_ms)
        if self._job.fits(sync.left_bytes):
            # It ends by itself; but where it does not, round after round, it is not waited for.
            return self._follow(assessment, sync)
        remaining, may_go_faster = self._convergence.remaining, self._round_rate.may_rise
        return (
            self._planned.at(sync, remaining)
            or deadline.keep(self._job, sync, remaining, may_go_faster=may_go_faster)
            or self._follow(assessment, sync)
            or self._round_rate.next(sync)
            or report(self._deviations.of_guest(sync, remaining) if self._deviations and remaining else None)
        )

    def not_done(self, reaction: Reaction) -> None:
        """The reaction could not be carried out."""
        if reaction.action == "raise_downtime" and self._job.can("raise_downtime"):
            self._planned.raise_not_done()

    def _is_over(self, sync: Sync) -> bool:
        """Whether next to nothing is left; but not for ever."""
        if not self._job.fits(sync.left_bytes / OVER_SHARE):
            return False
        self._over_syncs += 1
        return self._over_syncs <= OVER_SYNCS

    def _follow(self, assessment: Assessment, sync: Sync) -> Reaction | None:
        """What the migration needs to converge, or what ends it otherwise."""
        if self._planned.is_ahead(sync):
            return None
        if self._round_rate.may_rise:
            # As long as the next round may be faster, this one proves nothing; only many of them do.
            without_gain = assessment.needs != "nothing" and not assessment.is_forecast
            return self._round_rate.stay_at_ceiling() if without_gain else None
        if assessment.needs == "higher_limit" and self._job.limit_ms < self._decision.limit_cap_ms:
            limit_ms = min(assessment.limit_ms, self._decision.limit_cap_ms)
            return raise_limit(limit_ms, f"{_left_in_words(assessment, sync)}; {self._raise_in_words(limit_ms)}")
        if assessment.needs == "end_now" and not self._planned.pays_to_wait(sync, self._convergence.remaining):
            return end_now(self._job, _left_in_words(assessment, sync), sync.left_bytes)
        return None

    def _raise_in_words(self, limit_ms: int) -> str:
        at_most = limit_ms == self._decision.limit_cap_ms
        up_to = f"what the intent permits, {limit_ms} ms" if at_most else f"{limit_ms} ms"
        down_ms = self._decision.downtime_at(limit_ms)
        uncapped = "" if down_ms == limit_ms else f" (down for {down_ms} ms, as the last copy is not capped)"
        return f"the downtime limit goes up to {up_to}{uncapped}"


def _left_in_words(assessment: Assessment, sync: Sync) -> str:
    """What stands in the way."""
    if assessment.is_forecast:
        gone_by = rounds_in_words(sync.iteration - 1)
        return f"{mib(sync.left_bytes)} are left after {gone_by}, and further rounds would not end the move"
    if assessment.needs == "higher_limit":
        return f"{mib(sync.left_bytes)} are left after every round"
    return f"{mib(sync.left_bytes)} are dirtied again in every round"
