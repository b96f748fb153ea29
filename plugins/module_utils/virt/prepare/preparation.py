# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what is done to a guest around its move: spare memory freed, and commands run.

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import hooks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook, HookError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set import ballooning
from ansible_collections.kvmops.cluster.plugins.module_utils.run import taken_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.balloon import (
    Balloon,
    MemoryReport,
    by_hand,
    ending,
    give_back_left,
    report,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.hooks import HookResult, in_guest, on_host

Tell = t.Callable[..., None]
#: Outcomes after which the guest is at its destination, and those after which it is still at its source.
THERE, HERE = ("moved", "already_there"), ("failed", "refused", "not_started")
POLL_S = 0.25
#: A guest reports at its own period; one that does not within this is taken for silent.
REPORT_TIMEOUT_S = 12.0


@dataclasses.dataclass(frozen=True)
class PreparationOptions:
    """What a run states: C(auto) or C(never) for freeing memory, and commands for each guest."""

    free_memory: str = "never"
    hooks: tuple[Hook, ...] = ()


class PreparedGuest:
    """What the mover gets and tells.

    Attributes:
        refusals: reasons not to move the guest now.
        freed_bytes: of the host's memory that the guest holds no more, and that need not travel.
    """

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.freed_bytes = 0
        #: from here on, what comes after the move has something to undo
        self.begun = False
        self.outcome = "unclear"

    def ended(self, outcome: str) -> None:
        """How the move ended: the outcome of its result."""
        self.outcome = outcome


class Preparation:
    """What comes before and after each move of a run.

    Args:
        options: the run's.
        state_dir: where this host keeps its records.
        source: this host's name.
        interrupted: when set, nothing more is taken, run or waited for; what has to be undone is undone at once.
        domain_at: a guest on a host, by the host's name and the guest's UUID, on a writable connection that lives.
    """

    def __init__(
        self,
        options: PreparationOptions,
        state_dir: str,
        source: str,
        interrupted: threading.Event,
        domain_at: t.Callable[[str, str], t.Any],
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._state_dir = state_dir
        self._source = source
        self._interrupted = interrupted
        self._domain_at = domain_at
        self._clock = clock
        self._sleep = sleep

    @contextlib.contextmanager
    def prepared(
        self,
        step: Step,
        guest: t.Mapping[str, t.Any],
        intent: t.Mapping[str, t.Any],
        tell: Tell,
        *,
        bytes_per_s: float | None,
    ) -> t.Iterator[PreparedGuest]:
        """Get a guest ready; after the block, run what comes after its move.

        Args:
            step: of the plan.
            guest: the snapshot's description of it.
            intent: of this move, complete.
            tell: called with event, phase and message, C(level), and what else is known.
            bytes_per_s: what the link gives, or None.
        """
        ready = PreparedGuest()
        wanted: tuple[Hook, ...] = ()
        try:
            wanted = (*self._options.hooks, *self._hooks_of(step))
            self._give_back_left(ready, step, tell)
            if not ready.refusals and self._options.free_memory == "auto" and guest["state"] == "running":
                self._free(ready, step, guest, intent, tell, bytes_per_s)
            if not ready.refusals:
                ready.begun = True
                ready.refusals.extend(self._run_before(wanted, step, tell))
        except HookError as error:
            ready.refusals.append(error.refusal)
        if not ready.refusals and self._interrupted.is_set():
            ready.refusals.append(_interrupted())
        if ready.refusals:
            ready.outcome = "refused"
        try:
            yield ready
        finally:
            if ready.begun:
                self._run_after(wanted, step, ready.outcome, tell)

    def _hooks_of(self, step: Step) -> tuple[Hook, ...]:
        try:
            return hooks.of_guest(guest_xml.parse(self._domain(step).XMLDesc(0)))
        except (virt.libvirt.libvirtError, virt.VirtError):
            # The move itself will find out what is wrong, and say so.
            return ()

    def _domain(self, step: Step) -> t.Any:
        return self._domain_at(self._source, step["guest"]["uuid"])

    # memory

    def _give_back_left(self, ready: PreparedGuest, step: Step, tell: Tell) -> None:
        """Give back what a run that died has taken. Its record stays on this host, and so does the guest until then."""
        uuid, name = step["guest"]["uuid"], step["guest"]["name"]
        try:
            left = give_back_left(
                self._state_dir, uuid, lambda: self._domain(step), self._interrupted, self._clock, self._sleep
            )
        except OSError as error:
            why = f"a run that died has taken memory of {name}, and its record cannot be kept ({error})"
            ready.refusals.append(refusal("memory_not_returned", why, "see what is wrong with the disk, and run again"))
            return
        if left is None:
            return
        taken, outcome = left
        if outcome in ("returned", "gone"):
            tell("memory.returned", "setup", ending(taken, outcome), uuid=uuid, outcome=outcome)
        else:
            ready.refusals.append(self._not_returned(step, tell, busy=outcome == "busy"))

    def _free(
        self,
        ready: PreparedGuest,
        step: Step,
        guest: t.Mapping[str, t.Any],
        intent: t.Mapping[str, t.Any],
        tell: Tell,
        bytes_per_s: float | None,
    ) -> None:
        try:
            freeing = self._decide(step, guest, intent, bytes_per_s)
            figures = dataclasses.asdict(freeing)
            if freeing.target_bytes is None:
                tell("memory.kept", "setup", f"no memory is freed: {freeing.reason}", level=1, **figures)
                return
            tell("memory.freeing", "setup", f"freeing memory that it does not need: {freeing.reason}", **figures)
            balloon = Balloon(lambda: self._domain(step), self._state_dir, self._interrupted, self._clock, self._sleep)
            freed = balloon.free(freeing)
        except (virt.libvirt.libvirtError, virt.VirtError, OSError) as error:
            tell("memory.kept", "setup", f"no memory is freed: {error}", level=1, code="error", error=str(error))
            return
        ready.freed_bytes = freed.bytes
        words = f"{human_bytes(freed.bytes)} freed"
        tell(
            "memory.freed",
            "setup",
            f"{words}, as {freed.stopped}" if freed.stopped else words,
            freed_bytes=freed.bytes,
            returned=freed.returned,
            stopped=freed.stopped,
        )
        if not freed.returned:
            ready.refusals.append(self._not_returned(step, tell, busy=freed.busy))

    def _decide(
        self, step: Step, guest: t.Mapping[str, t.Any], intent: t.Mapping[str, t.Any], bytes_per_s: float | None
    ) -> ballooning.Freeing:
        """Decide by one report whether it may pay, and by a second one whether the guest can bear it."""
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

    # commands

    def _run_before(self, wanted: t.Sequence[Hook], step: Step, tell: Tell) -> list[Refusal]:
        """Run each so long before the move as it says; the move waits for those that take longer."""
        due = sorted((hook for hook in wanted if hook.when == "before"), key=lambda hook: -hook.seconds)
        start = self._clock() + max((hook.seconds for hook in due), default=0.0)
        for hook in due:
            if not self._wait_until(start - hook.seconds):
                return [_interrupted()]
            ran = self._run(hook, step, "before", self._source, tell)
            if not ran.ok and hook.on_failure == "refuse":
                return [_hook_failed(hook, step, ran)]
        return [] if self._wait_until(start) else [_interrupted()]

    def _run_after(self, wanted: t.Sequence[Hook], step: Step, outcome: str, tell: Tell) -> None:
        place = step["destination"] if outcome in THERE else self._source if outcome in HERE else None
        ended = self._clock()
        for hook in sorted((hook for hook in wanted if hook.when == "after"), key=lambda hook: hook.seconds):
            # Interrupted, it comes at once: it may undo what was done before.
            self._wait_until(ended + hook.seconds)
            self._run(hook, step, outcome, place, tell)

    def _wait_until(self, moment: float) -> bool:
        """Wait; False when it was interrupted."""
        while self._clock() < moment and not self._interrupted.is_set():
            self._sleep(min(POLL_S, max(0.0, moment - self._clock())))
        return not self._interrupted.is_set()

    def _run(self, hook: Hook, step: Step, outcome: str, place: str | None, tell: Tell) -> HookResult:
        phase = "setup" if hook.when == "before" else "done"
        known = {"command": list(hook.command), "when": hook.when, "where": hook.where}
        tell("hook.started", phase, f"running {hook.name} {_where(hook)}", level=1, **known)
        ran = self._ran(hook, step, _environment(step, outcome), place)
        if ran.ok:
            tell("hook.finished", phase, f"{hook.name} is done", level=1, **known, output=ran.output)
        else:
            tell("hook.failed", phase, _failure(hook, ran), **known, why=ran.why, output=ran.output)
        return ran

    def _ran(self, hook: Hook, step: Step, environment: dict[str, str], place: str | None) -> HookResult:
        if hook.where == "host":
            return on_host(hook, environment)
        if place is None:
            return HookResult(False, "it is not known where the guest is", "")
        try:
            domain = self._domain_at(place, step["guest"]["uuid"])
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            return HookResult(False, f"the guest cannot be reached: {error}", "")
        return in_guest(hook, domain, environment, self._clock, self._sleep)


def _environment(step: Step, outcome: str) -> dict[str, str]:
    return {
        "KVMOPS_GUEST": step["guest"]["name"],
        "KVMOPS_GUEST_UUID": step["guest"]["uuid"],
        "KVMOPS_SOURCE": step["source"],
        "KVMOPS_DESTINATION": step["destination"],
        "KVMOPS_OUTCOME": outcome,
    }


def _where(hook: Hook) -> str:
    return f"{hook.when} the move, {'in the guest' if hook.where == 'guest' else 'on this host'}"


def _failure(hook: Hook, ran: HookResult) -> str:
    last = ran.output.splitlines()[-1:]
    return f"{hook.name} failed {_where(hook)}: {', '.join(filter(None, [ran.why, *last]))}"


def _hook_failed(hook: Hook, step: Step, ran: HookResult) -> Refusal:
    return refusal(
        "hook_failed",
        f"{_failure(hook, ran)}, and {step['guest']['name']} is not to move without it",
        "mend what it complains of and run it again, or set on_failure to go_on for it",
    )


def _interrupted() -> Refusal:
    return refusal("interrupted", "it was interrupted before it began", "start it again when you are ready")
