# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The deadline of a migration: has it passed, will it be missed, and what ends the migration in time?"""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.convergence import switchover_limit_ms
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import JobState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction, abort, raise_limit
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import RemainingForecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample, mib
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds

#: A forecast must miss the deadline by this factor before the migration is given up for it.
SURELY_LATE = 1.25


def seconds_left(decision: Decision, at_s: float) -> float | None:
    """Seconds until the deadline, below 0 after it; None where there is none."""
    return None if decision.deadline_s is None else decision.deadline_s - at_s


def passed(job: JobState, sample: Sample) -> Reaction | None:
    """The abort, once the deadline has passed."""
    deadline = job.decision.deadline_s
    if deadline is None or sample.at_s < deadline or not job.may_abort:
        return None
    return abort(
        "deadline",
        f"the deadline of {deadline} s has passed",
        "give it more time with deadline_s, more bandwidth, or permit post-copy with allow_postcopy",
    )


def surely_missed(decision: Decision, at_s: float, needed_s: float, bytes_per_s: float) -> Reaction | None:
    """The abort, where the migration needs so much longer that the deadline will surely be missed.

    Args:
        decision: has the deadline.
        at_s: seconds since the job was started.
        needed_s: seconds that it needs from now on.
        bytes_per_s: the rate of now.
    """
    left_s = seconds_left(decision, at_s)
    if left_s is None or needed_s <= SURELY_LATE * left_s:
        return None
    return abort(
        "deadline",
        f"at {mib(bytes_per_s)}/s it needs about {human_seconds(needed_s)} more, and the deadline of"
        f" {decision.deadline_s} s is in {human_seconds(max(0.0, left_s))}",
        "give it more time with deadline_s, or a faster link",
    )


def keep(job: JobState, sync: Sync, remaining: RemainingForecast | None, *, may_go_faster: bool) -> Reaction | None:
    """End a migration in time that would end too late, by what is permitted; or give it up before it costs more.

    Args:
        job: the state of the job.
        sync: of now.
        remaining: the forecast of the rest, or None where there is none.
        may_go_faster: whether later rounds may be sent faster than this one.
    """
    left_s = seconds_left(job.decision, sync.at_s)
    if remaining is None or left_s is None or remaining.seconds is None or remaining.seconds <= left_s:
        return None
    late = f"it would take about {human_seconds(remaining.seconds)} more, and the deadline is earlier"
    limit_ms = switchover_limit_ms(sync, job.decision.limit_cap_ms)
    if limit_ms is not None and limit_ms > job.limit_ms and job.can("raise_downtime"):
        return raise_limit(limit_ms, f"{late}; the downtime limit goes up to {limit_ms} ms")
    if job.can("start_postcopy"):
        return Reaction("start_postcopy", f"{late}; switching to post-copy")
    if job.can("suspend") and (may_go_faster or sync.left_bytes <= left_s * sync.bytes_per_s):
        return Reaction("suspend", f"{late}; the guest is stopped to finish, as permitted")
    # The seconds of a marginal guest are a guess, and only what remains now is sure.
    sure_s = remaining.seconds if remaining.verdict == "converges" else sync.left_bytes / sync.bytes_per_s
    return surely_missed(job.decision, sync.at_s, sure_s, sync.bytes_per_s)
