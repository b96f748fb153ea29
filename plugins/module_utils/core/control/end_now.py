# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Ends a pre-copy that does not converge, by the mildest that is permitted: post-copy, suspend, or an abort."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import JobState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction, abort
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import downtime_for, mib


def end_now(job: JobState, why: str, left_bytes: int) -> Reaction:
    """What ends it now.

    Args:
        job: the state of the job.
        why: why it does not end by itself, as the beginning of a sentence.
        left_bytes: what is left to be sent.
    """
    if job.can("start_postcopy"):
        return Reaction("start_postcopy", f"{why}; switching to post-copy")
    if job.can("suspend"):
        return Reaction("suspend", f"{why}; the guest is stopped to finish, as permitted")
    rate, decision = job.throughput.bytes_per_s, job.decision
    limit_ms = downtime_for(left_bytes, rate)
    if limit_ms is None:
        return _give_up(why, "a longer max_downtime_ms")
    needed_ms = decision.downtime_at(limit_ms)
    down = (
        f"{why}: at {mib(rate * decision.limit_cap_ms / decision.downtime_cap_ms)}/s it would be down for about"
        f" {needed_ms} ms, and the intent permits {decision.downtime_cap_ms} ms"
    )
    return _give_up(
        down, f"max_downtime_ms of at least {needed_ms * 5 // 4}" if needed_ms else "a longer max_downtime_ms"
    )


def _give_up(reason: str, longer: str) -> Reaction:
    return abort(
        "does_not_converge", reason, f"permit allow_postcopy, allow_suspend or {longer}, or give it a faster link"
    )
