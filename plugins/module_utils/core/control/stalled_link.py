# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A link over which nothing, or next to nothing, goes any more."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction, abort, leave, report
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample, mib

#: Statistics that stand still for so long mean a dead link. libvirt itself notices after 30 s, where it notices.
STALLED_S = 5.0
#: After so long a dead link is given up, unless a deadline says how long to wait.
GIVE_UP_S = 90.0
#: Once disks have begun to flow, they stand still for so long only where the link or the destination's storage does.
DISKS_STALLED_S = 20.0
#: Before the first byte, a destination may clear huge pages or make disk images, which takes its time.
SET_UP_STALLED_S = 60.0
SET_UP_GIVE_UP_S = 1800.0
#: The kernel gives up a silent connection after a quarter of an hour (tcp_retries2). Where a post-copy goes on even
#: then, libvirt has missed its end: seen of libvirt 12.8 with a QEMU whose state postcopy-device it does not know.
POSTCOPY_LEAVE_S = 1800.0
#: A suspended guest goes on where it was where, for so long as C(GIVE_UP_S), the link gives less than this share of the
#: rate before.
LEAST_SHARE = 0.1

MEND = "repair the link between the two hosts, then run it again; the guest keeps running where it was"
MEND_DISKS = (
    "repair the link between the two hosts, and see whether the storage of the destination works, then run it again;"
    " the guest keeps running where it was"
)
MEND_SET_UP = (
    "check what libvirt at the destination is busy with, and repair the link between the two hosts; the guest keeps "
    "running where it was"
)


class _Phase(t.NamedTuple):
    """What standing still means in a phase of a migration.

    Attributes:
        report_s, give_up_s: after how long it is told, and given up.
        words: what has stood still, with the seconds.
        question: what to ask an operator.
        mend: what to do.
        again_s: it is told again after so long.
    """

    report_s: float
    give_up_s: float
    words: str
    question: str
    mend: str
    again_s: float = math.inf


_MEMORY = _Phase(STALLED_S, GIVE_UP_S, "no data was sent for {:.0f} s", "is the link up?", MEND)
_DISKS = _Phase(
    DISKS_STALLED_S,
    GIVE_UP_S,
    "nothing of its disks was sent for {:.0f} s",
    "is the link up, and is there room at the destination?",
    MEND_DISKS,
)
_SET_UP = _Phase(
    SET_UP_STALLED_S,
    SET_UP_GIVE_UP_S,
    "no data was sent for {:.0f} s, and no memory has been sent yet",
    "is the destination busy, or the link down?",
    MEND_SET_UP,
)

#: Nothing else ends a post-copy whose link is silent, and an abort would lose the guest.
_POSTCOPY = _Phase(
    STALLED_S,
    math.inf,
    "no data was sent for {:.0f} s",
    "is the link up? Each host has a part of the guest's memory, and the guest waits for the link. It goes on by itself"
    " if the link is back before the kernel gives the connection up, after a quarter of an hour at most",
    "repair the link between the two hosts at once",
    again_s=60.0,
)


#: A libvirt that starts at the source asks QEMU how the post-copy is. One that starts at the destination may end a
#: guest of which it does not know that it has arrived (seen with 11.3).
MEND_POSTCOPY = (
    "destroy neither side, and do not restart libvirt at the destination, which could end the guest; repair the link,"
    " restart libvirt at the source (systemctl restart virtqemud, or libvirtd), then run: ansible-playbook"
    " kvmops.cluster.recover --check"
)


class StalledLink:
    """Notices when neither memory nor disks move. Fed with every sample of a migration, in order."""

    def __init__(self) -> None:
        self._processed = self._disk_sent = -1
        self._least_disk_left: int | None = None
        self._last_change_s = 0.0
        self._reported_s: float | None = None

    def at(self, sample: Sample, *, may_give_up: bool, in_postcopy: bool = False) -> Reaction | None:
        """A report; after a longer time the abort, where the link is not waited for any longer.

        A post-copy is never aborted. It is left to itself once it should have ended long ago.

        Args:
            sample: the next one.
            may_give_up: whether the migration may be aborted for it.
            in_postcopy: whether the guest is split between both hosts. Then it is reported again and again.
        """
        if self._has_moved(sample):
            self._last_change_s = sample.at_s
            self._reported_s = None
            return None
        stalled_s = sample.at_s - self._last_change_s
        phase = _phase(sample, in_postcopy)
        text = phase.words.format(stalled_s)
        if may_give_up and stalled_s >= phase.give_up_s:
            return abort("no_progress", text, phase.mend)
        if in_postcopy and stalled_s >= POSTCOPY_LEAVE_S:
            return leave("postcopy_without_end", text, MEND_POSTCOPY)
        due_s = phase.report_s if self._reported_s is None else self._reported_s + phase.again_s
        if stalled_s < due_s:
            return None
        self._reported_s = stalled_s
        return report(f"{text}: {phase.question}")

    def _has_moved(self, sample: Sample) -> bool:
        """Whether anything went over the link since the sample before.

        A guest that writes makes more of its disks left to copy, which is no progress. Holes make less of them, and
        nothing is sent for that.
        """
        left, least = sample.disk_remaining_bytes, self._least_disk_left
        # That the first disk is added to the figures is a change as well.
        less_left = left > 0 and (least is None or left < least)
        moved = less_left or (sample.processed_bytes, sample.disk_sent_bytes) != (self._processed, self._disk_sent)
        self._processed, self._disk_sent = sample.processed_bytes, sample.disk_sent_bytes
        self._least_disk_left = left if less_left else least
        return moved


def _phase(sample: Sample, in_postcopy: bool) -> _Phase:
    if in_postcopy:
        return _POSTCOPY
    if sample.iteration > 0:
        return _MEMORY
    return _DISKS if sample.disk_sent_bytes > 0 else _SET_UP


class SuspendedGuest:
    """A guest that is suspended until the rest is copied: lets it go on where it was if its link all but dies.

    All that it waits for is sent once, so a rate that is accepted here has an end.

    Args:
        since: the last sample before.
        bytes_per_s: the rate until then, 0 when unknown.
    """

    def __init__(self, since: Sample, bytes_per_s: float) -> None:
        self._since = since
        self._rate_before = bytes_per_s or since.processed_bytes / max(1.0, since.at_s)

    def at(self, sample: Sample) -> Reaction | None:
        """The abort, once too little was sent for too long."""
        seconds = sample.at_s - self._since.at_s
        sent = sample.processed_bytes - self._since.processed_bytes
        # Of zero pages, next to nothing is sent.
        gone = max(sent, self._since.remaining_bytes - sample.remaining_bytes)
        if seconds < GIVE_UP_S or gone >= LEAST_SHARE * self._rate_before * seconds:
            return None
        return abort(
            "no_progress",
            f"the guest was stopped to finish {seconds:.0f} s ago; since then the link gave {mib(sent / seconds)}/s, "
            f"and {mib(self._rate_before)}/s before that",
            MEND,
        )
