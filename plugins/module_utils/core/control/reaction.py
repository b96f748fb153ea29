# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the control tells the job of a running migration to do."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Reaction:
    """What the job must do now.

    Attributes:
        action: C(raise_downtime), C(change_speed), C(start_postcopy), C(suspend), C(abort), C(leave) or C(report).
        reason: why, in one sentence.
        downtime_ms: the new limit, for C(raise_downtime).
        code: stable name of why it was given up, for C(abort), or left to itself, for C(leave).
        remedy: what the operator can do, for both.
        speed_mib_s: the new cap on the rate in MiB/s, for C(change_speed).
    """

    action: str
    reason: str
    downtime_ms: int = 0
    code: str = ""
    remedy: str = ""
    speed_mib_s: int = 0


def abort(code: str, reason: str, remedy: str) -> Reaction:
    """End the migration; the guest keeps running where it was."""
    return Reaction("abort", reason, code=code, remedy=remedy)


def leave(code: str, reason: str, remedy: str) -> Reaction:
    """Touch nothing, and wait no longer for a migration that cannot be aborted and does not end."""
    return Reaction("leave", reason, code=code, remedy=remedy)


def raise_limit(limit_ms: int, reason: str) -> Reaction:
    """Give QEMU a higher downtime limit."""
    return Reaction("raise_downtime", reason, downtime_ms=limit_ms)


def report(text: str | None) -> Reaction | None:
    """Tell the operator something, if there is anything to tell."""
    return Reaction("report", text) if text else None
