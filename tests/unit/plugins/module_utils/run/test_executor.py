# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import HOOK_STOPS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result, with_faults
from ansible_collections.kvmops.cluster.plugins.module_utils.run.executor import Executor
from ansible_collections.kvmops.cluster.plugins.module_utils.run.turns.link_slots import LinkSlots

PATIENCE_S = 10.0


def step(number, *after, destination=None):
    return {
        "id": f"s{number}",
        "guest": {"name": f"web {number}", "uuid": f"u-{number}"},
        "source": "h1",
        # A destination of its own: the first guest to each goes alone.
        "destination": destination or f"h{number + 1}",
        "after": list(after),
    }


class Mover:
    """Moves each guest when the test says so."""

    def __init__(self):
        self.ready = []
        self.started = []
        self.transferred = {}
        self.nearly_transferred = {}
        self.ends = {}
        self.faults = {}
        #: steps whose guests have hooks of their own, and those of which they run now
        self.hooked = set()
        self.aside = []
        self.hooks_end = set()
        self._changed = threading.Condition()

    def move(self, step, transferred, take_link_slot, nearly_transferred, step_aside):
        with self._changed:
            self.ready.append(step["id"])
            self._changed.notify_all()
        if not take_link_slot():
            return step_result(step, "not_started", error="the run was stopped before its turn")
        if step["id"] in self.hooked and not self._hooks_run(step["id"], step_aside, take_link_slot):
            return step_result(step, "not_started", error="the run was stopped before its turn")
        with self._changed:
            self.started.append(step["id"])
            self.transferred[step["id"]] = transferred
            self.nearly_transferred[step["id"]] = nearly_transferred
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: step["id"] in self.ends, PATIENCE_S)
            outcome = self.ends[step["id"]]
        if outcome == "asks_again":
            outcome = "moved" if take_link_slot() else "not_started"
        if isinstance(outcome, Exception):
            raise outcome
        return with_faults(step_result(step, outcome), self.faults.get(step["id"], []))

    def _hooks_run(self, step_id, step_aside, take_link_slot):
        if not step_aside():
            return False
        with self._changed:
            self.aside.append(step_id)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: step_id in self.hooks_end, PATIENCE_S)
        return take_link_slot()

    def end_hooks(self, step_id):
        with self._changed:
            self.hooks_end.add(step_id)
            self._changed.notify_all()

    def await_aside(self, *ids):
        with self._changed:
            assert self._changed.wait_for(lambda: self.aside == list(ids), PATIENCE_S), self.aside

    def end(self, step_id, outcome="moved"):
        with self._changed:
            self.ends[step_id] = outcome
            self._changed.notify_all()

    def await_ready(self, *ids):
        with self._changed:
            assert self._changed.wait_for(lambda: sorted(self.ready) == sorted(ids), PATIENCE_S), self.ready

    def await_start(self, *ids):
        with self._changed:
            assert self._changed.wait_for(lambda: self.started == list(ids), PATIENCE_S), self.started


class Journal:
    def __init__(self):
        self.events = []
        self.fails = False

    def write(self, event, *, step=None, durable=True, **data):
        if self.fails:
            raise OSError(28, "No space left on device")
        self.events.append((event, step["id"], data))


class Progress:
    def __init__(self):
        self.lines = []

    def write(self, phase, message, *, step=None, level=0, **figures):
        self.lines.append((phase, message))


class Run:
    def __init__(self, *steps, window=1, hooked=()):
        self.mover, self.journal, self.progress = Mover(), Journal(), Progress()
        self.stopping = threading.Event()
        self.lost = None
        self.mover.hooked = set(hooked)
        executor = Executor(
            self.mover,
            self.journal,
            self.progress,
            window=window,
            stopping=self.stopping,
            start_refusal=lambda: self.lost,
        )
        self._results = None
        self._thread = threading.Thread(target=lambda: self._keep(executor.run(steps)), daemon=True)
        self._thread.start()

    def _keep(self, results):
        self._results = results

    def results(self):
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the run does not end"
        return self._results

    def outcomes(self):
        return [result["outcome"] for result in self.results()]

    def stays_at(self, *ids):
        """Nothing else is started for a moment."""
        time.sleep(0.05)
        assert self.mover.started == list(ids)


def test_steps_run_in_their_order_one_at_a_time():
    run = Run(step(1), step(2), step(3))
    for count in (1, 2, 3):
        run.mover.await_start(*[f"s{number}" for number in range(1, count + 1)])
        run.stays_at(*[f"s{number}" for number in range(1, count + 1)])
        run.mover.end(f"s{count}")
    assert [result["step"] for result in run.results()] == ["s1", "s2", "s3"]
    assert run.outcomes() == ["moved"] * 3
    assert [(event, name) for event, name, _data in run.journal.events] == [
        ("step.finished", "s1"),
        ("step.finished", "s2"),
        ("step.finished", "s3"),
    ]


def test_the_next_one_starts_as_soon_as_the_link_is_free():
    run = Run(step(1), step(2), step(3))
    run.mover.await_start("s1")
    run.mover.transferred["s1"]()
    run.mover.await_start("s1", "s2")
    # Saying it twice, or ending after it was said, frees no second place.
    run.mover.transferred["s1"]()
    run.mover.end("s1")
    run.stays_at("s1", "s2")
    run.mover.end("s2")
    run.mover.await_start("s1", "s2", "s3")
    run.mover.end("s3")
    assert run.outcomes() == ["moved"] * 3


def test_the_next_one_gets_ready_when_this_one_is_nearly_over():
    run = Run(step(1), step(2), step(3))
    run.mover.await_start("s1")
    run.stays_at("s1")
    assert run.mover.ready == ["s1"]
    run.mover.nearly_transferred["s1"]()
    # Saying it twice lets no second one get ready.
    run.mover.nearly_transferred["s1"]()
    run.mover.await_ready("s1", "s2")
    run.stays_at("s1")
    run.mover.end("s1")
    run.mover.await_start("s1", "s2")
    run.stays_at("s1", "s2")
    assert run.mover.ready == ["s1", "s2"]
    run.mover.end("s2")
    run.mover.end("s3")
    assert run.outcomes() == ["moved"] * 3


def test_nobody_gets_a_turn_once_the_run_is_being_stopped():
    run = Run(step(1), step(2), step(3))
    run.mover.await_start("s1")
    run.mover.nearly_transferred["s1"]()
    run.mover.await_ready("s1", "s2")
    run.stopping.set()
    run.mover.end("s1")
    assert run.outcomes() == ["moved", "not_started", "not_started"]


def test_no_more_than_the_window_are_in_transfer():
    run = Run(*[step(number) for number in range(1, 5)], window=2)
    run.mover.await_start("s1", "s2")
    run.stays_at("s1", "s2")
    run.mover.end("s2")
    run.mover.await_start("s1", "s2", "s3")
    run.stays_at("s1", "s2", "s3")
    for number in (1, 3, 4):
        run.mover.end(f"s{number}")
    assert [result["step"] for result in run.results()] == ["s1", "s2", "s3", "s4"]


@pytest.mark.parametrize("outcome", ["failed", "refused", "unclear"])
def test_one_failure_stops_no_other_step(outcome):
    run = Run(step(1), step(2), step(3))
    for number, end in ((1, "moved"), (2, outcome), (3, "moved")):
        run.mover.end(f"s{number}", end)
    assert run.outcomes() == ["moved", outcome, "moved"]


def test_a_step_waits_for_those_that_it_must_come_after():
    run = Run(step(1), step(2, "s1"), step(3), window=3)
    run.mover.await_start("s1")
    run.mover.transferred["s1"]()
    # The memory is over, but only the end of the step says that it has moved.
    run.stays_at("s1")
    run.mover.end("s1", "already_there")
    run.mover.await_start("s1", "s2", "s3")
    run.mover.end("s2")
    run.mover.end("s3")
    assert run.outcomes() == ["already_there", "moved", "moved"]


@pytest.mark.parametrize("outcome", ["failed", "refused", "unclear"])
def test_a_step_is_refused_when_what_it_must_come_after_did_not_move(outcome):
    run = Run(step(1), step(2, "s1"), step(3, "s2"), step(4))
    run.mover.end("s1", outcome)
    run.mover.end("s4")
    results = run.results()
    assert [result["outcome"] for result in results] == [outcome, "refused", "refused", "moved"]
    assert results[1]["refusals"] == [
        {
            "code": "after_failed",
            "reason": "it may only move after s1, which did not move",
            "remedy": "repair what stopped that one, then make a new plan",
        }
    ]
    assert run.mover.started == ["s1", "s4"]
    assert ("refused", "it may only move after s1, which did not move") in run.progress.lines


@pytest.mark.parametrize("after", ["s2", "s1"])
def test_a_step_that_waits_for_a_later_one_or_for_itself_is_not_waited_for(after):
    run = Run(step(1, after), step(2))
    run.mover.end("s2")
    assert run.outcomes() == ["refused", "moved"]


def test_a_step_of_another_host_is_not_waited_for():
    run = Run(step(1, "elsewhere"))
    run.mover.end("s1")
    assert run.outcomes() == ["moved"]


def test_a_mistake_of_ours_in_one_step_hides_nothing_of_the_others():
    run = Run(step(1), step(2), step(3, "s1"))
    run.mover.end("s1", KeyError("oops"))
    run.mover.end("s2")
    first, second, third = run.results()
    assert (first["outcome"], second["outcome"], third["outcome"]) == ("unclear", "moved", "refused")
    assert first["error"] == (
        "an error in this program (KeyError: 'oops'), so it is not known what became of the guest: start and destroy"
        " nothing, and compare virsh domstate --reason 'web 1' on h1 and h2"
    )
    (broken,) = [data for event, _name, data in run.journal.events if event == "step.broken"]
    assert "Traceback" in broken["traceback"]


def test_a_journal_that_cannot_be_written_hides_no_result():
    run = Run(step(1), step(2), step(3, "s1"))
    run.journal.fails = True
    run.mover.end("s1")
    run.mover.end("s2", RuntimeError("oops"))
    run.mover.end("s3")
    assert run.outcomes() == ["moved", "unclear", "moved"]


def test_stopping_starts_no_further_step_and_lets_those_end_that_run():
    run = Run(step(1), step(2), step(3))
    run.mover.await_start("s1")
    run.stopping.set()
    run.mover.end("s1")
    results = run.results()
    assert [result["outcome"] for result in results] == ["moved", "not_started", "not_started"]
    assert results[1]["error"] == "the run was stopped before its turn"
    assert run.mover.started == ["s1"]


def test_stopping_ends_the_wait_for_another_step():
    run = Run(step(1), step(2, "s1"), window=2)
    run.mover.await_start("s1")
    run.stopping.set()
    run.mover.end("s1", "failed")
    assert run.outcomes() == ["failed", "not_started"]


def test_no_step_is_begun_once_the_run_is_barred_and_the_one_in_flight_ends():
    run = Run(step(1), step(2), step(3, "s2"), step(4))
    run.mover.await_start("s1")
    run.mover.nearly_transferred["s1"]()
    run.mover.await_ready("s1", "s2")
    run.lost = refusal("lease_lost", "h1 was taken over by bob@admin2", "run the playbook again")
    run.mover.end("s1")
    results = run.results()
    assert [result["outcome"] for result in results] == ["moved", "refused", "refused", "refused"]
    assert results[1]["refusals"] == results[3]["refusals"] == [run.lost]
    assert results[2]["refusals"][0]["code"] == "after_failed"
    assert run.mover.started == ["s1"]
    assert ("refused", "h1 was taken over by bob@admin2") in run.progress.lines
    assert [name for event, name, _data in run.journal.events if event == "step.finished"] == ["s1", "s2", "s3", "s4"]


def test_a_step_that_is_barred_while_it_gets_ready_is_refused():
    """A mover asks for its turn again right before it sends the guest."""
    run = Run(step(1), step(2))
    run.mover.await_start("s1")
    run.lost = refusal("lease_lost", "h1 was taken over by bob@admin2", "run the playbook again")
    run.mover.end("s1", "asks_again")
    results = run.results()
    assert [result["outcome"] for result in results] == ["refused", "refused"]
    assert results[0]["refusals"] == [run.lost]


def test_a_step_keeps_its_turn_when_it_asks_again():
    run = Run(step(1), step(2))
    run.mover.await_start("s1")
    run.mover.end("s1", "asks_again")
    run.mover.end("s2", "asks_again")
    assert run.outcomes() == ["moved", "moved"]


def test_a_turn_that_was_given_back_is_not_to_be_had_again():
    link_slots = LinkSlots(1, threading.Event())
    link_slots.queue("s1")
    assert link_slots.take("s1")
    link_slots.release("s1")
    assert not link_slots.take("s1")


def test_nothing_to_do_is_nothing_to_tell():
    run = Run()
    assert run.results() == []
    assert run.journal.events == []


# --- the first guest to each destination -----------------------------------------------------------------------------


def to_h2(number, *after):
    return step(number, *after, destination="h2")


def test_the_first_guest_to_a_destination_goes_alone():
    run = Run(to_h2(1), to_h2(2), to_h2(3))
    run.mover.await_start("s1")
    # Its memory is there, and its hooks still run.
    run.mover.transferred["s1"]()
    run.mover.await_ready("s1", "s2")
    run.stays_at("s1")
    run.mover.end("s1")
    run.mover.await_start("s1", "s2")
    # That guests can be reached there is known now.
    run.mover.transferred["s2"]()
    run.mover.await_start("s1", "s2", "s3")
    run.mover.end("s2")
    run.mover.end("s3")
    assert run.outcomes() == ["moved"] * 3


def test_guests_to_other_destinations_do_not_wait_for_it():
    run = Run(to_h2(1), step(2), window=2)
    run.mover.await_start("s1", "s2")
    run.mover.end("s1")
    run.mover.end("s2")
    assert run.outcomes() == ["moved"] * 2


@pytest.mark.parametrize("outcome", ["failed", "refused", "already_there"])
def test_after_one_that_did_not_move_the_next_is_the_first(outcome):
    run = Run(to_h2(1), to_h2(2), to_h2(3), window=3)
    run.mover.end("s1", outcome)
    run.mover.await_start("s1", "s2")
    run.stays_at("s1", "s2")
    run.mover.end("s2")
    run.mover.await_start("s1", "s2", "s3")
    run.mover.end("s3")
    assert run.outcomes() == [outcome, "moved", "moved"]


def test_the_first_by_the_plan_is_the_first_whichever_is_ready_sooner():
    """Two that waited for each other, one for the link and one for the destination, would wait for ever."""
    run = Run(*[to_h2(number) for number in range(1, 9)], window=8)
    for number in range(1, 9):
        run.mover.end(f"s{number}")
    assert run.outcomes() == ["moved"] * 8
    assert run.mover.started[0] == "s1"


FAILED = refusal(HOOK_STOPS, "the check of port 22 failed after the move: timed out", "see whether it can be reached")


def test_no_further_guest_goes_where_the_first_cannot_be_reached():
    run = Run(to_h2(1), to_h2(2), step(3), to_h2(4))
    run.mover.faults["s1"] = [FAILED]
    run.mover.end("s1")
    run.mover.end("s3")
    results = run.results()
    assert [result["outcome"] for result in results] == ["moved", "refused", "moved", "refused"]
    assert results[0]["faults"] == [FAILED]
    assert results[1]["refusals"] == [
        {
            "code": "destination_stopped",
            "reason": "no further guest goes to h2 in this run, because of web 1, which moved there: the check of port"
            " 22 failed after the move: timed out",
            "remedy": "see whether web 1 can be reached on h2, then make a new plan",
        }
    ]
    assert run.mover.started == ["s1", "s3"]


def test_what_failed_without_stopping_stops_nobody():
    run = Run(to_h2(1), to_h2(2))
    run.mover.faults["s1"] = [refusal("hook_failed", "/bin/thaw failed after the move", "run it by hand")]
    run.mover.end("s1")
    run.mover.end("s2")
    assert run.outcomes() == ["moved", "moved"]


BROKEN = "operation failed: Unable to write to socket: Broken pipe. It still runs where it was."


class Flaky:
    """A mover whose first tries fail."""

    def __init__(self, **fails):
        self.fails, self.asked = {name: list(errors) for name, errors in fails.items()}, []
        self.on_fail = lambda: None

    def move(self, step, transferred, take_link_slot, nearly_transferred, step_aside):
        assert take_link_slot()
        self.asked.append(step["id"])
        left = self.fails.get(step["id"])
        if left:
            self.on_fail()
            told = left.pop(0)
            if isinstance(told, str):
                return step_result(step, "failed", error=told)
            return step_result(step, "refused", refusals=[told])
        return step_result(step, "moved")


def carried_out(mover, *steps, stopping=None):
    progress, journal = Progress(), Journal()
    stopping = stopping or threading.Event()
    results = Executor(mover, journal, progress, window=1, stopping=stopping).run(steps)
    return [one["outcome"] for one in results], results, progress


def test_a_fault_that_passes_costs_one_more_try_after_all_others():
    mover = Flaky(s1=[BROKEN])
    outcomes, results, progress = carried_out(mover, step(1), step(2), step(3))
    assert mover.asked == ["s1", "s2", "s3", "s1"]
    assert outcomes == ["moved"] * 3
    assert results[0]["notes"] == [f"the first try failed: {BROKEN}"]
    assert progress.lines == [("waiting", f"trying once more: {BROKEN}")]


def test_there_is_one_more_try_and_not_a_third():
    mover = Flaky(s1=[BROKEN, BROKEN, BROKEN])
    outcomes, results, _progress = carried_out(mover, step(1), step(2))
    assert mover.asked == ["s1", "s2", "s1"]
    assert outcomes == ["failed", "moved"]
    assert (results[0]["error"], results[0]["notes"]) == (BROKEN, [f"the first try failed: {BROKEN}"])


@pytest.mark.parametrize(
    "told",
    [
        "given up: it does not converge, Broken pipe or not; permit allow_postcopy",
        "internal error: guest CPU doesn't match specification",
        refusal("no_room", "h2 has no room", "make room"),
        refusal("hook_failed", "the hook failed", "see why"),
    ],
)
def test_what_will_happen_again_is_not_tried_again(told):
    mover = Flaky(s1=[told])
    outcomes, _results, _progress = carried_out(mover, step(1), step(2))
    assert mover.asked == ["s1", "s2"]
    assert outcomes[1] == "moved"


@pytest.mark.parametrize("code", ["connection_lost", "no_daemon", "unreachable", "no_answer", "not_answering"])
def test_a_host_that_did_not_answer_is_asked_again(code):
    mover = Flaky(s1=[refusal(code, "h2 did not answer", "look")])
    outcomes, results, _progress = carried_out(mover, step(1), step(2))
    assert outcomes == ["moved", "moved"]
    assert results[0]["notes"] == ["the first try failed: h2 did not answer"]


def test_who_waits_for_such_a_step_gets_its_turn_as_well():
    mover = Flaky(s1=[BROKEN])
    outcomes, _results, _progress = carried_out(mover, step(1), step(2, "s1"), step(3))
    assert mover.asked == ["s1", "s3", "s1", "s2"]
    assert outcomes == ["moved"] * 3


def test_so_does_who_waits_for_one_that_waits_for_it():
    mover = Flaky(s1=[BROKEN])
    outcomes, _results, _progress = carried_out(mover, step(1), step(2, "s1"), step(3, "s2"))
    assert mover.asked == ["s1", "s1", "s2", "s3"]
    assert outcomes == ["moved"] * 3


def test_who_waits_for_two_of_which_one_cannot_go_does_not_go_either():
    mover = Flaky(s1=[BROKEN], s2=[refusal("no_room", "h3 has no room", "make room")])
    outcomes, results, _progress = carried_out(mover, step(1), step(2), step(3, "s1", "s2"))
    assert mover.asked == ["s1", "s2", "s1"]
    assert outcomes == ["moved", "refused", "refused"]
    assert results[2]["refusals"][0]["reason"] == "it may only move after s2, which did not move"


def test_a_run_that_is_stopped_tries_nothing_again():
    stopping = threading.Event()
    mover = Flaky(s1=[BROKEN])
    mover.on_fail = stopping.set
    outcomes, results, _progress = carried_out(mover, step(1), stopping=stopping)
    assert (outcomes, results[0]["notes"], mover.asked) == (["failed"], [], ["s1"])


# --- guests with hooks of their own ----------------------------------------------------------------------------------


def test_while_hooks_of_a_guest_run_others_move():
    run = Run(step(1), step(2), step(3), hooked=["s1"])
    run.mover.await_aside("s1")
    for name, started in (("s2", ["s2"]), ("s3", ["s2", "s3"])):
        run.mover.await_start(*started)
        run.mover.end(name)
    run.mover.end_hooks("s1")
    run.mover.await_start("s2", "s3", "s1")
    run.mover.end("s1")
    assert run.outcomes() == ["moved"] * 3


def test_a_guest_whose_hooks_are_done_is_the_next_one():
    run = Run(step(1), step(2), step(3), hooked=["s1"])
    run.mover.await_aside("s1")
    run.mover.await_start("s2")
    run.mover.nearly_transferred["s2"]()
    run.mover.await_ready("s1", "s2", "s3")
    run.mover.end_hooks("s1")
    run.stays_at("s2")
    run.mover.end("s2")
    run.mover.await_start("s2", "s1")
    run.stays_at("s2", "s1")
    run.mover.end("s1")
    run.mover.await_start("s2", "s1", "s3")
    run.mover.end("s3")
    assert run.outcomes() == ["moved"] * 3


def test_also_those_to_the_same_destination_move_and_the_first_of_them_goes_alone():
    run = Run(*[to_h2(number) for number in range(1, 4)], step(4), hooked=["s1"])
    run.mover.await_aside("s1")
    run.mover.await_start("s2")
    run.mover.nearly_transferred["s2"]()
    run.mover.await_ready("s1", "s2", "s3")
    run.mover.end_hooks("s1")
    run.stays_at("s2")
    for name in ("s1", "s2", "s3", "s4"):
        run.mover.end(name)
    assert run.outcomes() == ["moved"] * 4
    assert run.mover.started[0] == "s2"


def test_hooks_of_one_guest_run_at_a_time_and_those_without_do_not_wait():
    run = Run(step(1), step(2), step(3), step(4), hooked=["s1", "s2", "s3"])
    run.mover.await_aside("s1")
    run.mover.await_start("s4")
    run.mover.end("s4")
    time.sleep(0.05)
    assert run.mover.aside == ["s1"]
    run.mover.end_hooks("s1")
    run.mover.await_start("s4", "s1")
    run.mover.await_aside("s1", "s2")
    for name in ("s2", "s3"):
        run.mover.end_hooks(name)
    for name in ("s1", "s2", "s3"):
        run.mover.end(name)
    assert run.outcomes() == ["moved"] * 4
    assert run.mover.aside == ["s1", "s2", "s3"]


def test_many_guests_with_hooks_never_wait_for_each_other_for_ever():
    steps = [step(number, destination=f"h{number % 3}") for number in range(1, 25)]
    hooked = [one["id"] for one in steps if one["id"] not in ("s5", "s6", "s12", "s20")]
    run = Run(*steps, window=2, hooked=hooked)
    for one in steps:
        run.mover.end_hooks(one["id"])
        run.mover.end(one["id"], "failed" if one["id"] in ("s1", "s2", "s9") else "moved")
    assert run.outcomes().count("moved") == 21


def test_a_guest_whose_hooks_outlast_the_run_is_not_sent():
    run = Run(step(1), step(2), step(3), hooked=["s1", "s2"])
    run.mover.await_aside("s1")
    run.mover.await_start("s3")
    run.stopping.set()
    run.mover.end("s3")
    run.mover.end_hooks("s1")
    assert run.outcomes() == ["not_started", "not_started", "moved"]


def test_a_guest_whose_hooks_outlast_the_lease_is_refused():
    run = Run(step(1), step(2), hooked=["s1"])
    run.mover.await_aside("s1")
    run.mover.await_start("s2")
    run.lost = refusal("lease_lost", "h1 was taken over by bob@admin2", "run the playbook again")
    run.mover.end("s2")
    run.mover.end_hooks("s1")
    assert run.outcomes() == ["refused", "moved"]
