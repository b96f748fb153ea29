# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether a method keeps the operator's intent, as far as its forecast can tell."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_milliseconds, human_seconds

Outcome = t.Mapping[str, t.Any]
#: A throttle freezes a guest many times, so each time may only be so small a share of a downtime that comes once.
FREEZE_SHARE = 0.2


def breaks(name: str, outcome: Outcome, intent: Intent) -> str | None:
    """Why a method does not keep the intent, as far as that is certain; None when it may."""
    return does_not_end(name, outcome, intent) or exceeds(outcome, intent)


def does_not_end(name: str, outcome: Outcome, intent: Intent) -> str | None:
    """Why a method does not end with the downtime that is accepted, or None when it may."""
    never, down_ms = outcome["verdict"] == "never", outcome["downtime_ms"]["value"]
    # allow_suspend says that the guest may be stopped to finish, for as long as that takes.
    if name == "suspend" and down_ms is not None:
        return None
    cap_ms = intent["max_downtime_ms"]
    # The limit is raised to what is likely, so a better case does not make the downtime shorter.
    if down_ms is not None and down_ms > cap_ms and (never or name == "raise-downtime"):
        return f"it keeps the guest down for {human_milliseconds(down_ms)}, and {cap_ms} ms are accepted"
    if never:
        why = str(outcome["reason"])
        return f"{why}, which is not enough" if name in ("parallel-zstd", "xbzrle") else why
    return None


def exceeds(outcome: Outcome, intent: Intent) -> str | None:
    """What of the intent beside the downtime a method does not keep, or None."""
    late = _late(outcome["total_s"], intent["deadline_s"])
    if late:
        return late
    slowdown, lost_pct = intent["max_slowdown_pct"], slowdown_pct(outcome)
    if slowdown is not None and lost_pct is not None and lost_pct > slowdown:
        return f"it costs the guest {lost_pct:.0f} % of its work while it moves, and {slowdown} % are accepted"
    freeze_ms = outcome["settings"].get("freeze_ms")
    if freeze_ms and freeze_ms > FREEZE_SHARE * intent["max_downtime_ms"]:
        return f"the throttle it needs freezes the guest for {freeze_ms} ms at a time"
    return None


def _late(total_s: t.Mapping[str, t.Any], deadline: float | None) -> str | None:
    """Why a method does not keep the deadline, or None. Where nobody knows whether it ends, its least time counts."""
    if deadline is None:
        return None
    seconds, least, worst = total_s["value"], total_s["low"], total_s["high"]
    if seconds is None:
        late = least is not None and least > deadline
        return f"it takes {_exact(least)} or more, and the deadline is {deadline} s" if late else None
    if (worst or seconds) <= deadline:
        return None
    at_worst = f", or {_exact(worst)} at worst" if worst and _exact(worst) != _exact(seconds) else ""
    return f"it takes {_exact(seconds)}{at_worst}, and the deadline is {deadline} s"


def _exact(seconds: float) -> str:
    """A time beside another one that is nearly the same."""
    return f"{seconds:.1f} s" if seconds < 60 else human_seconds(seconds)


def slowdown_pct(outcome: Outcome) -> float | None:
    """Work that the guest does not get done while it runs and moves, in per cent; None when nobody knows.

    The downtime has a limit of its own and does not count.
    """
    seconds, lost = outcome["total_s"]["value"], outcome["work_lost_s"]["value"]
    if not seconds or lost is None:
        return None
    return float(max(0.0, 100 * (lost - outcome["downtime_ms"]["value"] / 1000) / seconds))
