# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The first pass shows the link: whether method and deadline can be kept over it at all."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control import deadline
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.deviation import Deviations
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import JobState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.other_methods import Feasibility, feasibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction, abort, report
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import Reforecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample, mib

#: While so much of the first pass has been sent, the link is known and a new start costs less than the wrong method.
RESTART_SHARES = (0.1, 0.3)
#: A link that is too slow for every method gets a little longer to become faster.
GIVE_UP_SHARES = (0.25, 0.5)


class FirstPass:
    """Judges the link of one migration during its first pass.

    Args:
        job: the state of the job.
        reforecast: the forecast, made anew in flight.
        deviations: tells of a slow link; None: nobody is told.
        may_restart: whether the migration may be aborted to begin anew with another method.
    """

    def __init__(
        self, job: JobState, reforecast: Reforecast, deviations: Deviations | None, *, may_restart: bool
    ) -> None:
        self._job = job
        self._reforecast = reforecast
        self._deviations = deviations
        self._may_restart = may_restart
        self._may_give_up = True

    def at(self, sample: Sample) -> Reaction | None:
        """One more sample; later rounds say nothing here, nor does a link of which too little has been seen."""
        link_rate = self._job.throughput.link_bytes_per_s
        if sample.iteration > 1 or link_rate is None:
            return None
        return (
            self._too_late(sample, link_rate)
            or self._too_slow(sample, link_rate)
            or report(self._deviations.of_link(sample, link_rate, self._job.limit_ms) if self._deviations else None)
        )

    def _too_late(self, sample: Sample, link_rate: float) -> Reaction | None:
        if self._job.decision.deadline_s is None:
            return None
        needed_s = self._reforecast.least_seconds(sample.processed_bytes, link_rate)
        return deadline.surely_missed(self._job.decision, sample.at_s, needed_s, link_rate)

    def _too_slow(self, sample: Sample, link_rate: float) -> Reaction | None:
        """Each of the two questions is asked once."""
        if not self._reforecast.is_slow(link_rate):
            return None
        sent_share = self._reforecast.first_pass_share(sample.processed_bytes)
        if self._may_restart and RESTART_SHARES[0] <= sent_share <= RESTART_SHARES[1]:
            self._may_restart = False
            return self._restart(self._over_this_link(sample, link_rate), link_rate)
        if self._may_give_up and GIVE_UP_SHARES[0] <= sent_share <= GIVE_UP_SHARES[1]:
            self._may_give_up = False
            return self._give_up(self._over_this_link(sample, link_rate), link_rate)
        return None

    def _over_this_link(self, sample: Sample, link_rate: float) -> Feasibility:
        return feasibility(self._reforecast, link_rate, deadline.seconds_left(self._job.decision, sample.at_s))

    def _restart(self, found: Feasibility, link_rate: float) -> Reaction | None:
        better = found.other_method
        if better is None:
            return None
        return abort(
            "wrong_method",
            f"{self._reforecast.rate_in_words(link_rate)}: {self._job.decision.method} cannot keep the intent over it,"
            f" {better} can",
            f"run it again: the speed of the link is known now; without {better}, give it a faster link",
        )

    def _give_up(self, found: Feasibility, link_rate: float) -> Reaction | None:
        if found.keeps_intent or found.other_method:
            return None
        faster = f" of {mib(found.needed_bytes_per_s)}/s" if found.needed_bytes_per_s else ""
        return abort(
            "does_not_converge",
            f"{self._reforecast.rate_in_words(link_rate)}: at this rate, no permitted method moves this guest",
            f"permit allow_postcopy, allow_suspend or a longer max_downtime_ms, or give it a link{faster}",
        )
