# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: carries out one host's steps of a plan, so many at a time.

from __future__ import annotations

import contextlib
import threading
import traceback
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.passing_fault import is_passing, reason_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step, step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.turns.destination_gate import DestinationGate
from ansible_collections.kvmops.cluster.plugins.module_utils.run.turns.link_slots import LinkSlots

#: Outcomes after which a step that waits for this one may start.
DONE = ("moved", "already_there")
#: Code of the refusal of a step that waits for one that did not move.
AFTER_FAILED = "after_failed"


class Mover(t.Protocol):
    """Moves one guest. An error that it knows becomes part of the result."""

    def move(
        self,
        step: Step,
        transferred: t.Callable[[], None],
        take_link_slot: t.Callable[[], bool],
        nearly_transferred: t.Callable[[], None],
        step_aside: t.Callable[[], bool],
    ) -> Result:
        """Carry out a step.

        Args:
            step: of the plan.
            transferred: the mover calls it when the guest's memory is transferred. The link is then free for the next
                step.
            take_link_slot: waits until the link is free for this step. False: the run is being stopped, and the mover
                begins nothing. The mover asks all questions and decides first. It calls this before it sends the guest,
                and again right before the guest is sent, because preparation may take long.
            nearly_transferred: the mover calls it when the memory will be transferred in a moment. The next step then
                asks, forecasts and decides. Earlier, its answers would be stale, and it would take processor time
                while the hosts set up this move.
            step_aside: the mover calls it before it does something to the guest for which no other guest should wait.
                It gives up the step's turn, and waits while as many others as the window has are aside. The next call
                of take_link_slot waits for the link again, before all that queue for it. False: as for that.
        """


def no_refusal() -> Refusal | None:
    """A run without a lease may begin any step."""
    return None


class Executor:
    """Runs steps in their order, so many at a time. The next step gets ready when one is nearly transferred.

    The first guest to each destination goes alone: the next one is sent there when the first has arrived and its hooks
    have run. If a hook says so, no further guest is sent there.

    Args:
        mover: moves a guest.
        journal, progress: where events and lines are written.
        window: guests in transfer at once.
        stopping: when set, no further step is started.
        start_refusal: why no step may be begun any more, or None. Asked when a step gets its link slot, and each time
            before its guest is sent.
    """

    def __init__(
        self,
        mover: Mover,
        journal: Journal,
        progress: Progress,
        *,
        window: int,
        stopping: threading.Event,
        start_refusal: t.Callable[[], Refusal | None] = no_refusal,
    ) -> None:
        self._mover = mover
        self._journal = journal
        self._progress = progress
        self._link_slots = LinkSlots(window, stopping)
        # Guests of one service must not all leave it at once, and then wait for each other's transfer.
        self._places_aside = LinkSlots(window, stopping)
        self._aside: set[str] = set()
        self._gate = DestinationGate(stopping)
        self._window = threading.Semaphore(window)
        self._stopping = stopping
        self._start_refusal = start_refusal
        self._ended = threading.Condition()
        self._results: dict[str, Result] = {}
        self._ids: set[str] = set()

    def run(self, steps: t.Sequence[Step]) -> list[Result]:
        """Carry out the steps; returns one result a step, in their order. One failure stops no other step.

        What did not move because of something that passes is tried once more, after all others.
        """
        self._ids = {step["id"] for step in steps}
        self._carry_out(steps)
        again: list[Step] = []
        for step in steps:
            if self._may_do_better(step, {one["id"] for one in again}):
                again.append(step)
        self._carry_out_again(again)
        return [self._results.get(step["id"]) or self._not_started(step) for step in steps]

    def _may_do_better(self, step: Step, again: t.Container[str]) -> bool:
        """Whether a step has failed because of something that passes, or waits for one that is tried again."""
        result = self._results.get(step["id"])
        if result is None or self._stopping.is_set():
            return False
        if result["outcome"] == "refused" and [one["code"] for one in result["refusals"]] == [AFTER_FAILED]:
            return any(name in again for name in step.get("after") or [])
        return is_passing(result)

    def _carry_out_again(self, steps: t.Sequence[Step]) -> None:
        first = {step["id"]: self._results.pop(step["id"]) for step in steps}
        for step in steps:
            self._progress.write("waiting", f"trying once more: {reason_of(first[step['id']])}", step=step)
        self._carry_out(steps)
        for step_id, before in first.items():
            # The run may have been stopped meanwhile.
            now = self._results.get(step_id)
            note = f"the first try failed: {reason_of(before)}"
            self._results[step_id] = before if now is None else {**now, "notes": [*now["notes"], note]}

    def _carry_out(self, steps: t.Sequence[Step]) -> None:
        threads = []
        begun = set(self._results)
        for step in steps:
            waits_for = [name for name in step.get("after") or [] if name in self._ids]
            # A step that comes later in the plan has not begun. To await it would take for ever.
            self._await_results([name for name in waits_for if name in begun])
            begun.add(step["id"])
            self._window.acquire()
            if self._stopping.is_set():
                self._window.release()
                break
            blocked = self._blocked_by(step, waits_for)
            if blocked:
                self._window.release()
                self._record(step, blocked)
                continue
            self._gate.begin(step)
            self._link_slots.queue(step["id"])
            thread = threading.Thread(target=self._step, args=(step,), name=step["id"], daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _step(self, step: Step) -> None:
        nearly_transferred = _Once(self._window.release)
        free = _Once(lambda: self._free_link(step["id"], nearly_transferred))
        refusals: list[Refusal] = []
        try:
            result = self._mover.move(
                step,
                free,
                lambda: self._take_link_slot(step, refusals),
                nearly_transferred,
                lambda: self._step_aside(step, nearly_transferred),
            )
            if refusals and result["outcome"] == "not_started":
                result = self._refuse(step, refusals[0])
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            # A bug in one step must not hide what became of the other steps, nor of this guest.
            result = step_result(step, "unclear", error=_broken(step, error))
            self._keep("step.broken", step, traceback=traceback.format_exc())
        finally:
            free()
            self._places_aside.release(step["id"])
        self._record(step, result)

    def _take_link_slot(self, step: Step, refusals: list[Refusal]) -> bool:
        """Wait for the first guest to the same destination, then for the link; adds why the step may not begin."""
        self._come_back(step)
        self._gate.enter(step)
        why = self._gate.refusal(step)
        if why is None and not self._link_slots.take(step["id"]):
            return False
        # While it waited for the link, another guest may have shown that none should go there.
        why = why or self._gate.refusal(step) or self._start_refusal()
        if why:
            refusals.append(why)
        return why is None

    def _step_aside(self, step: Step, nearly_transferred: t.Callable[[], None]) -> bool:
        """Let all others pass, also those to the same destination."""
        self._aside.add(step["id"])
        self._places_aside.queue(step["id"])
        self._gate.step_back(step)
        self._link_slots.release(step["id"])
        nearly_transferred()
        return self._places_aside.take(step["id"])

    def _come_back(self, step: Step) -> None:
        """Queue again after a time aside, before all that have not begun to send."""
        if step["id"] not in self._aside:
            return
        self._aside.discard(step["id"])
        # First for the destination: one that has the link must not wait for another that waits for the link.
        self._gate.begin(step)
        self._gate.enter(step)
        self._link_slots.queue_first(step["id"])
        self._link_slots.take(step["id"])
        self._places_aside.release(step["id"])

    def _free_link(self, step_id: str, nearly_transferred: t.Callable[[], None]) -> None:
        self._link_slots.release(step_id)
        nearly_transferred()

    def _record(self, step: Step, result: Result) -> None:
        try:
            self._keep("step.finished", step, result=result)
        finally:
            # Others wait for this step, whatever becomes of its record.
            self._gate.leave(step, result)
            with self._ended:
                self._results[step["id"]] = result
                self._ended.notify_all()

    def _keep(self, event: str, step: Step, **data: t.Any) -> None:
        # A full disk must not hide what became of a guest. The result reaches the operator all the same.
        with contextlib.suppress(OSError):
            self._journal.write(event, step=step, **data)

    def _await_results(self, ids: t.Sequence[str]) -> None:
        # Each of these steps has begun, and will end.
        with self._ended:
            self._ended.wait_for(lambda: self._stopping.is_set() or all(name in self._results for name in ids))

    def _blocked_by(self, step: Step, ids: t.Sequence[str]) -> Result | None:
        with self._ended:
            undone = [name for name in ids if self._results.get(name, {}).get("outcome") not in DONE]
        if not undone:
            return None
        why = refusal(
            AFTER_FAILED,
            f"it may only move after {', '.join(undone)}, which did not move",
            "repair what stopped that one, then make a new plan",
        )
        return self._refuse(step, why)

    def _refuse(self, step: Step, why: Refusal) -> Result:
        self._progress.write("refused", why["reason"], step=step)
        return step_result(step, "refused", refusals=[why])

    def _not_started(self, step: Step) -> Result:
        return step_result(step, "not_started", error="the run was stopped before its turn")


def _broken(step: Step, error: Exception) -> str:
    look = f"virsh domstate --reason {quoted(step['guest']['name'])}"
    return (
        f"an error in this program ({type(error).__name__}: {error}), so it is not known what became of the guest:"
        f" start and destroy nothing, and compare {look} on {step['source']} and {step['destination']}"
    )


class _Once:
    """Calls an action once, however often it is called itself."""

    def __init__(self, action: t.Callable[[], None]) -> None:
        self._action = action
        self._lock = threading.Lock()
        self._done = False

    def __call__(self) -> None:
        with self._lock:
            if self._done:
                return
            self._done = True
        self._action()
