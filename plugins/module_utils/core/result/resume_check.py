# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether a guest that a migration left paused may go on at its source, by what was seen of it at its destination."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Seen, Side, Verdict, quoted


@dataclasses.dataclass
class DestinationEvidence:
    """What was seen of a guest at its destination while it was under way.

    Attributes:
        reached: the guest was seen coming in there. One that was not may have been on its way to another host.
        ran: the guest was seen to run there, so it may have gone on from there.
        persistent: whatever runs there leaves a definition, which outlives a reboot of the destination.
        events: the stream of the destination's events from the start; None when there was none.
        handed_over: the guest was stopped at its source for the switchover; None where nobody watched that.
    """

    reached: bool = False
    ran: bool = False
    persistent: bool = False
    events: object | None = None
    handed_over: bool | None = None

    def add(self, there: Side) -> None:
        """One more look at the destination."""
        self.reached = self.reached or there.active
        self.ran = self.ran or there.state == "running"

    def seen(self) -> Seen:
        """What of it counts for the verdict."""
        return Seen(self.handed_over, self.ran)


def confirm_resume(
    step: t.Mapping[str, t.Any], verdict: Verdict, evidence: DestinationEvidence, in_sight: t.Callable[[], bool]
) -> Verdict:
    """The verdict C(resume_source) where the evidence supports it, or else C(unclear).

    Args:
        step: of the plan.
        verdict: C(resume_source), from both sides.
        evidence: of the destination.
        in_sight: whether the destination was in sight from the start. Asked only where it matters.
    """
    if not evidence.reached or evidence.ran:
        return may_be_elsewhere(step, verdict)
    if not evidence.persistent and not in_sight():
        return may_be_forgotten(step, verdict)
    return verdict


def may_be_elsewhere(step: t.Mapping[str, t.Any], verdict: Verdict, why: str = "") -> Verdict:
    """A guest that is paused at its source may still have gone on somewhere else, so nobody touches it.

    Args:
        why: what a third host says of it.
    """
    guest, source = step["guest"]["name"], step["source"]
    return Verdict(
        "unclear",
        f"{verdict.reason}, and it may have been on its way to another host, or have gone on from there"
        + (f" ({why})" if why else ""),
        f"see where it went (/var/log/libvirt/qemu/{guest}.log on {source}); only if it runs on no host, let it go on:"
        f" virsh resume {quoted(guest)} on {source}",
    )


def may_be_forgotten(step: t.Mapping[str, t.Any], verdict: Verdict) -> Verdict:
    """A guest without a definition leaves no trace at a destination that was rebooted, even if it ran there."""
    guest, source, target = step["guest"]["name"], step["source"], step["destination"]
    return Verdict(
        "unclear",
        f"{verdict.reason}, which keeps no definition of it, was out of sight meanwhile, and would have forgotten it in"
        f" a reboot; if it ran there, its memory on {source} is older than its disks",
        f"see how it ended on {target} (/var/log/libvirt/qemu/{guest}.log there); only after 'shutting down,"
        f" reason=failed' it never ran there, and may go on: virsh resume {quoted(guest)} on {source}",
    )
