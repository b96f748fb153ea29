# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import fcntl
import json
import multiprocessing
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import FREE, Claim, LeaseError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease_clock import Moment
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases
from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id

ALICE = Claim("h1", "alice@admin1", "drain-h1", "drain h1")
BOB = Claim("h1", "bob@admin2", "rebalance-7")

RACERS = 4
ROUNDS = 25
PATIENCE_S = 20


@pytest.fixture
def state_dir(tmp_path):
    return str(tmp_path / "state")


@pytest.fixture
def time_passes(monkeypatch):
    """Call it with seconds, and that much later it is."""
    at = [Moment(datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC), "boot-1", 5000.0)]
    monkeypatch.setattr(leases, "clock", lambda: at[0])

    def pass_by(seconds, clock_s=0, boot_id="boot-1"):
        wall = at[0].wall + datetime.timedelta(seconds=seconds + clock_s)
        uptime_s = at[0].uptime_s + seconds if boot_id == at[0].boot_id else 9.0
        at[0] = Moment(wall, boot_id, uptime_s)

    return pass_by


def file(state_dir):
    return Path(state_dir) / leases.FILE


def test_a_host_that_nobody_ever_took_is_free_and_looking_leaves_nothing_behind(state_dir):
    assert leases.load(state_dir, "h1") == FREE
    assert leases.take(state_dir, ALICE, write=False).after["owner"] == "alice@admin1"
    assert leases.release(state_dir, ALICE) == leases.Outcome(FREE, FREE)
    assert not Path(state_dir).exists()


def test_what_was_taken_is_on_disk_until_it_is_given_back(state_dir):
    taken = leases.take(state_dir, ALICE).after
    assert json.loads(file(state_dir).read_text()) == taken == leases.load(state_dir, "h1")
    assert sorted(path.name for path in Path(state_dir).iterdir()) == ["lease.json", "lease.lock"]
    with pytest.raises(LeaseError, match="taken by alice@admin1 for run drain-h1"):
        leases.take(state_dir, BOB)
    assert leases.release(state_dir, ALICE).after == {**FREE, "fence": taken["fence"]}
    assert leases.take(state_dir, BOB).after["fence"] > taken["fence"]


def test_only_looking_writes_nothing(state_dir):
    taken = leases.take(state_dir, ALICE).after
    for look in (
        lambda: leases.take(state_dir, ALICE, write=False),
        lambda: leases.release(state_dir, ALICE, write=False),
        lambda: leases.take(state_dir, BOB._replace(force=True), write=False),
    ):
        look()
        assert leases.load(state_dir, "h1") == taken


def test_a_dead_owners_lease_ends(state_dir, time_passes):
    dead = leases.take(state_dir, ALICE).after
    time_passes(899)
    with pytest.raises(LeaseError, match="is taken by"):
        leases.take(state_dir, BOB)
    time_passes(1)
    leases.take(state_dir, BOB)
    assert leases.start_refusal(state_dir, dead["fence"], "h1")["code"] == "lease_lost"


def test_a_lease_of_a_clock_that_was_ahead_ends_although_it_is_only_looked_at(state_dir, time_passes):
    time_passes(0, clock_s=10**9)
    leases.take(state_dir, ALICE)
    time_passes(30, clock_s=-(10**9), boot_id="boot-2")
    for _look in range(3):
        with pytest.raises(LeaseError, match="at a time that is still to come"):
            leases.take(state_dir, BOB)
        time_passes(299, boot_id="boot-2")
    time_passes(3, boot_id="boot-2")
    assert leases.take(state_dir, BOB).after["owner"] == "bob@admin2"


def test_only_looking_binds_no_lease(state_dir, time_passes):
    taken = leases.take(state_dir, ALICE).after
    time_passes(30, boot_id="boot-2")
    with pytest.raises(LeaseError, match="is taken by"):
        leases.take(state_dir, BOB, write=False)
    assert leases.load(state_dir, "h1") == taken


def test_the_clock_is_that_of_this_boot():
    now, later = leases.clock(), leases.clock()
    assert now.boot_id == later.boot_id == boot_id()
    assert 0 < now.uptime_s <= later.uptime_s


def test_who_waits_gets_it_when_it_is_given_back(state_dir, monkeypatch):
    monkeypatch.setattr(leases, "WAIT_POLL_S", 0.01)
    leases.take(state_dir, ALICE)
    threading.Timer(0.1, leases.release, (state_dir, ALICE)).start()
    began = time.monotonic()
    taken = leases.take(state_dir, BOB, wait_s=30)
    assert (taken.after["owner"], taken.waited) == ("bob@admin2", True)
    assert 0.1 <= time.monotonic() - began < 30


def test_who_waits_in_vain_is_told_who_has_it(state_dir, monkeypatch):
    monkeypatch.setattr(leases, "WAIT_POLL_S", 0.01)
    leases.take(state_dir, ALICE)
    began = time.monotonic()
    with pytest.raises(LeaseError, match="taken by alice@admin1"):
        leases.take(state_dir, BOB, wait_s=0.1)
    assert time.monotonic() - began >= 0.1


def test_nobody_waits_for_what_waiting_does_not_mend(state_dir):
    leases.take(state_dir, ALICE)
    began = time.monotonic()
    with pytest.raises(LeaseError, match="is no longer valid"):
        leases.take(state_dir, ALICE._replace(fence=7), wait_s=30)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("garbage", [b"", b"{", b"[1]", b"\xff\xfe", b'{"schema": "kvmops.lease/1", "fence": 1.5}'])
def test_a_damaged_lease_keeps_all_out_until_it_is_broken(state_dir, garbage):
    old = leases.take(state_dir, ALICE).after
    file(state_dir).write_bytes(garbage)
    for call in (leases.take, leases.release):
        with pytest.raises(LeaseError, match="so h1 counts as taken") as refused:
            call(state_dir, BOB)
        assert refused.value.refusal["code"] == "lease_damaged"
    assert leases.start_refusal(state_dir, old["fence"], "h1")["code"] == "lease_damaged"
    assert file(state_dir).read_bytes() == garbage
    outcome = leases.take(state_dir, BOB._replace(force=True))
    assert outcome.broken
    assert leases.load(state_dir, "h1") == outcome.after
    assert outcome.after["owner"] == "bob@admin2"


def test_a_damaged_lease_can_be_broken_for_nobody(state_dir):
    leases.take(state_dir, ALICE)
    file(state_dir).write_text("{")
    assert leases.release(state_dir, BOB._replace(force=True)).broken
    assert leases.load(state_dir, "h1") == FREE


def test_who_dies_while_writing_leaves_the_old_lease(state_dir, monkeypatch):
    taken = leases.take(state_dir, ALICE).after
    monkeypatch.setattr(os, "replace", lambda _old, _new: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        leases.take(state_dir, BOB._replace(force=True))
    assert leases.load(state_dir, "h1") == taken


def test_a_place_where_nothing_can_be_written_is_told(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(LeaseError) as refused:
        leases.take(str(tmp_path / "state" / "below"), ALICE, write=True)
    assert refused.value.refusal["code"] == "lease_not_written"
    assert refused.value.refusal["remedy"] == "run it again as root (become: true)"


def test_a_lock_that_is_never_given_back_is_not_waited_for_for_ever(state_dir, monkeypatch):
    monkeypatch.setattr(leases, "LOCK_TIMEOUT_S", 0.05)
    leases.take(state_dir, ALICE)
    with (Path(state_dir) / leases.LOCK).open("w") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        with pytest.raises(LeaseError, match="another process has been writing the lease of h1"):
            leases.release(state_dir, ALICE)
    assert leases.release(state_dir, ALICE).after["owner"] is None


def test_a_lease_is_kept_from_ending_while_the_work_goes_on(state_dir):
    fence = leases.take(state_dir, ALICE._replace(ttl_s=1)).after["fence"]
    with leases.keep_renewed(state_dir, fence, "h1"):
        for _look in range(12):
            time.sleep(0.15)
            with pytest.raises(LeaseError, match="is taken by alice@admin1"):
                leases.take(state_dir, BOB)
    time.sleep(1.1)
    assert leases.take(state_dir, BOB).after["fence"] > fence


def test_keeping_a_lease_that_somebody_else_has_leaves_it_alone(state_dir):
    fence = leases.take(state_dir, ALICE).after["fence"]
    theirs = leases.take(state_dir, BOB._replace(force=True)).after
    with leases.keep_renewed(state_dir, fence, "h1"):
        time.sleep(0.1)
    assert leases.load(state_dir, "h1") == theirs


def test_a_damaged_lease_ends_no_work(state_dir):
    fence = leases.take(state_dir, ALICE).after["fence"]
    file(state_dir).write_text("{")
    with leases.keep_renewed(state_dir, fence, "h1"):
        time.sleep(0.05)
    assert file(state_dir).read_text() == "{"


def race(state_dir, number, begin, won):
    """Take and give back the lease as fast as can be; tells each lease it had, and whether it was alone with it."""
    claim = Claim("h1", f"racer{number}", f"run{number}", ttl_s=60)
    alone = Path(state_dir) / "alone"
    begin.wait()
    for _round in range(ROUNDS):
        fence = leases.take(state_dir, claim, wait_s=60).after["fence"]
        try:
            alone.touch(exist_ok=False)
            time.sleep(0.001)
            alone.unlink()
            won.put((fence, True))
        except FileExistsError:
            won.put((fence, False))
        leases.release(state_dir, claim)


def test_processes_that_race_have_it_one_at_a_time_and_each_time_with_a_higher_fence(state_dir, monkeypatch):
    monkeypatch.setattr(leases, "WAIT_POLL_S", 0.002)
    monkeypatch.setattr(leases, "LOCK_POLL_S", 0.001)
    Path(state_dir).mkdir()
    context = multiprocessing.get_context("fork")
    begin, won = context.Event(), context.Queue()
    racers = [context.Process(target=race, args=(state_dir, number, begin, won)) for number in range(RACERS)]
    for racer in racers:
        racer.start()
    begin.set()
    had = [won.get(timeout=PATIENCE_S) for _turn in range(RACERS * ROUNDS)]
    for racer in racers:
        racer.join(PATIENCE_S)
    assert [racer.exitcode for racer in racers] == [0] * RACERS
    assert all(alone for _fence, alone in had)
    assert len({fence for fence, _alone in had}) == RACERS * ROUNDS
    assert leases.load(state_dir, "h1")["fence"] == max(fence for fence, _alone in had)


def take_once(state_dir, number, begin, told):
    begin.wait()
    try:
        told.put(leases.take(state_dir, Claim("h1", f"racer{number}", "run")).after["owner"])
    except LeaseError as error:
        told.put(error.refusal["code"])


def test_of_two_that_come_at_once_one_has_it_and_one_is_told(state_dir):
    context = multiprocessing.get_context("fork")
    begin, told = context.Event(), context.Queue()
    racers = [context.Process(target=take_once, args=(state_dir, number, begin, told)) for number in range(2)]
    for racer in racers:
        racer.start()
    begin.set()
    answers = sorted(told.get(timeout=PATIENCE_S) for _racer in racers)
    for racer in racers:
        racer.join(PATIENCE_S)
    assert answers[0] == "lease_held"
    assert answers[1] == leases.load(state_dir, "h1")["owner"]


def test_the_files_say_nothing_secret_and_others_may_not_write_them(state_dir):
    leases.take(state_dir, ALICE)
    for path in Path(state_dir).iterdir():
        assert not stat.S_IMODE(path.stat().st_mode) & 0o022
