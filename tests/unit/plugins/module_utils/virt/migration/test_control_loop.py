# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import control_loop
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.control_loop import (
    TRY_AGAIN_S,
    ControlLoop,
    sample_of,
)
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

REFUSED = libvirt.libvirtError(libvirt.HELD, libvirt.VIR_ERR_OPERATION_TIMEOUT)
GONE = VirtError(refusal("no_daemon", "no connection", "start it"))


class Domain:
    def __init__(self):
        self.statistics = {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "memory_total": 100, "memory_iteration": 1}
        self.called = []
        self.fails = ()
        self.hangs = None
        self.asked = 0
        self.speed = 0

    def jobStats(self, _flags=0):  # noqa: N802
        self.asked += 1
        self.wait()
        return self.statistics

    def wait(self):
        if self.hangs:
            self.hangs.wait(60)

    def __getattr__(self, name):
        def call(*arguments):
            self.called.append((name, *arguments))
            self.wait()
            for error in self.fails:
                raise error
            return self.speed if name == "migrateGetMaxSpeed" else None

        return call


class Control:
    """Wants what the test wants."""

    def __init__(self):
        self.wants = None
        self.samples = []
        self.failed = []

    def react(self, sample):
        self.samples.append(sample)
        return self.wants

    def not_done(self, reaction):
        self.failed.append(reaction.action)


class Watcher:
    def __init__(self):
        self.sampled_at = []
        self.told = []

    def sampled(self, sample, total_bytes):
        self.sampled_at.append((sample.at_s, total_bytes))

    def reacted(self, reaction):
        self.told.append(reaction.action)


class World:
    def __init__(self):
        self.domain, self.control, self.watcher = Domain(), Control(), Watcher()
        self.interrupted = threading.Event()
        self.now = 100.0
        self.control_loop = ControlLoop(
            self.find, self.control, self.watcher, self.interrupted, started=90.0, clock=lambda: self.now
        )
        self.unreachable = ()

    def find(self):
        for error in self.unreachable:
            raise error
        return self.domain

    def look(self, action=None, **named):
        self.control.wants = Reaction(action, "because", **named) if action else None
        self.control_loop.run_once()


@pytest.fixture
def world():
    return World()


def test_statistics_as_the_control_takes_them():
    statistics = {
        "memory_iteration": 3,
        "memory_remaining": 4,
        "memory_processed": 5,
        "memory_bps": 6,
        "disk_remaining": 7,
        "disk_total": 11,
        "compression_pages": 8,
        "compression_overflow": 9,
        "compression_cache_misses": 10,
    }
    expected = Sample(1.5, 3, 4, 5, 6, 0, delta_pages=8, whole_pages=19, disk_total_bytes=11, disk_sent_bytes=2)
    assert sample_of(statistics, 1.5, 2) == expected
    assert sample_of({}, 0.0) == Sample(0.0, 0, 0, 0, 0, 0)


def test_what_is_left_of_disks_counts_until_memory_is_sent():
    """libvirt looks at the mirror no more from then on, and goes on telling what it saw last."""
    assert sample_of({"disk_remaining": 7, "memory_processed": 0}, 1.5).disk_remaining_bytes == 7
    assert sample_of({"disk_remaining": 7, "memory_processed": 5}, 1.5).disk_remaining_bytes == 0


def test_time_is_counted_from_the_start(world):
    world.look()
    assert world.watcher.sampled_at == [(10.0, 100)]


@pytest.mark.parametrize("kind", ["NONE", "BOUNDED", "COMPLETED", "FAILED", "CANCELLED"])
def test_figures_of_a_job_that_is_none_are_no_figures(world, kind):
    """An aborted job shows nothing but zeros, which would read as all done."""
    world.domain.statistics.update(memory_remaining=50)
    world.look()
    world.domain.statistics = {"type": getattr(libvirt, f"VIR_DOMAIN_JOB_{kind}"), "memory_remaining": 0}
    world.now += 7
    world.look()
    assert len(world.watcher.sampled_at) == 1
    assert [(one.at_s, one.remaining_bytes) for one in world.control.samples] == [(10.0, 50), (17.0, 50)]


@pytest.mark.parametrize("error", [REFUSED, GONE])
def test_time_passes_for_a_host_that_does_not_answer(world, error):
    world.unreachable = (error,)
    world.look()
    assert [one.at_s for one in world.control.samples] == [10.0]
    assert world.watcher.sampled_at == []


def test_the_most_that_was_seen_is_what_was_sent(world):
    for memory, disk in ((10, 100), (30, 300), (0, 0)):
        world.domain.statistics.update(memory_processed=memory, disk_processed=disk)
        world.look()
    assert (world.control_loop.memory_bytes, world.control_loop.disk_bytes) == (30, 300)


class Counter:
    def look(self, statistics):
        return statistics["disk_processed"] // 10


def test_what_is_counted_of_disks_is_what_was_sent(world):
    world.control_loop = ControlLoop(
        world.find, world.control, world.watcher, world.interrupted, 90.0, lambda: world.now, disks=Counter()
    )
    for disk in (100, 300):
        world.domain.statistics.update(disk_processed=disk)
        world.look()
    assert world.control_loop.disk_bytes == 30
    assert [sample.disk_sent_bytes for sample in world.control.samples] == [10, 30]


@pytest.mark.parametrize(
    ("action", "called"),
    [
        ("raise_downtime", [("migrateGetMaxDowntime", 0), ("migrateSetMaxDowntime", 250, 0)]),
        ("start_postcopy", [("migrateStartPostCopy", 0)]),
        ("suspend", [("suspend",)]),
        ("abort", [("abortJob",)]),
        ("report", []),
    ],
)
def test_what_the_control_wants_is_told_and_done(world, action, called):
    world.look(action, downtime_ms=250)
    assert world.watcher.told == [action]
    assert world.domain.called == called
    assert world.control.failed == []
    assert world.control_loop.suspended == (action == "suspend")
    assert world.control_loop.maybe_postcopy == (action == "start_postcopy")
    assert (world.control_loop.abort_reaction is not None) == (action == "abort")


@pytest.mark.parametrize("action", ["raise_downtime", "start_postcopy", "suspend", "abort"])
@pytest.mark.parametrize("error", [REFUSED, GONE])
def test_what_could_not_be_done_is_said_to_the_control_and_left_for_a_while(world, action, error):
    world.domain.fails = (error,)
    world.look(action)
    assert world.control.failed == [action]
    assert (world.control_loop.suspended, world.control_loop.maybe_postcopy, world.control_loop.abort_reaction) == (
        False,
        False,
        None,
    )
    world.now += TRY_AGAIN_S - 0.1
    world.look(action)
    assert len(world.domain.called) == 1
    world.now += 0.2
    world.look(action)
    assert len(world.domain.called) == 2


@pytest.fixture
def hung(world, monkeypatch):
    """A guest whose QEMU answers nothing, until this is set."""
    answers = threading.Event()
    world.domain.hangs = answers

    class Hung:
        @staticmethod
        def set():
            patience(60.0)
            answers.set()

    def patience(seconds):
        monkeypatch.setattr(control_loop, "ANSWER_S", seconds)
        monkeypatch.setattr(control_loop, "DONE_S", seconds)

    patience(0.05)
    yield Hung
    answers.set()


def test_time_passes_for_a_guest_that_hangs_and_it_is_not_asked_over_and_over(world, hung):
    for dummy in range(3):
        world.look()
        world.now += 1
    assert [one.at_s for one in world.control.samples] == [10.0, 11.0, 12.0]
    assert (world.watcher.sampled_at, world.domain.asked) == ([], 1)
    hung.set()
    world.look()
    assert world.watcher.sampled_at == [(13.0, 100)]
    # The answer that came late is as good as another one.
    assert world.domain.asked == 1
    world.look()
    assert world.domain.asked == 2


def test_time_never_goes_back_for_an_answer_that_came_late(world, hung):
    world.look()
    answered_at, world.now = world.now, world.now + 7
    world.look()
    later, world.now = world.now, answered_at
    hung.set()
    world.look()
    world.now = later + 1
    world.look()
    assert [one.at_s for one in world.control.samples] == [10.0, 17.0, 17.0, 18.0]


def test_an_interrupt_is_heeded_while_the_guest_hangs(world, hung):
    world.interrupted.set()
    world.look()
    assert world.domain.called == [("abortJob",)]
    assert world.control_loop.abort_reaction.code == "interrupted"
    assert world.control_loop.is_ending


@pytest.mark.parametrize("action", ["raise_downtime", "change_speed", "start_postcopy", "suspend"])
def test_what_is_not_answered_may_have_been_done(world, hung, action):
    world.look(action)
    assert world.control.failed == []
    assert world.control_loop.maybe_postcopy == (action == "start_postcopy")
    assert world.control_loop.suspended == (action == "suspend")


def test_nothing_else_is_done_while_something_hangs_but_an_abort(world, hung):
    world.look("raise_downtime")
    world.look("suspend")
    assert (world.control.failed, world.control_loop.suspended) == (["suspend"], False)
    assert [name for name, *_rest in world.domain.called] == ["migrateGetMaxDowntime"]
    world.now += TRY_AGAIN_S
    world.look("abort")
    assert [name for name, *_rest in world.domain.called] == ["migrateGetMaxDowntime", "abortJob"]


def test_an_abort_that_is_refused_again_and_again_is_not_waited_for_without_an_end(world):
    world.domain.fails = (REFUSED,)
    for dummy in range(3):
        world.look("abort")
        world.now += TRY_AGAIN_S
    assert (world.control_loop.abort_reaction, world.control_loop.abort_wanted_at) == (None, 100.0)
    assert world.control_loop.is_ending
    world.domain.fails = ()
    world.look("abort")
    assert world.control_loop.abort_wanted_at == 100.0 + 3 * TRY_AGAIN_S


def test_a_speed_is_set_and_what_it_was_before_is_kept(world):
    """libvirt would hold the guest's next move to it."""
    world.domain.speed = 8796093022207
    world.look("change_speed", speed_mib_s=5)
    world.look("change_speed", speed_mib_s=9)
    sets = [arguments for name, *arguments in world.domain.called if name == "migrateSetMaxSpeed"]
    assert sets == [[5, 0], [9, 0]]
    assert world.control_loop.speed_before == 8796093022207


def test_a_speed_that_could_not_be_set_is_said_to_the_control(world):
    world.domain.fails = (REFUSED,)
    world.look("change_speed", speed_mib_s=5)
    assert world.control.failed == ["change_speed"]


def test_after_an_abort_nothing_more_is_wanted(world):
    world.look("abort")
    world.look("raise_downtime")
    assert [name for name, *_rest in world.domain.called] == ["abortJob"]


def test_an_interrupt_aborts_once(world):
    world.interrupted.set()
    for _look in range(3):
        world.look()
    assert world.domain.called == [("abortJob",)]
    assert world.control_loop.abort_reaction.code == "interrupted"
    assert world.control.samples == []


def test_nothing_aborts_once_postcopy_was_asked_for(world):
    world.look("start_postcopy")
    world.interrupted.set()
    world.look("abort")
    world.look()
    assert world.domain.called == [("migrateStartPostCopy", 0)]
    assert world.watcher.told == ["start_postcopy"]
    assert not world.control_loop.is_ending


@pytest.mark.parametrize(
    ("interrupted", "abort_reaction", "maybe_postcopy", "expected"),
    [
        (False, False, False, False),
        (True, False, False, True),
        (False, True, False, True),
        (True, False, True, False),
        (True, True, True, False),
    ],
)
def test_whether_its_end_is_near(world, interrupted, abort_reaction, maybe_postcopy, expected):
    if interrupted:
        world.interrupted.set()
    world.control_loop.abort_reaction = Reaction("abort", "x") if abort_reaction else None
    world.control_loop.maybe_postcopy = maybe_postcopy
    assert world.control_loop.is_ending == expected
