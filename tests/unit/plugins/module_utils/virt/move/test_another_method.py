# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests whose first way does not do: moved by the next one in the same step, or left where they were."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run import history
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import guest_migration, method_choice, past_moves
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.method_choice import MethodChoice
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import MIB, Move, rounds, until
from ansible_collections.kvmops.cluster.tests.unit.working_sets import fitted, measured

#: 200 Mbit/s.
MIB_PER_S = 22.83
STAYS = " It still runs where it was."
NO_POSTCOPY = "internal error: unable to execute QEMU command 'migrate-set-capabilities': Postcopy is not supported"
NO_XBZRLE = "argument unsupported: Migration option 'compression.xbzrle.cache' is not supported by QEMU binary"
PLAIN = {"compressed_share": 1.0, "hot_compressed_share": 1.0, "vcpu_utilisation": 0.04}
CONVERGENT = measured(fitted(16, 8), memory=512, touched=110, **{**PLAIN, "sparse": 1.0})
SPARSE = measured(fitted(64, 78), memory=512, touched=110, **{**PLAIN, "sparse": 0.01})
WHOLE = measured(fitted(64, 78), memory=512, touched=110, **{**PLAIN, "sparse": 1.0})


@pytest.fixture
def known(rig):
    """Adds a guest that was measured, on a host that was told what its link gives."""
    rig.settings.destinations["h2"]["bandwidth_mib_s"] = MIB_PER_S

    def add(working_set, name="web1"):
        guest = rig.h1.add_guest(name)
        document = {**working_set, "guest": {"name": name, "uuid": guest.uuid}}
        history.add_measurement(rig.settings.state_dir, guest.uuid, document)
        return guest

    return add


def ways(rig):
    """The strategies that were begun, in order."""
    return [data["strategy"] for name, data in rig.recorder.events if name == "migration.started"]


def anew(rig):
    """Why it was begun anew, each time."""
    found = [data for name, data in rig.recorder.events if name == "migration.decision"]
    return [data["reason"] for data in found if data["action"] == "start_anew"]


def notes(rig):
    """What was noted beside what was done."""
    return [data["reason"] for _name, data in rig.recorder.events if data.get("action") == "note"]


def refuses(rig, flag, code, text):
    """A destination that does not offer what a flag asks for, and completes everything else. Returns the flags seen."""
    seen = []

    def migrate(job):
        seen.append(job.flags)
        if job.flags & flag:
            job.fail(code, text)
        else:
            job.complete()

    rig.cluster.on_migrate = migrate
    return seen


def runs_at(guest, where, elsewhere):
    found, other = where.guests.get(guest.uuid), elsewhere.guests.get(guest.uuid)
    return found is not None and found.state[0] == libvirt.VIR_DOMAIN_RUNNING and (other is None or not other.active)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, NO_XBZRLE),
        (libvirt.VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: compression is not supported"),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "unable to execute QEMU command 'migrate-set-parameters': Invalid parameter"),
    ],
)
@pytest.mark.usefixtures("postcopy")
def test_a_way_that_the_destination_does_not_offer_is_left_for_the_next_one(rig, known, code, text):
    guest = known(SPARSE)
    refuses(rig, libvirt.VIR_MIGRATE_COMPRESSED, code, text)
    result = rig.move(guest, allow_suspend=True)
    assert (result["outcome"], result["error"], result["strategy"]) == ("moved", None, "suspend")
    assert result["forecast"]["why_not"]["xbzrle"] == "it was tried and was not enough"
    assert ways(rig) == ["xbzrle", "suspend"]
    assert anew(rig) == [f"one of the hosts does not offer that: {text}"]
    assert runs_at(guest, rig.h2, rig.h1)
    assert rig.recorder.names().count("step.started") == 1


@pytest.mark.parametrize("working_set", [SPARSE, CONVERGENT])
@pytest.mark.usefixtures("postcopy")
def test_post_copy_that_is_not_offered_is_armed_no_more(rig, known, working_set):
    guest = known(working_set)
    seen = refuses(rig, libvirt.VIR_MIGRATE_POSTCOPY, libvirt.VIR_ERR_INTERNAL_ERROR, NO_POSTCOPY)
    result = rig.move(guest, allow_postcopy=True)
    # What was chosen is not to blame: only what was armed beside it.
    chosen = "xbzrle" if working_set is SPARSE else "pre-copy"
    assert (result["outcome"], result["strategy"]) == ("moved", chosen)
    assert ways(rig) == [chosen, chosen]
    assert [bool(flags & libvirt.VIR_MIGRATE_POSTCOPY) for flags in seen] == [True, False]


@pytest.mark.usefixtures("postcopy")
@pytest.mark.parametrize("stated", [MIB_PER_S, None])
def test_a_guest_that_was_never_measured_is_moved_without_what_is_not_offered(rig, stated):
    rig.settings.destinations["h2"]["bandwidth_mib_s"] = stated
    guest = rig.h1.add_guest("web1")
    seen = refuses(rig, libvirt.VIR_MIGRATE_POSTCOPY, libvirt.VIR_ERR_INTERNAL_ERROR, NO_POSTCOPY)
    result = rig.move(guest, allow_postcopy=True)
    assert (result["outcome"], result["strategy"]) == ("moved", "pre-copy")
    assert [bool(flags & libvirt.VIR_MIGRATE_POSTCOPY) for flags in seen] == [True, False]


def test_no_other_way_is_a_failure_with_its_reason(rig, known):
    guest = known(SPARSE)
    refuses(rig, libvirt.VIR_MIGRATE_COMPRESSED, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, NO_XBZRLE)
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("failed", f"{NO_XBZRLE}.{STAYS}")
    assert ways(rig) == ["xbzrle"]
    assert anew(rig) == []
    assert runs_at(guest, rig.h1, rig.h2)


@pytest.mark.parametrize(("took_s", "outcome"), [(20, "moved"), (100, "failed")])
def test_the_deadline_is_one_for_all_tries(rig, known, took_s, outcome):
    guest = known(SPARSE)
    deadlines = []
    real = MethodChoice.appraise

    def appraise(self, step, answers, *more, **words):
        deadlines.append(answers.intent["deadline_s"])
        return real(self, step, answers, *more, **words)

    def migrate(job):
        if job.flags & libvirt.VIR_MIGRATE_COMPRESSED:
            rig.clock.slept += took_s
            job.fail(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, NO_XBZRLE)
        else:
            job.complete()

    rig.cluster.on_migrate = migrate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MethodChoice, "appraise", appraise)
        result = rig.move(guest, allow_suspend=True, deadline_s=90)
    assert result["outcome"] == outcome
    assert deadlines[0] == 90
    assert all(left <= 90 - took_s for left in deadlines[1:])
    assert len(deadlines) == (2 if outcome == "moved" else 1)


def test_what_all_tries_took_is_taken_off_the_deadline_once(rig, known, monkeypatch):
    guest = known({**WHOLE, "compressed_share": 0.05, "hot_compressed_share": 0.05, "sparse": 0.01})

    def migrate(job):
        rig.clock.slept += 100
        job.fail(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "argument unsupported: this is not supported")

    rig.cluster.on_migrate = migrate
    decided, real = [], method_choice.decide
    monkeypatch.setattr(method_choice, "decide", lambda *a, **more: decided.append(real(*a, **more)) or decided[-1])
    assert rig.move(guest, allow_suspend=True, deadline_s=900)["outcome"] == "failed"
    first, second, third = [decision.deadline_s for decision in decided]
    assert first == 900
    assert 790 <= second <= 800
    assert 690 <= third <= 700


def test_a_mistake_in_learning_leaves_a_guest_that_has_moved_moved(rig, known, monkeypatch):
    guest = known(SPARSE)

    def calibrate(*_arguments):
        raise ValueError("no such factor")

    monkeypatch.setattr(past_moves, "calibrate", calibrate)
    rig.cluster.on_migrate = lambda job: job.complete()
    result = rig.move(guest)
    assert (result["outcome"], result["error"]) == ("moved", None)
    assert rig.h2.guest("web1").persistent
    assert notes(rig) == ["nothing was learned from this move (ValueError: no such factor)"]


def test_both_hosts_are_asked_again_when_getting_a_guest_ready_took_long(rig, known, monkeypatch):
    guest = known(SPARSE)
    asked = []
    real = rig.mover._parts.preconditions.ask
    monkeypatch.setattr(rig.mover._parts.preconditions, "ask", lambda step: asked.append(1) or real(step))
    prepared = rig.mover._preparation.prepared

    @contextlib.contextmanager
    def slowly(*arguments, **words):
        with prepared(*arguments, **words) as ready:
            rig.clock.slept += 60
            gone = dataclasses.replace(real(arguments[0]), refusals=[refusal("closed", "h2 was closed", "open it")])
            monkeypatch.setattr(rig.mover._parts.preconditions, "ask", lambda step: asked.append(1) or gone)
            yield ready

    monkeypatch.setattr(rig.mover._preparation, "prepared", slowly)
    result = rig.move(guest)
    assert (result["outcome"], [one["code"] for one in result["refusals"]]) == ("refused", ["closed"])
    assert len(asked) == 2
    assert runs_at(guest, rig.h1, rig.h2)


def test_a_failure_of_the_link_is_no_reason_for_another_way(rig, known):
    guest = known(SPARSE)
    rig.cluster.on_migrate = lambda job: job.fail(libvirt.VIR_ERR_OPERATION_FAILED, "Unable to write to socket")
    result = rig.move(guest, allow_suspend=True)
    assert (result["outcome"], result["error"]) == ("failed", f"Unable to write to socket.{STAYS}")
    assert ways(rig) == ["xbzrle"]


def test_what_is_refused_after_bytes_have_gone_was_offered(rig, known):
    guest = known(SPARSE)
    move = rig.start(guest, allow_suspend=True)
    job = guest.wait_for_job()
    rounds(job, 300 * MIB)
    until(lambda: rig.judged)
    job.fail(libvirt.VIR_ERR_OPERATION_UNSUPPORTED, "Operation not supported: device state")
    assert move.result()["outcome"] == "failed"
    assert ways(rig) == ["xbzrle"]


def shrinks_never(rig, job, left=64 * MIB, rate=23_900_000):
    """Lets rounds pass without gain until the job is given up."""
    for iteration in range(1, 80):
        rig.clock.slept += left / rate
        sent = job.stats["memory_processed"] + left
        job.step(memory_iteration=iteration, memory_remaining=left, memory_processed=sent, memory_bps=rate)
        until(lambda wanted=iteration: rig.judged >= wanted or job.finished)
        if job.finished:
            return
    raise AssertionError("it is never given up")


def test_a_way_that_does_not_converge_is_left_for_the_next_one(rig, known):
    # It was calm when it was measured, so nothing stood against the simplest way; what is chosen then goes by what it
    # was seen to do.
    guest = known({**CONVERGENT, "sparse": 0.01})
    move = rig.start(guest)
    first = guest.wait_for_job()
    shrinks_never(rig, first)
    until(lambda: guest.job is not None and guest.job is not first)
    guest.job.complete()
    result = move.result()
    assert (result["outcome"], result["error"]) == ("moved", None)
    assert ways(rig) == ["pre-copy", "xbzrle"]
    assert result["strategy"] == "xbzrle"
    assert anew(rig)[0].startswith("64.0 MiB are ")
    assert runs_at(guest, rig.h2, rig.h1)


def test_a_guest_that_is_hotter_than_any_way_can_bear_is_given_up(rig, known):
    guest = known(CONVERGENT)
    move = rig.start(guest)
    shrinks_never(rig, guest.wait_for_job())
    result = move.result()
    assert result["outcome"] == "failed"
    assert result["error"].startswith("given up: 64.0 MiB are ")
    assert ways(rig) == ["pre-copy"]
    assert runs_at(guest, rig.h1, rig.h2)


def test_there_are_two_further_tries_at_most(rig, known):
    guest = known({**WHOLE, "compressed_share": 0.05, "hot_compressed_share": 0.05, "sparse": 0.01})
    seen = []

    def migrate(job):
        seen.append(job.flags)
        job.fail(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "argument unsupported: this is not supported")

    rig.cluster.on_migrate = migrate
    result = rig.move(guest, allow_suspend=True)
    assert result["outcome"] == "failed"
    assert len(seen) == 3
    assert ways(rig) == ["parallel-zstd", "xbzrle", "suspend"]
    assert runs_at(guest, rig.h1, rig.h2)


@pytest.mark.parametrize("stop", ["interrupted", "stopping"])
def test_nothing_is_begun_anew_once_the_run_is_told_to_end(rig, known, stop):
    guest = known(SPARSE)

    def migrate(job):
        getattr(rig, stop).set()
        job.fail(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, NO_XBZRLE)

    rig.cluster.on_migrate = migrate
    result = rig.move(guest, allow_suspend=True)
    assert result["outcome"] == "failed"
    assert ways(rig) == ["xbzrle"]
    assert runs_at(guest, rig.h1, rig.h2)


def test_nothing_is_begun_anew_once_its_turn_is_lost(rig, known):
    guest = known(SPARSE)
    refuses(rig, libvirt.VIR_MIGRATE_COMPRESSED, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, NO_XBZRLE)

    def take_link_slot():
        return "migration.failed" not in rig.recorder.names()

    result = Move(rig, rig.step(guest, allow_suspend=True), take_link_slot).result()
    assert (result["outcome"], result["error"]) == ("failed", f"{NO_XBZRLE}.{STAYS}")
    assert ways(rig) == ["xbzrle"]
    assert notes(rig) == ["no other method is tried: this run starts nothing more"]
    assert runs_at(guest, rig.h1, rig.h2)


def test_both_hosts_are_asked_again_before_it_is_begun_anew(rig, known):
    guest = known(SPARSE)

    def migrate(job):
        job.fail(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, NO_XBZRLE)
        rig.h2.free_bytes = MIB

    rig.cluster.on_migrate = migrate
    result = rig.move(guest, allow_suspend=True)
    assert (result["outcome"], result["error"]) == ("failed", f"{NO_XBZRLE}.{STAYS}")
    assert ways(rig) == ["xbzrle"]
    assert notes(rig)[0].startswith("no other method is tried: h2 has room for 1 MiB of guests, but web1 needs")


def test_an_interrupt_ends_the_fallback_too(rig, known):
    guest = known(SPARSE)
    failed = []

    def migrate(job):
        if not failed:
            failed.append(job)
            job.fail(libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, NO_XBZRLE)

    rig.cluster.on_migrate = migrate
    move = rig.start(guest, allow_suspend=True)
    until(lambda: failed and guest.job is not None and guest.job is not failed[0])
    rig.interrupted.set()
    result = move.result()
    assert result["error"] == f"given up: interrupted; start it again when you are ready.{STAYS}"
    assert ways(rig) == ["xbzrle", "suspend"]
    assert runs_at(guest, rig.h1, rig.h2)


def test_a_destination_that_goes_away_between_two_tries_leaves_the_first_reason(rig, known, monkeypatch):
    guest = known(SPARSE)
    refuses(rig, libvirt.VIR_MIGRATE_COMPRESSED, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, NO_XBZRLE)

    def gone(*_arguments):
        raise libvirt.libvirtError("Cannot recv data: Connection reset by peer", libvirt.VIR_ERR_SYSTEM_ERROR)

    job, made = guest_migration.migration_job, []

    def once(*arguments):
        made.append(arguments)
        return job(*arguments) if len(made) == 1 else gone(*arguments)

    monkeypatch.setattr(guest_migration, "migration_job", once)
    result = rig.move(guest, allow_suspend=True)
    assert (result["outcome"], result["error"]) == ("failed", f"{NO_XBZRLE}.{STAYS}")
    assert ways(rig) == ["xbzrle"]


# --- what a move teaches ----------------------------------------------------------------------------------------------


def moves_at(rig, rate):
    """Moves guests at a rate in bytes per second, each watched for five rounds of a second."""

    def migrate(job):
        rig.judged = 0
        for iteration in range(1, 6):
            rig.clock.slept += 1.0
            job.step(
                memory_iteration=iteration, memory_remaining=MIB, memory_processed=iteration * rate, memory_bps=rate
            )
            until(lambda wanted=iteration: rig.judged >= wanted)
        job.complete()

    rig.cluster.on_migrate = migrate


@pytest.mark.parametrize("stated", [None, 3 * MIB_PER_S])
def test_a_finished_move_teaches_the_next_one_how_fast_the_path_is(rig, stated):
    rig.settings.destinations["h2"]["bandwidth_mib_s"] = stated
    first, second = rig.h1.add_guest("web1"), rig.h1.add_guest("web2")
    moves_at(rig, 23_900_000)
    blind = rig.move(first)
    assert blind["outcome"] == "moved"
    learned = history.calibration(rig.settings.state_dir, "path", "h2")["learned"]["bandwidth_bytes_per_s"]["mean"]
    assert learned == pytest.approx(23.9e6, rel=0.1 if stated is None else 1.1)
    assert blind["forecast"]["bandwidth_bytes_per_s"] == (None if stated is None else round(stated * MIB))
    told = rig.mover.check(rig.step(second))["forecast"]
    assert told["bandwidth_bytes_per_s"] == pytest.approx(learned, rel=0.01)


def test_what_the_cap_gave_is_not_what_the_link_gives(rig):
    guest = rig.h1.add_guest("web1")
    moves_at(rig, 5_000_000)
    assert rig.move(guest, bandwidth_mib_s=5)["outcome"] == "moved"
    state = history.calibration(rig.settings.state_dir, "path", "h2")
    assert "bandwidth_bytes_per_s" not in (state or {"learned": {}})["learned"]


def test_a_move_that_failed_teaches_nothing(rig, known):
    guest = known(CONVERGENT)
    rig.cluster.on_migrate = lambda job: job.fail()
    assert rig.move(guest)["outcome"] == "failed"
    assert history.calibrations(rig.settings.state_dir, "path") == {}
    assert history.calibrations(rig.settings.state_dir, "guest") == {}
