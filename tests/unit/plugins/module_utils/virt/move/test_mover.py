# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import pathlib
import threading
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.stalled_link import (
    MEND_POSTCOPY,
    POSTCOPY_LEAVE_S,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.run import split_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection_pool
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import destination, guest_state, host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import control_loop, dead_connection
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import job as migration
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import past_moves, waiting
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.admission import Admission
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import PreparationOptions
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.builders import AWKWARD_NAMES
from ansible_collections.kvmops.cluster.tests.unit.movers import MIB, RUNNING, URI, Move, Rig, rounds, until

STUCK = [300 * MIB, *[64 * MIB] * 60]
LEFT_PAUSED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)
SOCKET_CLOSED = "internal error: client socket is closed"
WEB1 = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
STOPPED = "the run was stopped before its turn"


def runs_at(guest, where, elsewhere):
    """The guest runs on one host, and the other has nothing of it: the one thing that must always hold."""
    found = where.guests.get(guest.uuid)
    other = elsewhere.guests.get(guest.uuid)
    return found is not None and found.state[0] == libvirt.VIR_DOMAIN_RUNNING and (other is None or not other.active)


def calls(rig, name):
    return [host_name for host_name, call in rig.cluster.writes if call == name]


def stuck(rig, job, *, until_decisions=2):
    """Let rounds pass without gain, six seconds each, one by one so that each is seen."""
    for iteration, left in enumerate(STUCK, 1):
        rig.clock.slept += 6
        rounds(job, left, first=iteration)
        until(lambda wanted=iteration: rig.judged >= wanted or job.finished)
        if job.finished or len(rig.recorder.decisions()) >= until_decisions:
            return


# --- a move that works --------------------------------------------------------------------------------------------


def test_a_guest_is_moved_and_everything_about_it_is_told(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    rounds(job, 300 * MIB, 9 * MIB, 3 * MIB)
    job.complete(downtime=92)
    result = move.result()
    assert runs_at(guest, rig.h2, rig.h1)
    assert rig.h2.guest("web1").persistent
    assert rig.h1.guests == {}
    assert (result["outcome"], result["error"], result["refusals"]) == ("moved", None, [])
    assert (result["downtime_ms"], result["iterations"], result["bytes"]) == (92, 3, 30 * MIB)
    assert (result["strategy"], result["source"], result["destination"]) == ("pre-copy", "h1", "h2")
    assert rig.transferred == ["s-web1"]
    told = [name for name in rig.recorder.names() if name != "migration.iteration"]
    assert told == [
        "step.started",
        "migration.started",
        "migration.switchover",
        "migration.completed",
        "step.verified",
        "migration.decision",
    ]


def test_libvirt_is_asked_for_what_the_intent_says(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, bandwidth_mib_s=50, max_downtime_ms=40)
    job = guest.wait_for_job()
    assert guest.downtime_ms == 30
    assert job.params == {"bandwidth": 50}
    assert job.flags == FLAGS | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    job.complete()
    assert move.result()["outcome"] == "moved"


def test_the_start_is_on_record_before_anything_is_done(rig):
    guest = rig.h1.add_guest("web1")
    seen = []
    rig.recorder.on_event = lambda name, _data: (
        name == "migration.started" and seen.append((guest.job, list(rig.cluster.writes)))
    )
    rig.cluster.on_migrate = lambda job: job.complete()
    rig.move(guest)
    assert seen == [(None, [])]


NO_DEFINITION = "web1 had no definition on h1 when it was sent, and has none on h2: it is gone once it is shut down"


def test_a_transient_guest_leaves_no_definition_anywhere(rig):
    guest = rig.h1.add_guest("web1", persistent=False)
    rig.cluster.on_migrate = lambda job: job.complete()
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("moved", None)
    assert result["notes"] == [NO_DEFINITION]
    assert runs_at(guest, rig.h2, rig.h1)
    assert not rig.h2.guest("web1").persistent
    assert calls(rig, "virDomainDefineXMLFlags") == []


def test_a_guest_whose_owner_undefines_it_while_it_waits_is_not_defined_again(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = lambda job: job.complete()
    decide = Admission.decide

    def then_undefined(self, move):
        found = decide(self, move)
        guest.persistent = False
        return found

    monkeypatch.setattr(Admission, "decide", then_undefined)
    result = rig.move(guest)
    assert (result["outcome"], result["notes"]) == ("moved", [NO_DEFINITION])
    assert not rig.h2.guest("web1").persistent


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_any_name_will_do(rig, name):
    guest = rig.h1.add_guest(name)
    rig.cluster.on_migrate = lambda job: job.complete()
    assert rig.move(guest)["outcome"] == "moved"
    assert runs_at(guest, rig.h2, rig.h1)


def test_final_statistics_that_come_after_the_answer_are_waited_for(rig, monkeypatch):
    guest = rig.h1.add_guest("web1", persistent=False)
    emit = libvirt.Host.emit

    def late(self, event, *arguments):
        if event == libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED:
            threading.Timer(0.08, emit, (self, event, *arguments)).start()
        else:
            emit(self, event, *arguments)

    monkeypatch.setattr(libvirt.Host, "emit", late)
    rig.cluster.on_migrate = lambda job: job.complete(downtime=77)
    assert rig.move(guest)["downtime_ms"] == 77


def test_the_link_is_free_as_soon_as_the_guest_runs_there(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    job.switch_over()
    rig.h2.lifecycle(job.destination_guest, libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
    until(lambda: rig.transferred)
    assert move.is_alive()
    job.complete()
    move.result()
    assert rig.transferred == ["s-web1"]


@pytest.mark.parametrize("overlap", [True, False])
def test_a_move_knows_whether_it_had_the_link_alone(rig, monkeypatch, overlap):
    shared_link = []
    monkeypatch.setattr(
        past_moves,
        "calibrate",
        lambda _settings, step, _appraised, _decision, ending: shared_link.append((step["id"], ending.shared_link)),
    )
    monkeypatch.setattr(destination, "incoming", lambda _connection: [])
    guests = [rig.h1.add_guest(name) for name in ("web1", "web2")]
    moves = []
    for guest in guests:
        moves.append(rig.start(guest))
        job = guest.wait_for_job()
        if not overlap:
            # The next begins once the memory of this one is over, before the call returns.
            job.switch_over()
            rig.h2.lifecycle(
                job.destination_guest, libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED
            )
            until(lambda: f"s-{guest.name}" in rig.transferred)  # noqa: B023 - it is awaited at once
    for guest in guests:
        guest.wait_for_job().complete()
    assert [move.result()["outcome"] for move in moves] == ["moved", "moved"]
    assert sorted(shared_link) == [("s-web1", overlap), ("s-web2", overlap)]


def test_guests_that_come_in_from_elsewhere_are_company(rig, monkeypatch):
    shared_link = []
    monkeypatch.setattr(past_moves, "calibrate", lambda *known: shared_link.append(known[-1].shared_link))
    monkeypatch.setattr(destination, "incoming", lambda _connection: ["other"])
    rig.use(incoming_limit=2)
    rig.cluster.on_migrate = lambda job: job.complete()
    rig.move(rig.h1.add_guest("web1"))
    assert shared_link == [True]


def test_moves_may_overlap(rig):
    rig.use(incoming_limit=2)
    first, second = rig.h1.add_guest("web1"), rig.h1.add_guest("web2")
    moves = [rig.start(first), rig.start(second)]
    jobs = [first.wait_for_job(), second.wait_for_job()]
    jobs[1].complete(downtime=11)
    assert moves[1].result()["downtime_ms"] == 11
    jobs[0].complete(downtime=22)
    assert moves[0].result()["downtime_ms"] == 22
    assert runs_at(first, rig.h2, rig.h1)
    assert runs_at(second, rig.h2, rig.h1)
    assert len(rig.cluster.opened) == 2


# --- a move that fails, and the guest stays ------------------------------------------------------------------------

STAYS = " It still runs where it was."


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (libvirt.VIR_ERR_OPERATION_FAILED, "operation failed: job 'migration out' failed: Unable to write to socket"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, SOCKET_CLOSED),
        (libvirt.VIR_ERR_OPERATION_FAILED, "operation failed: migration failed. Message from the source host: a"),
    ],
)
def test_a_failure_says_what_libvirt_said_and_that_the_guest_runs(rig, code, text):
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = lambda job: job.fail(code, text)
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("failed", f"{text}.{STAYS}")
    assert runs_at(guest, rig.h1, rig.h2)
    assert guest.persistent
    failed = next(data for name, data in rig.recorder.events if name == "migration.failed")
    assert (failed["code"], failed["error"]) == (code, text)
    assert result["downtime_ms"] is None


def test_what_libvirt_refuses_at_the_start_is_said(rig):
    guest = rig.h1.add_guest("web1")
    rig.h2.refuse_incoming = libvirt.libvirtError("internal error: unable to bind to port 49152", 1)
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == (
        "failed",
        f"internal error: unable to bind to port 49152.{STAYS}",
    )


def test_the_downtime_limit_is_given_back_when_the_guest_stays(rig):
    guest = rig.h1.add_guest("web1")
    guest.downtime_ms = 321
    seen = []

    def fail(job):
        seen.append(guest.downtime_ms)
        job.fail()

    rig.cluster.on_migrate = fail
    rig.move(guest)
    assert (seen, guest.downtime_ms) == ([30], 321)


def test_a_limit_that_cannot_be_set_is_a_failure_with_its_reason(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")

    def refused(_domain, _limit, _flags=0):
        raise libvirt.libvirtError(libvirt.HELD, libvirt.VIR_ERR_OPERATION_TIMEOUT)

    monkeypatch.setattr(libvirt.Domain, "migrateSetMaxDowntime", refused)
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("failed", f"{libvirt.HELD}.{STAYS}")
    assert calls(rig, "virDomainMigrateToURI3") == []


def test_a_flag_that_this_binding_does_not_know_does_not_read_as_success(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    monkeypatch.delattr(libvirt, "VIR_MIGRATE_ABORT_ON_ERROR")
    result = rig.move(guest)
    assert result["outcome"] == "failed"
    assert "VIR_MIGRATE_ABORT_ON_ERROR" in result["error"]
    assert "migration.failed" in rig.recorder.names()


# --- a move that is given up ----------------------------------------------------------------------------------------


def test_an_interrupt_aborts_what_is_in_precopy(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    rounds(job, 300 * MIB)
    rig.interrupted.set()
    result = move.result()
    assert result["outcome"] == "failed"
    assert result["error"] == f"given up: interrupted; start it again when you are ready.{STAYS}"
    assert runs_at(guest, rig.h1, rig.h2)
    assert rig.recorder.decisions() == ["abort", "reject"]


@pytest.mark.parametrize("resumes", [True, False])
def test_a_guest_that_was_stopped_to_finish_runs_again_here_when_its_deadline_passes(rig, monkeypatch, resumes):
    """libvirt lets it go on; where it does not, it is ours to do."""
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_suspend=True, deadline_s=600)
    job = guest.wait_for_job()
    stuck(rig, job)
    until(lambda: guest.state == LEFT_PAUSED)
    if not resumes:
        monkeypatch.setattr(libvirt.Domain, "abortJob", lambda _domain: job.fail_unclear())
    rig.clock.slept += 600
    result = move.result()
    assert result["error"].startswith("given up: the deadline of 600 s has passed")
    assert (result["outcome"], runs_at(guest, rig.h1, rig.h2)) == ("failed", True)
    assert calls(rig, "virDomainResume") == ([] if resumes else ["h1"])
    assert rig.recorder.decisions()[:3] == ["raise_downtime", "suspend", "abort"]


@pytest.mark.parametrize("code", [78, 9, 1])
def test_an_abort_is_an_abort_whatever_the_error_of_the_call(rig, code):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    job.ignore_abort = True
    rig.interrupted.set()
    until(lambda: job.aborted)
    job.fail(code, "operation failed: job 'migration out' failed: Channel error: Input/output error")
    result = move.result()
    assert (result["outcome"], result["error"][:21]) == ("failed", "given up: interrupted")


def test_an_abort_is_given_its_time(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    rounds(job, 300 * MIB)
    until(lambda: rig.judged)
    job.ignore_abort = True
    rig.interrupted.set()
    until(lambda: job.aborted)
    rig.clock.slept += migration.ABORT_TIMEOUT_S / 2
    threading.Event().wait(0.05)
    job.fail(78, "operation aborted: job 'migration out' canceled by client")
    result = move.result()
    failed = next(data for name, data in rig.recorder.events if name == "migration.failed")
    assert failed["error"] == "operation aborted: job 'migration out' canceled by client"
    assert (result["outcome"], result["bytes"]) == ("failed", 10 * MIB)


def test_an_abort_that_comes_too_late_is_a_move(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    job.ignore_abort = True
    rig.interrupted.set()
    until(lambda: job.aborted)
    job.complete()
    result = move.result()
    assert (result["outcome"], result["error"]) == ("moved", None)
    assert runs_at(guest, rig.h2, rig.h1)


def test_an_abort_that_libvirt_does_not_obey_is_not_waited_for_for_ever(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    job.ignore_abort = True
    rig.interrupted.set()
    until(lambda: job.aborted)
    rig.clock.slept += migration.ABORT_TIMEOUT_S
    result = move.result()
    assert result["outcome"] == "unclear"
    assert result["error"].endswith(
        "web1 is running (booted) on h1 and paused (migration) on h2: start and destroy nothing; look again later:"
        " virsh domstate --reason web1 on both hosts"
    )
    assert rig.clock.slept < 150
    job.fail()


def test_an_abort_is_waited_for_even_when_there_are_no_statistics(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    job.ignore_abort = True
    rig.interrupted.set()
    until(lambda: job.aborted)
    job.stats["type"] = libvirt.VIR_DOMAIN_JOB_CANCELLED
    rig.clock.slept += migration.ABORT_TIMEOUT_S
    until(lambda: "migration.failed" in rig.recorder.names())
    job.fail()
    assert move.result()["outcome"] == "failed"


def test_a_refused_abort_is_tried_again_but_not_all_the_time(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    tried = []

    def refuse(_domain):
        tried.append(rig.clock())
        if len(tried) > 1:
            job.fail(78, "operation aborted: job 'migration out' canceled by client")
            return
        raise libvirt.libvirtError(libvirt.HELD, libvirt.VIR_ERR_OPERATION_TIMEOUT)

    monkeypatch.setattr(libvirt.Domain, "abortJob", refuse)
    rig.interrupted.set()
    until(lambda: tried)
    rig.clock.slept += 6
    assert move.result()["error"].startswith("given up: interrupted")
    assert tried[1] - tried[0] > 5


def test_the_deadline_holds_when_there_are_no_statistics_at_all(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, deadline_s=30)
    job = guest.wait_for_job()
    job.stats["type"] = libvirt.VIR_DOMAIN_JOB_NONE
    rig.clock.slept += 31
    result = move.result()
    assert result["error"].startswith("given up: the deadline of 30 s has passed; give it more time")
    assert runs_at(guest, rig.h1, rig.h2)


def test_a_guest_that_does_not_converge_is_given_up_with_what_it_would_take(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    stuck(rig, job)
    result = move.result()
    assert result["outcome"] == "failed"
    assert result["error"] == (
        "given up: 64.0 MiB are dirtied again in every round: at 22.8 MiB/s it would be down for about 2807 ms, and the"
        " intent permits 500 ms; permit allow_postcopy, allow_suspend or max_downtime_ms of at least 3508, or give it a"
        f" faster link.{STAYS}"
    )
    assert rig.recorder.decisions() == ["raise_downtime", "abort", "reject"]
    assert job.downtimes[0] == 500
    assert guest.downtime_ms == 300


def test_a_link_that_guests_use_too_gets_no_more_than_each_round_needs(rig):
    guest = rig.h1.add_guest("web1")
    guest.speed_mib_s = 777
    move = rig.start(guest, bandwidth_floor_mib_s=5, bandwidth_mib_s=50)
    job = guest.wait_for_job()
    assert job.params["bandwidth"] == 5
    rig.clock.slept += 20
    rounds(job, 100 * MIB, first=1)
    until(lambda: guest.speed_mib_s == 5)
    rig.clock.slept += 10
    rounds(job, 80 * MIB, first=2)
    until(lambda: 5 < guest.speed_mib_s <= 50)
    job.fail()
    assert move.result()["outcome"] == "failed"
    # Otherwise the rate would hold for the guest's next move.
    assert guest.speed_mib_s == 777


def test_it_is_not_begun_once_it_was_interrupted(rig):
    guest = rig.h1.add_guest("web1")
    rig.interrupted.set()
    result = rig.move(guest)
    assert [one["code"] for one in result["refusals"]] == ["interrupted"]
    assert rig.cluster.writes == []


# --- post-copy and suspend ------------------------------------------------------------------------------------------


def test_postcopy_where_it_is_permitted(rig, postcopy):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_postcopy=True, deadline_s=10_000)
    job = guest.wait_for_job()
    stuck(rig, job)
    until(lambda: job.postcopy)
    # From now on nothing may abort it: neither a deadline nor an interrupt.
    rig.clock.slept += 20_000
    rig.interrupted.set()
    rounds(job, 20 * MIB, first=40)
    assert rig.transferred == []
    job.complete(downtime=3)
    result = move.result()
    assert (result["outcome"], result["strategy"]) == ("moved", "post-copy")
    assert result["downtime_ms"] < 3000
    assert calls(rig, "virDomainAbortJob") == []
    assert rig.transferred == ["s-web1"]


def test_postcopy_downtime_is_the_gap_that_both_sides_saw(rig, postcopy):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_postcopy=True)
    job = guest.wait_for_job()
    job.switch_over()
    until(lambda: guest.state == LEFT_PAUSED)
    threading.Event().wait(0.06)
    job.enter_postcopy()
    job.complete(downtime=3)
    assert 50 <= move.result()["downtime_ms"] < 2000


def test_an_interrupt_between_the_switch_to_postcopy_and_its_event_aborts_nothing(rig, postcopy, monkeypatch):
    """QEMU may have switched before libvirt hears of it: an abort then would lose the guest."""
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_postcopy=True)
    job = guest.wait_for_job()
    asked = threading.Event()
    monkeypatch.setattr(libvirt.Domain, "migrateStartPostCopy", lambda _domain, _flags=0: asked.set())
    stuck(rig, job)
    assert asked.wait(5)
    rig.interrupted.set()
    rounds(job, 60 * MIB, first=50)
    until(lambda: rig.judged >= 50)
    job.enter_postcopy()
    job.complete()
    assert move.result()["outcome"] == "moved"
    assert calls(rig, "virDomainAbortJob") == []


def test_postcopy_that_breaks_is_unclear_soon_and_nothing_is_touched(rig, postcopy):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_postcopy=True)
    job = guest.wait_for_job()
    stuck(rig, job)
    until(lambda: job.postcopy)
    before, slept = len(rig.cluster.writes), rig.clock.slept
    job.break_link()
    result = move.result()
    assert result["outcome"] == "unclear"
    assert result["error"].startswith(
        "operation failed: job 'migration in' failed in post-copy phase. post-copy was interrupted"
    )
    assert "destroy neither side" in result["error"]
    # But for the downtime limit, which is given back.
    touched = {call for _host, call in rig.cluster.writes[before:]}
    assert touched <= {"virDomainMigrateSetMaxDowntime"}
    assert rig.clock.slept - slept < 60
    assert rig.transferred == []
    [mark] = split_guests.marked(rig.settings.state_dir)
    assert (mark["name"], mark["other"]) == ("web1", "h2")


def test_a_postcopy_that_libvirt_does_not_end_is_waited_for_no_longer(rig, postcopy):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_postcopy=True)
    job = guest.wait_for_job()
    stuck(rig, job)
    until(lambda: job.postcopy)
    job.enter_postcopy()
    before = len(rig.cluster.writes)
    rig.clock.slept += POSTCOPY_LEAVE_S
    result = move.result()
    job.fail()
    assert result["outcome"] == "unclear"
    assert result["error"].startswith("libvirt did not end the post-copy: no data was sent for ")
    assert result["error"].endswith(MEND_POSTCOPY)
    assert {call for _host, call in rig.cluster.writes[before:]} <= {"virDomainMigrateSetMaxDowntime"}
    [mark] = split_guests.marked(rig.settings.state_dir)
    assert (mark["name"], mark["other"]) == ("web1", "h2")


def test_a_broken_postcopy_that_is_found_is_unclear_and_untouched(rig):
    guest = rig.h1.add_guest("web1")
    outside(rig, guest, FLAGS | libvirt.VIR_MIGRATE_POSTCOPY)
    job = guest.wait_for_job()
    job.step(memory_iteration=1)
    job.enter_postcopy()
    job.break_link()
    before = len(rig.cluster.writes)
    result = rig.move(guest)
    assert result["outcome"] == "unclear"
    assert "destroy neither side" in result["error"]
    assert rig.cluster.writes[before:] == []


def test_postcopy_that_libvirt_refuses_is_not_wanted_for_ever(rig, postcopy, monkeypatch):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_postcopy=True)
    job = guest.wait_for_job()

    def refuse(_domain, _flags=0):
        raise libvirt.libvirtError("internal error: unable to execute QEMU command 'migrate-start-postcopy'", 1)

    monkeypatch.setattr(libvirt.Domain, "migrateStartPostCopy", refuse)
    stuck(rig, job, until_decisions=99)
    assert "given up: 64.0 MiB are dirtied again" in move.result()["error"]
    assert rig.recorder.decisions().count("start_postcopy") == 3


def test_a_guest_is_stopped_to_finish_only_where_that_is_permitted(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_suspend=True)
    job = guest.wait_for_job()
    stuck(rig, job)
    until(lambda: calls(rig, "virDomainSuspend"))
    threading.Event().wait(0.05)
    job.complete(downtime=5)
    result = move.result()
    assert result["outcome"] == "moved"
    assert result["downtime_ms"] >= 50
    assert runs_at(guest, rig.h2, rig.h1)


@pytest.mark.parametrize("reason", [libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_USER])
def test_a_guest_that_was_stopped_to_finish_goes_on_when_the_move_fails(rig, reason):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest, allow_suspend=True)
    job = guest.wait_for_job()
    stuck(rig, job)
    until(lambda: calls(rig, "virDomainSuspend"))
    job.fail_unclear()
    guest.state = (libvirt.VIR_DOMAIN_PAUSED, reason)
    assert move.result()["outcome"] == "failed"
    assert runs_at(guest, rig.h1, rig.h2)


# --- daemons and links that die --------------------------------------------------------------------------------------


def test_the_source_daemon_is_restarted_and_the_guest_stays(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    rig.clock.on_sleep = lambda clock: clock.slept > 30 and rig.h1.start_daemon()
    rig.h1.stop_daemon()
    until(lambda: "migration.failed" in rig.recorder.names())
    job.fail()
    result = move.result()
    assert (result["outcome"], result["error"]) == ("failed", f"{SOCKET_CLOSED}.{STAYS}")
    assert runs_at(guest, rig.h1, rig.h2)


def test_the_source_daemon_dies_and_the_move_goes_on_without_us(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    job.lose_client()
    until(lambda: "migration.failed" in rig.recorder.names())
    until(lambda: rig.clock.slept > 200)
    job.complete()
    result = move.result()
    assert (result["outcome"], result["error"]) == ("moved", None)
    assert runs_at(guest, rig.h2, rig.h1)


def test_a_move_that_goes_on_without_our_call_is_still_steered(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    job.lose_client()
    until(lambda: "migration.failed" in rig.recorder.names())
    stuck(rig, job)
    result = move.result()
    assert job.downtimes[-1] == 500
    assert (result["outcome"], result["error"][:40]) == ("failed", "given up: 64.0 MiB are dirtied again in ")
    assert runs_at(guest, rig.h1, rig.h2)


def test_the_destination_daemon_is_killed_and_shows_a_half_made_guest_for_a_while(rig):
    guest = rig.h1.add_guest("web1")

    def die(job):
        half = job.destination_guest
        job.fail(libvirt.VIR_ERR_INTERNAL_ERROR, SOCKET_CLOSED)
        half.state = LEFT_PAUSED
        rig.h2.guests[guest.uuid] = half
        rig.clock.on_sleep = reap

    def reap(clock):
        if clock.slept > 6:
            rig.h2.guests.pop(guest.uuid, None)

    rig.cluster.on_migrate = die
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("failed", f"{SOCKET_CLOSED}.{STAYS}")
    assert runs_at(guest, rig.h1, rig.h2)
    assert 6 < rig.clock.slept < 10


def test_the_link_is_cut_and_the_destination_never_answers(rig):
    guest = rig.h1.add_guest("web1")

    def cut(job):
        job.fail(libvirt.VIR_ERR_INTERNAL_ERROR, SOCKET_CLOSED)
        rig.h2.stop_daemon()

    rig.cluster.on_migrate = cut
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("failed", f"{SOCKET_CLOSED}.{STAYS}")


def lose_last_answer(job, *, ran):
    """The destination has all of the guest, its answer is lost, and libvirt lets the guest go on at its source."""
    job.switch_over()
    if ran:
        detail = libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED
        job.destination.lifecycle(job.destination_guest, libvirt.VIR_DOMAIN_EVENT_RESUMED, detail)
    job.fail(libvirt.VIR_ERR_INTERNAL_ERROR, SOCKET_CLOSED)


@pytest.mark.parametrize("ran", [False, True])
def test_a_lost_last_answer_with_a_silent_destination_is_never_called_stayed(rig, ran):
    guest = rig.h1.add_guest("web1")

    def lost(job):
        lose_last_answer(job, ran=ran)
        rig.h2.stop_daemon()

    rig.cluster.on_migrate = lost
    result = rig.move(guest)
    assert result["outcome"] == "unclear"
    happened = "it ran on h2" if ran else "it was handed over to h2"
    told = "URGENT: web1 may run twice, on the same disks: it is running (migration_canceled) on h1, and "
    assert told + happened + " before that stopped answering" in result["error"]
    assert "first stop one side: pause it on h1 (virsh suspend web1), or switch h2 off" in result["error"]


def test_a_guest_that_ran_at_its_destination_and_is_back_is_not_called_stayed(rig):
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = lambda job: lose_last_answer(job, ran=True)
    result = rig.move(guest)
    assert result["outcome"] == "unclear"
    assert "where it ran meanwhile, so its memory on h1 is older than its disks" in result["error"]


def test_a_result_that_is_lost_lets_the_guest_go_on_at_once(rig):
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = lambda job: job.fail_unclear()
    result = rig.move(guest)
    assert result["outcome"] == "failed"
    assert runs_at(guest, rig.h1, rig.h2)
    assert calls(rig, "virDomainResume") == ["h1"]
    assert rig.clock.slept < 10
    assert rig.recorder.decisions() == ["resume_source", "reject"]


def test_a_result_that_is_lost_with_the_destination_touches_nothing(rig):
    guest = rig.h1.add_guest("web1")

    def lost(job):
        job.fail_unclear()
        rig.h2.stop_daemon()

    rig.cluster.on_migrate = lost
    result = rig.move(guest)
    assert result["outcome"] == "unclear"
    assert "bring h2 back" in result["error"]
    assert guest.state == LEFT_PAUSED
    assert calls(rig, "virDomainResume") == []


def test_a_destination_that_hangs_after_a_result_was_lost_is_not_waited_for_without_an_end(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    hung, real = threading.Event(), libvirt.open

    def opens(uri):
        if uri == URI and lost:
            hung.wait(60)
        return real(uri)

    def lose(job):
        lost.append(job)
        monkeypatch.setattr(connection_pool, "OPEN_S", 0.005)
        job.fail_unclear()
        for connection in rig.h2.connections:
            connection.dead = True

    lost = []
    monkeypatch.setattr(libvirt, "open", opens)
    rig.cluster.on_migrate = lose
    result = rig.move(guest)
    hung.set()
    assert result["outcome"] == "unclear"
    assert "h2, which does not answer (qemu+ssh://root@h2/system does not answer within 0.005 s)" in result["error"]
    assert "bring h2 back" in result["error"]
    assert (guest.state, calls(rig, "virDomainResume")) == (LEFT_PAUSED, [])


def test_a_guest_that_hangs_is_told_once_its_deadline_has_passed(rig, monkeypatch):
    """libvirt waits for its QEMU without an end, and refuses all others after a while."""
    guest = rig.h1.add_guest("web1")
    monkeypatch.setattr(control_loop, "ANSWER_S", 0.02)
    hung, asked, real = threading.Event(), [], libvirt.Domain.jobStats

    def ask(domain, flags=0):
        if not hangs:
            return real(domain, flags)
        asked.append(1)
        if len(asked) == 1:
            hung.wait(60)
        raise libvirt.libvirtError(libvirt.HELD, libvirt.VIR_ERR_OPERATION_TIMEOUT)

    def refuse(_domain):
        raise libvirt.libvirtError(libvirt.HELD, libvirt.VIR_ERR_OPERATION_TIMEOUT)

    hangs = []
    monkeypatch.setattr(libvirt.Domain, "jobStats", ask)
    monkeypatch.setattr(libvirt.Domain, "abortJob", refuse)
    move = rig.start(guest, deadline_s=60)
    job = guest.wait_for_job()
    hangs.append(1)
    until(lambda: asked)
    rig.clock.slept += 60
    until(lambda: "abort" in rig.recorder.decisions())
    rig.clock.slept += migration.ABORT_TIMEOUT_S
    result = move.result()
    hung.set()
    job.fail()
    assert result["outcome"] == "unclear"
    assert result["error"].startswith("libvirt did not end the migration that was aborted")
    assert "web1 is in an unknown state on h1, which does not answer" in result["error"]


def test_a_guest_that_runs_there_is_not_resumed_here(rig):
    guest = rig.h1.add_guest("web1")

    def lost(job):
        arrived = job.destination_guest
        job.fail_unclear()
        arrived.state = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED)
        rig.h2.guests[guest.uuid] = arrived

    rig.cluster.on_migrate = lost
    result = rig.move(guest)
    assert result["outcome"] == "unclear"
    assert "start and destroy nothing" in result["error"]
    assert not {"virDomainResume", "virDomainDestroy", "virDomainUndefineFlags"} & {c for _h, c in rig.cluster.writes}


@pytest.mark.parametrize("unreachable", [False, True])
def test_a_guest_that_cannot_be_resumed_is_said_to_stand_still(rig, monkeypatch, unreachable):
    guest = rig.h1.add_guest("web1")

    def refuse(_domain):
        if unreachable:
            rig.h1.stop_daemon()
        raise libvirt.libvirtError("internal error: QEMU does not answer", 1)

    monkeypatch.setattr(libvirt.Domain, "resume", refuse)
    rig.cluster.on_migrate = lambda job: job.fail_unclear()
    result = rig.move(guest)
    assert result["outcome"] == "unclear"
    wanted = "bring h1 back" if unreachable else "resume it by hand (virsh resume web1 on h1); h2 has nothing of it"
    assert wanted in result["error"]


# --- definitions -----------------------------------------------------------------------------------------------------


def without_definition(job):
    """Code 69: it runs there, but libvirt could not define it."""
    job.flags &= ~(libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)
    job.complete(error=libvirt.libvirtError("Failed to make domain persistent after migration", 69))


def test_a_definition_that_did_not_come_along_is_made_and_then_removed_here(rig):
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = without_definition
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("moved", None)
    assert rig.h2.guest("web1").persistent
    assert rig.h1.guests == {}
    writes = [write for write in rig.cluster.writes if write[1].startswith(("virDomainDefine", "virDomainUndefine"))]
    assert writes == [("h2", "virDomainDefineXMLFlags"), ("h1", "virDomainUndefineFlags")]


def test_a_definition_is_kept_here_as_long_as_there_is_none_there(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")

    def refuse(_connection, _xml, _flags=0):
        raise libvirt.libvirtError("cannot open file '/etc/libvirt/qemu/web1.xml': No space left on device", 38)

    monkeypatch.setattr(libvirt.Connection, "defineXMLFlags", refuse)
    rig.cluster.on_migrate = without_definition
    result = rig.move(guest)
    assert result["outcome"] == "moved"
    assert result["error"] == (
        "it has moved, but web1 has no persistent definition on h2 and web1 is still defined on h1, and that could not"
        " be corrected: cannot open file '/etc/libvirt/qemu/web1.xml': No space left on device: run it again; until"
        " then web1 is gone once it is shut down on h2"
    )
    assert rig.h1.guest("web1").persistent


def test_a_definition_that_cannot_be_removed_here_is_told(rig, monkeypatch):
    guest = rig.h1.add_guest("web1", autostart=True)

    def refuse(_domain, _flags=0):
        raise libvirt.libvirtError("Timed out during operation: cannot acquire state change lock", 68)

    def left_behind(job):
        job.flags &= ~libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        job.complete()

    monkeypatch.setattr(libvirt.Domain, "undefineFlags", refuse)
    rig.cluster.on_migrate = left_behind
    result = rig.move(guest)
    assert result["outcome"] == "moved"
    assert result["error"] == (
        "it has moved, but web1 is still defined on h1, and that could not be corrected: Timed out during operation:"
        " cannot acquire state change lock: remove it there before h1 is rebooted, which might start it again: virsh"
        " undefine --keep-nvram web1"
    )


def test_a_definition_that_a_run_left_behind_when_it_died_is_removed(rig):
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = without_definition
    connection = libvirt.open("qemu:///system")
    with pytest.raises(libvirt.libvirtError):
        connection.lookupByName("web1").migrateToURI3(URI, {}, FLAGS)
    assert rig.move(guest)["outcome"] == "already_there"
    assert rig.h2.guest("web1").persistent
    assert rig.h1.guests == {}


def test_a_definition_that_did_not_stay_behind_in_a_migration_is_not_ours(rig):
    off = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED)
    guest = rig.h1.add_guest("web1", state=off)
    rig.h2.add_guest("web1", uuid=guest.uuid)
    assert rig.move(guest)["outcome"] == "already_there"
    assert rig.cluster.writes == []


# --- nothing to do, nothing that can be done -------------------------------------------------------------------------


def code_of(result):
    assert result["outcome"] == "refused"
    assert result["refusals"]
    assert all(one["reason"] and one["remedy"] for one in result["refusals"])
    return result["refusals"][0]["code"]


def test_a_guest_that_is_there_already_is_left_alone(rig):
    guest = rig.h2.add_guest("web1")
    assert rig.move(guest)["outcome"] == "already_there"
    assert rig.cluster.writes == []


@pytest.mark.parametrize("persistent", [True, False])
def test_a_guest_that_somebody_moved_by_hand_without_a_definition_is_told(rig, persistent):
    guest = rig.h2.add_guest("web1", persistent=persistent)
    result = rig.move(guest)
    told = (
        "somebody else has moved web1, and h2 has no definition of it: it is gone once it is shut down. If it is to"
        " stay, define it on h2: virsh dumpxml --inactive --security-info web1 > guest.xml && virsh define guest.xml"
    )
    assert (result["outcome"], result["notes"]) == ("already_there", [] if persistent else [told])


def test_a_guest_that_nobody_knows(rig):
    guest = rig.h1.add_guest("web1")
    rig.h1.guests.clear()
    result = rig.move(guest)
    assert code_of(result) == "unknown_guest"
    assert result["refusals"][0]["reason"] == "there is no guest web1 on h1, nor on h2"
    assert rig.recorder.names() == ["step.started", "step.refused"]


@pytest.mark.parametrize(
    "state",
    [
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER),
        (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED),
    ],
)
def test_a_guest_that_is_there_but_does_not_run(rig, state):
    guest = rig.h2.add_guest("web1", state=state)
    result = rig.move(guest)
    assert code_of(result) == "not_here"
    assert "web1 is not on h1: it is" in result["refusals"][0]["reason"]


def test_a_guest_that_vanishes_while_it_is_looked_at(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    real = host.snapshot

    def late(*arguments, **named):
        rig.h1.guests.clear()
        return real(*arguments, **named)

    monkeypatch.setattr(host, "snapshot", late)
    assert code_of(rig.move(guest)) == "vanished"


def test_a_guest_that_vanishes_after_it_was_looked_at(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    real = rig.mover._parts.admission._waits.for_slot

    def late(move):
        rig.h1.guests.clear()
        return real(move)

    monkeypatch.setattr(rig.mover._parts.admission._waits, "for_slot", late)
    result = rig.move(guest)
    assert code_of(result) == "libvirt_error"
    assert "no domain with matching uuid" in result["refusals"][0]["reason"]


@pytest.mark.parametrize("known", [None, {"connect_uri": None, "migration_address": None}])
def test_a_destination_without_a_uri_is_never_this_very_host(rig, known):
    guest = rig.h1.add_guest("web1")
    destinations = {} if known is None else {"h2": known}
    rig.use(destinations=destinations)
    assert code_of(rig.move(guest)) == "unknown_host"
    assert rig.cluster.opened == []


@pytest.mark.parametrize("down", ["h1", "h2"])
def test_a_host_that_does_not_answer(rig, down):
    guest = rig.h1.add_guest("web1")
    rig.cluster.hosts[down].stop_daemon()
    result = rig.move(guest)
    assert code_of(result) == "no_daemon"
    assert rig.cluster.writes == []


@pytest.mark.parametrize("where", ["h1", "h2"])
def test_a_host_that_cannot_say_how_the_guest_is_is_not_taken_for_one_without_it(rig, monkeypatch, where):
    """Anything else would call it unknown, or already there, while it runs at the source."""
    guest = rig.h1.add_guest("web1")
    rig.h2.add_guest("web1", uuid=guest.uuid)
    real = libvirt.Domain.jobStats

    def hang(domain, flags=0):
        if domain.connect().host.name == where:
            raise libvirt.libvirtError(libvirt.HELD, libvirt.VIR_ERR_OPERATION_TIMEOUT)
        return real(domain, flags)

    monkeypatch.setattr(libvirt.Domain, "jobStats", hang)
    result = rig.move(guest)
    assert code_of(result) == "not_answering"
    assert result["refusals"][0]["reason"] == f"{where} does not report the state of web1: {libvirt.HELD}"


def test_a_daemon_that_stops_between_two_calls_is_a_reason_and_not_a_crash(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")

    def dead(self, *_arguments):
        raise libvirt.libvirtError(SOCKET_CLOSED, 1)

    monkeypatch.setattr(libvirt.Connection, "domainEventRegisterAny", dead)
    assert code_of(rig.move(guest)) == "unreachable"


def test_an_intent_that_makes_no_sense_is_refused(rig):
    guest = rig.h1.add_guest("web1")
    step = rig.step(guest)
    step["intent"]["max_downtime_ms"] = -1
    assert code_of(rig.mover.move(step, lambda: None)) == "intent"
    assert code_of(rig.mover.check(step)) == "intent"


@pytest.mark.parametrize("claims_to_live", [False, True])
@pytest.mark.parametrize("moment", ["idle", "maintenance record"])
def test_a_daemon_that_is_restarted_costs_some_seconds_and_no_guest(rig, monkeypatch, moment, claims_to_live):
    """At an idle moment, and in the middle of a question."""
    first, second = rig.h1.add_guest("web1"), rig.h1.add_guest("web2")
    rig.cluster.on_migrate = lambda job: job.complete()
    assert rig.move(first)["outcome"] == "moved"
    if claims_to_live:
        monkeypatch.setattr(libvirt.Connection, "isAlive", lambda connection: 1)
    real, restarts = libvirt.Connection.secretLookupByUUIDString, [moment]

    def restart():
        restarts.clear()
        rig.h2.stop_daemon()
        rig.clock.on_sleep = lambda clock: clock.slept >= begun + 5 and rig.h2.start_daemon()

    def lookup(connection, uuid):
        if connection.host is rig.h2 and restarts:
            restart()
        return real(connection, uuid)

    begun = rig.clock.slept
    if moment == "idle":
        restart()
    monkeypatch.setattr(libvirt.Connection, "secretLookupByUUIDString", lookup)
    result = rig.move(second)
    assert result["outcome"] == "moved"
    assert runs_at(second, rig.h2, rig.h1)
    assert 5 <= rig.clock.slept - begun < 15


def test_only_the_first_guest_waits_for_a_daemon_that_does_not_come_back(rig):
    guests = [rig.h1.add_guest(f"web{number}") for number in (1, 2)]
    rig.h2.stop_daemon()
    waited = []
    for guest in guests:
        before = rig.clock.slept
        assert code_of(rig.move(guest)) == "no_daemon"
        waited.append(rig.clock.slept - before)
    assert waited[0] >= 29
    assert waited[1] < 1


def test_nobody_waits_for_a_daemon_when_the_run_is_stopped(rig):
    guest = rig.h1.add_guest("web1")
    rig.h2.stop_daemon()
    rig.clock.on_sleep = lambda clock: rig.stopping.set()
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("not_started", STOPPED)
    assert rig.clock.slept < 3


@pytest.mark.parametrize("uri", ["qemu+tcp://h2/system", "qemu+tls://h2/system?no_verify=1"])
def test_what_must_be_encrypted_does_not_go_by_way_of_a_daemon_that_is_not(rig, uri):
    guest = rig.h1.add_guest("web1")
    rig.use(destinations={"h2": {"connect_uri": uri, "migration_address": None}})
    step = rig.step(guest, encryption="required")
    for result in (rig.mover.check(step), rig.mover.move(step, lambda: None)):
        assert code_of(result) == "control_unencrypted"
    assert runs_at(guest, rig.h1, rig.h2)
    assert rig.cluster.writes == []


def test_an_address_that_names_a_program_is_never_opened(rig):
    guest = rig.h1.add_guest("web1")
    rig.use(destinations={"h2": {"connect_uri": "qemu+ext:///system?command=/tmp/x", "migration_address": None}})
    assert code_of(rig.move(guest)) == "connect_uri"
    assert runs_at(guest, rig.h1, rig.h2)


def test_a_step_that_names_another_guest_than_its_uuid_moves_nobody(rig):
    guest = rig.h1.add_guest("web1")
    step = rig.step(guest)
    step["guest"]["name"] = "unimportant"
    for result in (rig.mover.check(step), rig.mover.move(step, lambda: None)):
        assert code_of(result) == "other_guest"
        assert result["refusals"][0]["reason"] == f"the guest {guest.uuid} on h1 is web1, not unimportant"
    assert runs_at(guest, rig.h1, rig.h2)


def named(inner, path="."):
    """The XML of a guest called web1, with these elements in it."""
    root = ET.fromstring(libvirt.domain_xml("web1", WEB1))
    root.find(path).extend(ET.fromstring(f"<x>{inner}</x>"))
    return ET.tostring(root, encoding="unicode")


NIC = "<interface type='bridge'><source bridge='br-dmz'/></interface>"
NETWORK = "<interface type='network'><source network='dmz'/></interface>"
DISPLAY = "<graphics type='vnc' port='5901' autoport='no' listen='0.0.0.0'/>"


@pytest.mark.parametrize(
    ("xml", "there", "reason"),
    [
        (named(NIC, "devices"), {"interfaces": ["lo"]}, "h2 has no bridge br-dmz, to which web1 is attached"),
        (named(NETWORK, "devices"), {}, "h2 has no libvirt network dmz, to which web1 is attached"),
        (
            named(NETWORK, "devices"),
            {"inactive_networks": ["dmz"]},
            "the libvirt network dmz of h2 is not active, and web1 needs it",
        ),
        (
            named("<cputune><vcpupin vcpu='0' cpuset='12'/></cputune>"),
            {},
            "web1 is pinned to CPU 12, which h2 does not have (it has 0-3)",
        ),
        (
            named("<numatune><memory mode='strict' nodeset='1'/></numatune>"),
            {},
            "the memory of web1 is bound to NUMA cell 1, which h2 does not have (it has 0)",
        ),
        (
            named("").replace("/usr/bin/qemu-system-x86_64", "/opt/qemu"),
            {},
            "h2 has no emulator /opt/qemu, on which web1 runs (it has /usr/bin/qemu-system-x86_64)",
        ),
    ],
)
def test_a_destination_without_what_the_guest_names_is_refused_before_anything_is_done(rig, xml, there, reason):
    guest = rig.h1.add_guest("web1", uuid=WEB1, xml=xml)
    rig.h1.interfaces = ["br-dmz", "lo"]
    for key, value in there.items():
        setattr(rig.h2, key, value)
    result = rig.move(guest)
    assert (result["outcome"], [why["reason"] for why in result["refusals"]]) == ("refused", [reason])
    assert rig.cluster.writes == []


def test_a_fixed_port_that_another_guest_has_there_is_refused(rig):
    guest = rig.h1.add_guest("web1", uuid=WEB1, xml=named(DISPLAY, "devices"))
    rig.h2.add_guest("web2", xml=named(DISPLAY, "devices"))
    (why,) = rig.move(guest)["refusals"]
    assert why["reason"] == "the VNC display of web1 has the fixed port 5901, which web2 has on h2"
    assert rig.cluster.writes == []


def test_a_guest_moves_to_a_host_that_has_what_it_names(rig):
    guest = rig.h1.add_guest("web1", uuid=WEB1, xml=named(NIC + NETWORK + DISPLAY, "devices"))
    rig.h1.interfaces = rig.h2.interfaces = ["br-dmz", "lo"]
    rig.h2.networks = ["dmz"]
    rig.cluster.on_migrate = lambda job: job.complete()
    assert rig.move(guest)["outcome"] == "moved"


@pytest.mark.parametrize("event", ["step.started", "migration.started"])
def test_nothing_is_begun_that_cannot_be_recorded(rig, event):
    guest = rig.h1.add_guest("web1")
    rig.recorder.fails_at = (event,)
    result = rig.move(guest)
    assert code_of(result) == "journal_not_written"
    assert "No space left on device" in result["refusals"][0]["reason"]
    assert rig.cluster.writes == []


def test_a_disk_that_fills_up_takes_no_eyes_off_a_guest_under_way(rig):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    job = guest.wait_for_job()
    rig.recorder.fails_at = ("migration.iteration", "migration.decision", "migration.switchover", "step.verified")
    for iteration in range(1, 6):
        rounds(job, 64 * MIB, first=iteration)
        until(lambda wanted=iteration: rig.judged >= wanted)
    until(lambda: 500 in job.downtimes)
    job.complete()
    assert move.result()["outcome"] == "moved"


def test_a_mistake_of_ours_is_not_dressed_up_as_a_refusal(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    monkeypatch.setattr(rig.mover._parts.preconditions, "ask", lambda _step: {}["key"])
    with pytest.raises(KeyError):
        rig.move(guest)


# --- a migration that is under way already ---------------------------------------------------------------------------


def outside(rig, guest, flags=FLAGS, uri=URI):
    """Somebody else's migration."""

    def migrate():
        with contextlib.suppress(libvirt.libvirtError):
            libvirt.open("qemu:///system").lookupByName(guest.name).migrateToURI3(uri, {}, flags)

    thread = threading.Thread(target=migrate, daemon=True)
    thread.start()
    return thread


def adopted(rig, guest, flags=FLAGS, **intent):
    outside(rig, guest, flags)
    job = guest.wait_for_job()
    move = rig.start(guest, **intent)
    until(lambda: "run.attached" in rig.recorder.names())
    return job, move


def test_a_migration_that_is_under_way_is_joined(rig):
    guest = rig.h1.add_guest("web1")
    job, move = adopted(rig, guest)
    rounds(job, 300 * MIB, 3 * MIB)

    def long_enough():
        # However long it takes, it is awaited as long as something moves.
        job.step(memory_processed=job.stats["memory_processed"] + MIB)
        return rig.clock.slept > 2 * guest_state.AGREEMENT_TIMEOUT_S

    until(long_enough)
    job.complete()
    result = move.result()
    assert (result["outcome"], result["error"]) == ("moved", None)
    assert calls(rig, "virDomainMigrateToURI3") == ["h1"]
    assert runs_at(guest, rig.h2, rig.h1)


def test_a_joined_migration_that_brings_no_definition_is_put_in_order(rig):
    guest = rig.h1.add_guest("web1")
    job, move = adopted(rig, guest, libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER)
    job.complete()
    assert move.result()["outcome"] == "moved"
    assert rig.h2.guest("web1").persistent
    assert rig.h1.guests == {}


def test_a_joined_migration_that_fails(rig):
    guest = rig.h1.add_guest("web1")
    job, move = adopted(rig, guest)
    job.fail()
    result = move.result()
    assert (result["outcome"], result["error"]) == (
        "failed",
        f"web1 is running (booted) on h1 and unknown on h2.{STAYS}",
    )


def test_a_joined_migration_that_does_not_converge_has_an_end(rig):
    guest = rig.h1.add_guest("web1")
    job, move = adopted(rig, guest)
    stuck(rig, job)
    result = move.result()
    assert job.downtimes[0] == 500
    assert result["error"].startswith("given up: 64.0 MiB are dirtied again in every round")
    assert runs_at(guest, rig.h1, rig.h2)


def test_a_joined_migration_is_not_held_by_a_dead_connection(rig, monkeypatch):
    asked = []

    @contextlib.contextmanager
    def watched(name, stands_still, _tell):
        asked.append((name, stands_still))
        yield

    monkeypatch.setattr(dead_connection, "ended_when_dead", watched)
    guest = rig.h1.add_guest("web1")
    job, move = adopted(rig, guest)
    until(lambda: asked)
    [(name, stands_still)] = asked
    assert (name, stands_still()) == ("web1", False)
    job.switch_over()
    until(lambda: guest.state == LEFT_PAUSED)
    assert stands_still()
    job.complete()
    assert move.result()["outcome"] == "moved"
    assert not stands_still()


def test_a_joined_migration_can_be_interrupted(rig):
    guest = rig.h1.add_guest("web1")
    _job, move = adopted(rig, guest)
    rig.interrupted.set()
    assert move.result()["error"].startswith("given up: interrupted")
    assert runs_at(guest, rig.h1, rig.h2)


def test_a_joined_migration_in_postcopy_is_never_aborted(rig):
    guest = rig.h1.add_guest("web1")
    outside(rig, guest, FLAGS | libvirt.VIR_MIGRATE_POSTCOPY)
    job = guest.wait_for_job()
    job.step(memory_iteration=1)
    job.enter_postcopy()
    move = rig.start(guest, deadline_s=1)
    until(lambda: "run.attached" in rig.recorder.names())
    rig.interrupted.set()
    slept = rig.clock.slept
    until(lambda: rig.clock.slept > slept + guest_state.AGREEMENT_TIMEOUT_S + 5)
    job.complete()
    assert move.result()["outcome"] == "moved"
    assert calls(rig, "virDomainAbortJob") == []


def test_a_migration_to_somewhere_else_is_watched_but_not_steered(rig):
    guest = rig.h1.add_guest("web1")
    rig.cluster.add_host("h3")
    outside(rig, guest, uri="qemu+ssh://root@h3/system")
    job = guest.wait_for_job()
    move = rig.start(guest, deadline_s=1)
    until(lambda: rig.clock.slept > 100)
    assert calls(rig, "virDomainAbortJob") == []
    job.complete()
    result = move.result()
    assert result["outcome"] == "unclear"
    assert "it runs on neither" in result["error"]
    assert "took it to another host" in result["error"]


def test_a_migration_to_somewhere_else_need_not_be_awaited_after_an_interrupt(rig):
    guest = rig.h1.add_guest("web1")
    rig.cluster.add_host("h3")
    outside(rig, guest, uri="qemu+ssh://root@h3/system")
    job = guest.wait_for_job()
    move = rig.start(guest)
    until(lambda: "run.attached" in rig.recorder.names())
    rig.interrupted.set()
    assert move.result()["outcome"] == "unclear"
    assert calls(rig, "virDomainAbortJob") == []
    job.fail()


# --- what a run that died left behind --------------------------------------------------------------------------------


#: What a run tells of itself and of the guest when it begins to send it.
STARTED = {
    "destination": "h2",
    "flags": ["PEER2PEER", "PERSIST_DEST"],
    "boot_id": "boot-1",
    "domain_id": 1,
    "downtime_before_ms": 300,
    "speed_before_mib_s": 777,
}


def died(rig, guest, *, ended=False, without=(), **told):
    """The journal of a run that was killed while it moved the guest."""
    directory = RunDirectory(rig.settings.state_dir, "drain-1")
    directory.make({"id": "drain-1"})
    journal = Journal(directory.journal, "drain-1")
    data = {key: value for key, value in {**STARTED, **told}.items() if key not in without}
    journal.write("migration.started", step=rig.step(guest), **data)
    if ended:
        journal.write("step.finished", step=rig.step(guest), result={})
    journal.close()


def third_host(rig):
    """A host of the plan that is neither end of the move."""
    host = rig.cluster.add_host("h3")
    known = {"connect_uri": "qemu+ssh://root@h3/system", "migration_address": None}
    rig.use(destinations={**rig.settings.destinations, "h3": known})
    return host


def test_a_guest_that_a_dead_run_left_paused_goes_on_and_is_moved(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    died(rig, guest)
    third_host(rig)
    rig.cluster.on_migrate = lambda job: job.complete()
    result = rig.move(guest)
    assert result["outcome"] == "moved"
    assert calls(rig, "virDomainResume") == ["h1"]
    assert runs_at(guest, rig.h2, rig.h1)


@pytest.mark.parametrize("reason", ["SHUTDOWN", "UNKNOWN", "FAILED"])
def test_a_guest_that_a_dead_run_left_paused_goes_on_only_if_its_destination_shows_that_it_never_ran(rig, reason):
    off = (libvirt.VIR_DOMAIN_SHUTOFF, getattr(libvirt, f"VIR_DOMAIN_SHUTOFF_{reason}"))
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    rig.h2.add_guest("web1", uuid=guest.uuid, state=off)
    died(rig, guest)
    rig.cluster.on_migrate = lambda job: job.complete()
    result = rig.move(guest)
    if reason == "FAILED":
        assert result["outcome"] == "moved"
    else:
        assert code_of(result) == "left_paused"
        assert "it may have run and ended since" in result["refusals"][0]["reason"]
        assert rig.cluster.writes == []


def stays_paused(rig, guest):
    result = rig.move(guest)
    assert code_of(result) == "left_paused"
    assert "it may have been on its way to another host" in result["refusals"][0]["reason"]
    assert "only if it runs on no host, let it go on: virsh resume web1 on h1" in result["refusals"][0]["remedy"]
    assert guest.state == LEFT_PAUSED
    assert rig.cluster.writes == []


@pytest.mark.parametrize("how", ["has it", "is silent", "has no address"])
def test_a_guest_that_was_left_paused_waits_for_every_host_of_the_inventory(rig, how):
    """Also for one that the plan does not name."""
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    died(rig, guest)
    h9 = rig.cluster.add_host("h9")
    uri = None if how == "has no address" else "qemu+ssh://root@h9/system"
    if how == "has it":
        h9.add_guest("web1", uuid=guest.uuid)
    elif how == "is silent":
        h9.stop_daemon()
    rig.use(witnesses={"h9": {"connect_uri": uri, "migration_address": None}})
    stays_paused(rig, guest)
    reason = rig.move(guest)["refusals"][0]["reason"]
    why = {
        "has it": "it is running (booted) on h9",
        "is silent": "on h9, which does not answer",
        "has no address": "h9)",
    }
    assert why[how] in reason


def test_a_guest_that_nobody_knows_the_way_of_may_run_anywhere(rig):
    """Somebody moved it by hand, and its result was lost: our destination has it not, but another host may."""
    stays_paused(rig, rig.h1.add_guest("web1", state=LEFT_PAUSED))


def test_a_guest_that_was_sent_elsewhere_may_run_there(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    died(rig, guest, destination="h3")
    stays_paused(rig, guest)


def test_a_guest_whose_last_move_has_ended_was_left_paused_by_another_one(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    died(rig, guest, ended=True)
    stays_paused(rig, guest)


@pytest.mark.parametrize(
    "told", [{"boot_id": "boot-0"}, {"domain_id": 7}, {"without": ["domain_id"]}, {"without": ["boot_id", "domain_id"]}]
)
def test_a_guest_that_a_run_of_long_ago_was_sending_may_be_anywhere(rig, told):
    """That was another QEMU of it, or nobody knows, as an older version has not put that on record."""
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    died(rig, guest, **told)
    stays_paused(rig, guest)


def test_a_guest_of_a_host_that_does_not_name_its_boots_may_be_anywhere(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    died(rig, guest, boot_id=None)
    rig.use(boot_id=None)
    stays_paused(rig, guest)


def test_a_guest_that_was_to_leave_no_definition_there_may_have_run_there(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED, persistent=False)
    died(rig, guest, flags=["PEER2PEER"])
    result = rig.move(guest)
    assert code_of(result) == "left_paused"
    assert "would have forgotten it in a reboot" in result["refusals"][0]["reason"]
    assert rig.cluster.writes == []


def limits(guest):
    return guest.downtime_ms, guest.speed_mib_s


def limited(rig, downtime_ms=60, speed_mib_s=5, **named):
    """A guest as a run left it that was killed."""
    guest = rig.h1.add_guest("web1", **named)
    guest.downtime_ms, guest.speed_mib_s = downtime_ms, speed_mib_s
    return guest


@pytest.mark.parametrize("state", [RUNNING, LEFT_PAUSED])
def test_the_limits_from_before_a_run_that_died_are_given_back_before_anything_else(rig, state):
    guest = limited(rig, state=state)
    died(rig, guest)
    seen = []
    rig.recorder.on_event = lambda name, data: name == "migration.started" and seen.append((limits(guest), data))
    rig.cluster.on_migrate = lambda job: job.fail()
    assert rig.move(guest)["outcome"] == "failed"
    (((then, told)),) = seen
    assert then == (300, 777)
    assert (told["downtime_before_ms"], told["speed_before_mib_s"]) == (300, 777)
    assert limits(guest) == (300, 777)
    notes = [data["reason"] for name, data in rig.recorder.events if data.get("action") == "note"]
    assert "its migration limits, which a run that died had changed, were restored" in notes


def test_a_guest_that_is_refused_gets_its_limits_back_as_well(rig):
    guest = limited(rig)
    died(rig, guest)
    rig.h2.free_bytes = 0
    assert rig.move(guest)["outcome"] == "refused"
    assert limits(guest) == (300, 777)


@pytest.mark.parametrize("told", [{"domain_id": 7}, {"ended": True}, {"without": ["downtime_before_ms"]}])
def test_what_is_no_matter_of_this_guest_changes_no_limit(rig, told):
    guest = limited(rig)
    died(rig, guest, **told)
    rig.cluster.on_migrate = lambda job: job.fail()
    rig.move(guest)
    assert guest.downtime_ms == 60


@pytest.mark.parametrize("on_record", [True, False])
def test_a_joined_migration_that_fails_leaves_the_limits_from_before(rig, on_record):
    """Of a run that died, those that it found; of somebody else's migration, those that we found."""
    guest = limited(rig)
    if on_record:
        died(rig, guest)
    job, move = adopted(rig, guest)
    stuck(rig, job)
    assert move.result()["outcome"] == "failed"
    assert job.downtimes[0] == 500
    assert limits(guest) == ((300, 777) if on_record else (60, 5))


def test_a_joined_migration_in_which_nothing_had_to_be_changed_leaves_them_too(rig):
    guest = limited(rig)
    died(rig, guest)
    job, move = adopted(rig, guest)
    job.fail()
    assert move.result()["outcome"] == "failed"
    assert limits(guest) == (300, 777)


def test_a_guest_that_takes_no_limits_is_moved_all_the_same(rig, monkeypatch):
    guest = limited(rig)
    died(rig, guest)
    moved, given_back = [], libvirt.Domain.migrateSetMaxSpeed

    def refuse(domain, speed, flags=0):
        if speed == 777:
            moved.append(speed)
            raise libvirt.libvirtError("cannot acquire state change lock", 68)
        return given_back(domain, speed, flags)

    monkeypatch.setattr(libvirt.Domain, "migrateSetMaxSpeed", refuse)
    rig.cluster.on_migrate = lambda job: job.complete()
    assert rig.move(guest)["outcome"] == "moved"
    assert moved == [777]


def test_which_qemu_is_sent_is_on_record(rig):
    guest = rig.h1.add_guest("web1")
    guest.domain_id = 12
    rig.cluster.on_migrate = lambda job: job.complete()
    rig.move(guest)
    started = next(data for name, data in rig.recorder.events if name == "migration.started")
    assert (started["boot_id"], started["domain_id"]) == ("boot-1", 12)


def test_a_guest_that_a_third_host_has_is_not_let_go_on(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    died(rig, guest)
    third_host(rig).add_guest("web1", uuid=guest.uuid)
    stays_paused(rig, guest)


@pytest.mark.parametrize("way", [True, False])
def test_a_guest_that_a_third_host_may_have_is_not_let_go_on(rig, way):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    died(rig, guest)
    third_host(rig).stop_daemon()
    if not way:
        rig.settings.destinations["h3"]["connect_uri"] = None
    stays_paused(rig, guest)


@pytest.mark.parametrize("there", ["h2", "h3"])
def test_a_joined_migration_whose_result_is_lost_goes_on_here_only_if_it_was_coming_to_our_destination(rig, there):
    guest = rig.h1.add_guest("web1")
    rig.cluster.add_host("h3")
    outside(rig, guest, uri=f"qemu+ssh://root@{there}/system")
    job = guest.wait_for_job()
    move = rig.start(guest)
    until(lambda: "run.attached" in rig.recorder.names())
    until(lambda: rig.clock.slept > 2)
    job.fail_unclear()
    result = move.result()
    if there == "h2":
        assert result["outcome"] == "failed"
        assert runs_at(guest, rig.h1, rig.h2)
    else:
        assert result["outcome"] == "unclear"
        assert "only if it runs on no host" in result["error"]
        assert guest.state == LEFT_PAUSED


def test_another_migration_that_was_quicker_than_ours_may_have_taken_it_elsewhere(rig, monkeypatch):
    guest = rig.h1.add_guest("web1")
    rig.cluster.add_host("h3")
    begin = rig.mover._parts.admission._waits.for_slot

    def quicker(move):
        outside(rig, guest, uri="qemu+ssh://root@h3/system")
        guest.wait_for_job()
        return begin(move)

    monkeypatch.setattr(rig.mover._parts.admission._waits, "for_slot", quicker)
    move = rig.start(guest)
    until(lambda: "migration.failed" in rig.recorder.names())
    guest.job.fail_unclear()
    result = move.result()
    assert result["outcome"] == "unclear"
    assert guest.state == LEFT_PAUSED


def test_a_guest_that_ran_there_and_is_gone_again_may_have_been_moved_on(rig):
    guest = rig.h1.add_guest("web1")

    def moved_on(job):
        job.switch_over()
        arrived = job.destination_guest
        rig.h2.lifecycle(arrived, libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
        job.fail_unclear()

    rig.cluster.on_migrate = moved_on
    result = rig.move(guest)
    assert result["outcome"] == "unclear"
    assert guest.state == LEFT_PAUSED
    assert calls(rig, "virDomainResume") == []


@pytest.mark.parametrize(("persistent", "outcome"), [(True, "failed"), (False, "unclear")])
def test_a_destination_that_was_out_of_sight_has_forgotten_a_guest_without_a_definition(rig, persistent, outcome):
    """It may have run there until the reboot. With a definition it would be shut off there."""
    guest = rig.h1.add_guest("web1", persistent=persistent)

    def rebooted(job):
        job.fail_unclear()
        rig.h2.stop_daemon()
        rig.clock.on_sleep = lambda _clock: rig.h2.start_daemon()

    rig.cluster.on_migrate = rebooted
    result = rig.move(guest)
    assert result["outcome"] == outcome
    if persistent:
        assert runs_at(guest, rig.h1, rig.h2)
    else:
        assert "h2, which keeps no definition of it, was out of sight meanwhile" in result["error"]
        assert "it never ran there, and may go on: virsh resume web1 on h1" in result["error"]
        assert guest.state == LEFT_PAUSED
        assert calls(rig, "virDomainResume") == []


def test_a_guest_without_a_definition_goes_on_while_its_destination_stays_in_sight(rig):
    guest = rig.h1.add_guest("web1", persistent=False)
    rig.cluster.on_migrate = lambda job: job.fail_unclear()
    assert rig.move(guest)["outcome"] == "failed"
    assert runs_at(guest, rig.h1, rig.h2)


@pytest.mark.parametrize("sight", ["lost", "never"])
def test_a_joined_migration_is_not_let_go_on_here_behind_a_destination_that_was_out_of_sight(rig, monkeypatch, sight):
    """Nobody knows whether that migration leaves a definition there."""
    guest = rig.h1.add_guest("web1")
    if sight == "never":
        monkeypatch.setattr(rig.mover._context.hosts, "destination_events", lambda _step: None)
    job, move = adopted(rig, guest)
    until(lambda: rig.clock.slept > 2)
    if sight == "lost":
        rig.h2.stop_daemon()
        rig.h2.start_daemon()
    job.fail_unclear()
    result = move.result()
    assert result["outcome"] == "unclear"
    assert "was out of sight meanwhile" in result["error"]
    assert guest.state == LEFT_PAUSED


def test_a_guest_that_ended_at_its_destination_is_not_let_go_on_here(rig):
    """The disks have moved on since; what stands still here is older than they are."""
    guest = rig.h1.add_guest("web1")

    def ended_there(job):
        job.fail_unclear()
        off = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
        rig.h2.add_guest("web1", uuid=guest.uuid, state=off)

    rig.cluster.on_migrate = ended_there
    result = rig.move(guest)
    assert result["outcome"] == "unclear"
    assert "shutoff (shutdown) on h2, where it may have run and ended since" in result["error"]
    assert guest.state == LEFT_PAUSED


def test_a_guest_that_a_migration_left_paused_is_not_touched_if_it_may_run_there(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    rig.h2.add_guest("web1", uuid=guest.uuid)
    result = rig.move(guest)
    assert code_of(result) == "left_paused"
    assert "start and destroy nothing" in result["refusals"][0]["remedy"]
    assert rig.cluster.writes == []


def test_a_guest_that_a_user_paused_is_refused(rig):
    guest = rig.h1.add_guest("web1", state=(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER))
    assert code_of(rig.move(guest)) == "paused"
    assert rig.cluster.writes == []


# --- a destination that is busy --------------------------------------------------------------------------------------


@pytest.fixture
def busy(rig):
    """A guest that comes in at h2 from elsewhere."""
    other = rig.cluster.add_host("h3").add_guest("other")
    rig.cluster.local = rig.cluster.hosts["h3"]
    outside(rig, other)
    job = other.wait_for_job()
    rig.cluster.local = rig.h1
    return job


def test_a_busy_destination_is_waited_for(rig, busy):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    until(lambda: rig.clock.slept > 5)
    assert guest.job is None
    busy.complete()
    guest.wait_for_job().complete()
    result = move.result()
    assert result["outcome"] == "moved"
    assert result["total_s"] < 5
    assert rig.recorder.names().count("step.waiting") == 1
    assert ("waiting", "waiting for h2, which is taking in other, for up to 30 min 00 s") in rig.recorder.lines


@pytest.mark.parametrize("side", ["source", "destination"])
def test_half_of_a_guest_whose_post_copy_broke_off_holds_nobodys_turn(rig, busy, side):
    """Its job stays on both hosts for good."""
    half = busy.destination_guest
    half.state = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
    if side == "source":
        half.job.destination_guest, half.job.source_guest = half.job.source_guest, half
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = lambda job: job.complete()
    assert rig.move(guest)["outcome"] == "moved"
    assert "step.waiting" not in rig.recorder.names()


def test_a_guest_that_is_just_leaving_a_destination_is_not_coming_in(rig):
    leaving = rig.h2.add_guest("leaving")
    rig.cluster.add_host("h3")
    rig.cluster.local = rig.h2
    outside(rig, leaving, uri="qemu+ssh://root@h3/system")
    job = leaving.wait_for_job()
    job.switch_over()
    rig.cluster.local = rig.h1
    guest = rig.h1.add_guest("web1")
    rig.cluster.on_migrate = lambda one: one.complete()
    assert rig.move(guest)["outcome"] == "moved"
    assert "step.waiting" not in rig.recorder.names()
    job.complete()


def test_a_destination_that_was_waited_for_is_asked_again(rig, busy):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    until(lambda: rig.clock.slept > 10)
    rig.h2.free_bytes = 1 << 20
    busy.complete()
    result = move.result()
    assert code_of(result) == "memory"
    assert calls(rig, "virDomainMigrateSetMaxDowntime") == []


def test_a_destination_that_stays_busy_is_given_up(rig, busy, monkeypatch):
    monkeypatch.setattr(waiting, "WAIT_TIMEOUT_S", 200.0)
    guest = rig.h1.add_guest("web1")
    result = rig.move(guest)
    assert code_of(result) == "destination_busy"
    assert result["refusals"][0]["reason"].startswith("h2 is taking in other since 3 min 20 s or longer, and 1 at once")
    assert "if their moves broke off: ansible-playbook kvmops.cluster.recover" in result["refusals"][0]["remedy"]
    assert waiting.WAIT_TIMEOUT_S - 60 < rig.clock.slept < waiting.WAIT_TIMEOUT_S + 60
    # The next guest does not wait as long for the same one.
    slept = rig.clock.slept
    assert code_of(rig.move(rig.h1.add_guest("web2"))) == "destination_busy"
    assert rig.clock.slept < slept + 60
    assert calls(rig, "virDomainMigrateSetMaxDowntime") == []
    busy.complete()


def was_not_started(rig, guest, result):
    return (
        (result["outcome"], result["error"], result["refusals"]) == ("not_started", STOPPED, [])
        and runs_at(guest, rig.h1, rig.h2)
        and calls(rig, "virDomainMigrateToURI3").count("h1") == 0
    )


def test_nobody_waits_any_longer_once_the_run_is_stopped(rig, busy):
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    until(lambda: rig.clock.slept > 3)
    rig.stopping.set()
    assert was_not_started(rig, guest, move.result())
    assert rig.clock.slept < 100
    busy.complete()


def test_a_source_that_lets_others_go_first_and_is_stopped_blames_no_limit(rig):
    rig.use(ranks={"h2": 4})
    guest = rig.h1.add_guest("web1")
    rig.clock.on_sleep = lambda _clock: rig.stopping.set()
    assert was_not_started(rig, guest, rig.move(guest))


def test_an_interrupt_while_it_waits_says_so(rig, busy):
    """One guest alone: its first interrupt is both."""
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    until(lambda: rig.clock.slept > 3)
    rig.interrupted.set()
    rig.stopping.set()
    assert code_of(move.result()) == "interrupted"
    busy.complete()


def test_a_turn_that_is_lost_while_it_waits_begins_nothing(rig, busy):
    """Somebody else may have taken this host over meanwhile."""
    guest = rig.h1.add_guest("web1")
    lost = threading.Event()
    move = Move(rig, rig.step(guest), lambda: not lost.is_set())
    until(lambda: rig.clock.slept > 5)
    lost.set()
    busy.complete()
    assert was_not_started(rig, guest, move.result())


@pytest.mark.parametrize("how", ["stopped", "lost"])
def test_nothing_is_begun_where_getting_ready_outlasted_the_run(rig, how):
    guest = rig.h1.add_guest("web1")
    log = pathlib.Path(rig.settings.state_dir) / "hooks.log"
    lost = threading.Event()
    outcome = Hook(("sh", "-c", f'echo "$KVMOPS_OUTCOME" >> {log}'), when="after", on_failure="go_on")
    rig.use(preparation=PreparationOptions("never", (Hook(("true",), seconds=60.0), outcome)))

    def ends(clock):
        if clock.slept > 30:
            (rig.stopping if how == "stopped" else lost).set()

    rig.clock.on_sleep = ends
    result = Move(rig, rig.step(guest), lambda: not lost.is_set()).result()
    assert was_not_started(rig, guest, result)
    assert log.read_text() == "not_started\n"


def test_a_source_lets_those_before_it_have_a_free_place(rig):
    rig.use(ranks={"h2": 2})
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    guest.wait_for_job().complete()
    assert move.result()["outcome"] == "moved"
    assert 2 * waiting.SLOT_CLAIM_S <= rig.clock.slept < 2 * waiting.SLOT_CLAIM_S + 3


def test_a_source_that_comes_first_does_not_wait(rig):
    rig.use(ranks={"h2": 0, "h3": 3})
    guest = rig.h1.add_guest("web1")
    move = rig.start(guest)
    guest.wait_for_job().complete()
    assert move.result()["outcome"] == "moved"
    assert rig.clock.slept < waiting.SLOT_CLAIM_S


# --- a guest that another source sends first -------------------------------------------------------------------------


def awaiting(rig, guest, *onward):
    other = {"id": "s-web9", "guest": {"name": "web9", "uuid": WEB9}, "source": "h3", "destination": "h2"}
    other["arrivals"] = ["h2", *onward]
    return {**rig.step(guest), "awaits": [other]}


WEB9 = "99999999-9999-4999-8999-999999999999"


def test_a_step_waits_until_the_guest_before_it_has_arrived(rig):
    guest = rig.h1.add_guest("web1")
    move = Move(rig, awaiting(rig, guest))
    until(lambda: rig.clock.slept > 5)
    assert guest.job is None
    rig.h2.add_guest("web9", uuid=WEB9)
    guest.wait_for_job().complete()
    assert move.result()["outcome"] == "moved"
    assert ("waiting", "waiting for web9 to come to h2, for up to 30 min 00 s") in rig.recorder.lines


def test_a_guest_that_was_only_parked_may_have_gone_on_already(rig):
    guest = rig.h1.add_guest("web1")
    known = {"connect_uri": "qemu+ssh://root@h3/system", "migration_address": None}
    rig.use(destinations={**rig.settings.destinations, "h3": known})
    rig.cluster.add_host("h3").add_guest("web9", uuid=WEB9)
    move = Move(rig, awaiting(rig, guest, "h3"))
    guest.wait_for_job().complete()
    assert move.result()["outcome"] == "moved"
    assert rig.clock.slept < 5


def test_nobody_waits_for_another_guest_once_the_run_is_stopped(rig):
    guest = rig.h1.add_guest("web1")
    move = Move(rig, awaiting(rig, guest))
    until(lambda: rig.clock.slept > 5)
    rig.stopping.set()
    assert was_not_started(rig, guest, move.result())


def test_a_wait_tells_all_hosts_where_the_guest_may_be(rig, monkeypatch):
    monkeypatch.setattr(waiting, "WAIT_TIMEOUT_S", 100.0)
    result = rig.mover.move(awaiting(rig, rig.h1.add_guest("web1"), "h3"), lambda: None)
    assert result["refusals"][0]["reason"].startswith("it may move only after web9 has come to h2, or on to h3, and")


def test_a_guest_that_never_arrives_holds_its_step_back(rig, monkeypatch):
    monkeypatch.setattr(waiting, "WAIT_TIMEOUT_S", 100.0)
    guest = rig.h1.add_guest("web1")
    result = rig.mover.move(awaiting(rig, guest), lambda: None)
    assert code_of(result) == "after_failed"
    assert result["refusals"][0]["reason"] == "it may move only after web9 has come to h2, and web9 is not there"
    assert rig.cluster.writes == []


# --- check mode ------------------------------------------------------------------------------------------------------


@pytest.fixture
def checking(cluster, monkeypatch, tmp_path):
    return Rig(cluster, monkeypatch, tmp_path, read_only=True)


def test_check_mode_says_what_would_be_done_and_opens_nothing_that_could_write(checking):
    rig = checking
    guest = rig.h1.add_guest("web1")
    result = rig.mover.check(rig.step(guest, max_downtime_ms=200))
    assert (result["outcome"], result["strategy"]) == ("would_move", "pre-copy")
    assert result["reason"].startswith("pre-copy: the speed of this path is not known yet")
    assert rig.cluster.opened
    assert all(read_only for _uri, read_only in rig.cluster.opened)
    assert rig.cluster.writes == []
    assert rig.recorder.events == []


def test_check_mode_refuses_as_the_move_would(checking):
    rig = checking
    assert rig.mover.check(rig.step(rig.h2.add_guest("web2")))["outcome"] == "already_there"
    paused = rig.h1.add_guest("web3", state=(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER))
    assert code_of(rig.mover.check(rig.step(paused))) == "paused"
    rig.h2.stop_daemon()
    assert code_of(rig.mover.check(rig.step(rig.h1.add_guest("web4")))) == "no_daemon"


def test_a_mover_with_read_only_connections_cannot_move(checking):
    rig = checking
    guest = rig.h1.add_guest("web1")
    result = rig.mover.move(rig.step(guest), lambda: None)
    assert result["outcome"] == "failed"
    assert "read only access prevents" in result["error"]
    assert rig.cluster.writes == []
