# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: frees memory that a guest does not need before it moves, and says what came of it.

from __future__ import annotations

import dataclasses
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set import ballooning
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import taken_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.balloon import ENDED, Balloon
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.memory_report import MemoryReport, report
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.memory_return import (
    by_hand,
    give_back_left,
    return_in_words,
)

Tell = t.Callable[..., None]
POLL_S = 0.25
#: A guest reports at its own intervals. One that does not report within this time does not report at all.
REPORT_TIMEOUT_S = 12.0


class FreeMemory:
    """Frees memory of guests of this host.

    Args:
        domain: the guest of a step, on a writable connection that lives.
        state_dir: where this host keeps its records.
        interrupted: when set, nothing more is taken or waited for.
    """

    def __init__(
        self,
        domain: t.Callable[[Step], t.Any],
        state_dir: str,
        interrupted: threading.Event,
        clock: t.Callable[[], float],
        sleep: t.Callable[[float], None],
    ) -> None:
        self._domain = domain
        self._state_dir = state_dir
        self._interrupted = interrupted
        self._clock = clock
        self._sleep = sleep

    def give_back_left(self, step: Step, tell: Tell) -> list[Refusal]:
        """Give back what a run that died has taken. The guest stays on this host until it has its memory back.

        Returns: why the guest must not move yet.
        """
        uuid, name = step["guest"]["uuid"], step["guest"]["name"]
        try:
            left = give_back_left(
                self._state_dir, uuid, lambda: self._domain(step), self._interrupted, self._clock, self._sleep
            )
        except OSError as error:
            why = f"a run that died has taken memory of {name}, and its record cannot be kept ({error})"
            return [refusal("memory_not_returned", why, "see what is wrong with the disk, and run again")]
        if left is None:
            return []
        taken, outcome = left
        if outcome in ENDED:
            tell("memory.returned", "setup", return_in_words(taken, outcome), uuid=uuid, outcome=outcome)
            return []
        return [self._not_returned(step, tell, busy=outcome == "busy")]

    def free(
        self,
        step: Step,
        guest: t.Mapping[str, t.Any],
        intent: t.Mapping[str, t.Any],
        tell: Tell,
        bytes_per_s: float | None,
    ) -> tuple[int, list[Refusal]]:
        """Free memory that the guest does not need, where that pays.

        Args:
            step: of the plan.
            guest: the snapshot's description of it.
            intent: of this move, complete.
            tell: called with event, phase and message, C(level), and what else is known.
            bytes_per_s: what the link gives, or None.

        Returns: bytes of the host's memory that the guest holds no more; and why the guest must not move now.
        """
        try:
            freeing = self._decide(step, guest, intent, bytes_per_s)
            figures = dataclasses.asdict(freeing)
            if freeing.target_bytes is None:
                tell("memory.kept", "setup", f"no memory is freed: {freeing.reason}", level=1, **figures)
                return 0, []
            tell("memory.freeing", "setup", f"freeing memory that it does not need: {freeing.reason}", **figures)
            balloon = Balloon(lambda: self._domain(step), self._state_dir, self._interrupted, self._clock, self._sleep)
            freed = balloon.free(freeing)
        except (virt.libvirt.libvirtError, virt.VirtError, OSError) as error:
            tell("memory.kept", "setup", f"no memory is freed: {error}", level=1, code="error", error=str(error))
            return 0, []
        words = f"{human_bytes(freed.bytes)} freed"
        tell(
            "memory.freed",
            "setup",
            f"{words}, as {freed.stopped}" if freed.stopped else words,
            freed_bytes=freed.bytes,
            returned=freed.returned,
            stopped=freed.stopped,
        )
        return freed.bytes, [] if freed.returned else [self._not_returned(step, tell, busy=freed.busy)]

    def _decide(
        self, step: Step, guest: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any], bytes_per_s: float | None
    ) -> ballooning.Freeing:
        """Decide by one report whether it can pay, and by a second one whether the guest can do without."""
        first = report(self._domain(step), guest.get("hugepage_bytes"))
        hoped = dataclasses.replace(first.memory, swapped_bytes=0)
        freeing = ballooning.decide(hoped, intent, bytes_per_s)
        if freeing.target_bytes is None:
            return freeing
        return ballooning.decide(self._next_report(step, guest, first).since(first), intent, bytes_per_s)

    def _next_report(self, step: Step, guest: t.Mapping[str, t.Any], first: MemoryReport) -> MemoryReport:
        end = self._clock() + REPORT_TIMEOUT_S
        while True:
            latest = report(self._domain(step), guest.get("hugepage_bytes"))
            if latest.at_s > first.at_s or self._clock() >= end or self._interrupted.is_set():
                return latest
            self._sleep(POLL_S)

    def _not_returned(self, step: Step, tell: Tell, *, busy: bool) -> Refusal:
        name = step["guest"]["name"]
        if busy:
            reason, remedy = f"another run is at the memory of {name} now", "wait for its end, and run again"
        else:
            taken = taken_memory.read(self._state_dir, step["guest"]["uuid"])
            reason = f"{name} has not got its memory back in time"
            remedy = by_hand(taken) if taken else "look at it: virsh dommemstat, and virsh setmem --live"
        tell("memory.not_returned", "setup", f"{reason}: {remedy}", remedy=remedy)
        return refusal("memory_not_returned", reason, remedy)
