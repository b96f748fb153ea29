# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the chosen method is named after (raise the limit, post-copy, suspend), and the round at which it is time."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.convergence import switchover_limit_ms
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import JobState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction, raise_limit
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import (
    Reforecast,
    RemainingForecast,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync, rounds_in_words
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import mib

#: A guest of which so much less remains than was forecast dirties less than it did.
CALMER_SHARE = 0.67
#: One more round is cheap where it sends so small a share of all that was sent; it pays where it leaves so little.
CHEAP_SHARE = 0.05
GAIN_SHARE = 0.6
#: Where the guest stands still for what is left, more is worth waiting for.
CHEAP_SHARE_SUSPENDED = 0.25
GAIN_SHARE_SUSPENDED = 0.8
#: So many rounds are waited for in all.
WAITS = 2


class PlannedAction:
    """Decides at each sync whether it is time for what the method is named after.

    Args:
        job: the state of the job.
        reforecast: the forecast, made anew in flight, or None.
    """

    def __init__(self, job: JobState, reforecast: Reforecast | None) -> None:
        self._job = job
        self._reforecast = reforecast
        self._is_raised = False
        self._waits = 0

    def is_ahead(self, sync: Sync) -> bool:
        """Whether the round for it is still to come."""
        after = self._job.decision.after_rounds
        return after is not None and not self._is_raised and sync.iteration <= after

    def at(self, sync: Sync, remaining: RemainingForecast | None) -> Reaction | None:
        """The planned action, if it is time.

        Args:
            sync: of now.
            remaining: the forecast of the rest, or None where there is none.
        """
        after = self._job.decision.after_rounds
        if after is None or self._is_raised or sync.iteration <= after:
            return None
        if self._ends_by_itself(sync, remaining) or self.pays_to_wait(sync, remaining):
            return None
        left = f"{mib(sync.left_bytes)} are left after {rounds_in_words(sync.iteration - 1)}"
        method = self._job.decision.method
        if method == "raise-downtime" and self._job.can("raise_downtime"):
            limit_ms = switchover_limit_ms(sync, self._job.decision.limit_cap_ms)
            if limit_ms is None or limit_ms <= self._job.limit_ms:
                return None
            self._is_raised = True
            return raise_limit(limit_ms, f"{left}; as planned, the downtime limit goes up to {limit_ms} ms")
        if method == "post-copy" and self._job.can("start_postcopy"):
            return Reaction("start_postcopy", f"{left}; switching to post-copy, as planned")
        if method == "suspend" and self._job.can("suspend"):
            return Reaction("suspend", f"{left}; the guest is stopped to finish, as planned")
        return None

    def raise_not_done(self) -> None:
        """The limit could not be raised: it is planned again."""
        self._is_raised = False

    def pays_to_wait(self, sync: Sync, remaining: RemainingForecast | None) -> bool:
        """Whether one more round costs little and leaves much less. The rounds that are waited for are counted."""
        if remaining is None or self._waits >= WAITS:
            return False
        suspends = not self._job.can("start_postcopy") and self._job.can("suspend")
        cheap, gain = (CHEAP_SHARE_SUSPENDED, GAIN_SHARE_SUSPENDED) if suspends else (CHEAP_SHARE, GAIN_SHARE)
        pays = remaining.next_bytes <= gain * sync.left_bytes and sync.left_bytes <= cheap * sync.sent_bytes
        self._waits += 1 if pays else 0
        return pays

    def _ends_by_itself(self, sync: Sync, remaining: RemainingForecast | None) -> bool:
        """Whether the guest dirties so much less by now that it surely ends without help."""
        expected = self._reforecast.expected_left(sync.iteration) if self._reforecast else None
        if remaining is None or remaining.verdict != "converges" or expected is None:
            return False
        return sync.left_bytes < CALMER_SHARE * expected
