# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.convergence import (
    ROUNDS_TO_GIVE_UP,
    ROUNDS_TO_RAISE,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import ATTEMPTS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import (
    Sample,
    downtime_for,
    mib,
    percent_done,
    seconds_left,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.stalled_link import (
    SET_UP_GIVE_UP_S,
    SET_UP_STALLED_S,
    STALLED_S,
    StalledLink,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision

MIB = 1 << 20
#: What the recorded link carries, in bytes per second.
RATE = 23_900_000
FIXTURES = Path(__file__).parents[4] / "fixtures"


def decision(**changes):
    given = {
        "name": "pre-copy",
        "reason": "because",
        "flags": (),
        "parameters": {},
        "downtime_ms": 60,
        "downtime_cap_ms": 500,
        "postcopy": False,
        "suspend": False,
        "deadline_s": None,
    }
    return Decision(**{**given, **changes})


class Run:
    """Feeds a control and keeps its reactions."""

    def __init__(self, **changes):
        self.control = Control(decision(**changes))
        self.at_s = 0.0
        self.sent = 0
        self.reactions = []

    def sample(self, iteration, left, *, after_s=1.0, sent=MIB, rate=RATE):
        self.at_s += after_s
        self.sent += sent
        reaction = self.control.react(Sample(self.at_s, iteration, left, self.sent, rate))
        if reaction:
            self.reactions.append(reaction)
        return reaction

    def rounds(self, *lefts, first=1):
        for iteration, left in enumerate(lefts, first):
            self.sample(iteration, left)
        return [reaction.action for reaction in self.reactions]


def test_a_guest_that_converges_is_left_alone():
    run = Run()
    assert run.rounds(512 * MIB, 60 * MIB, 30 * MIB, 15 * MIB, 8 * MIB, 4 * MIB, 2 * MIB, MIB) == []
    assert run.control.limit_ms == 60


def test_downtime_is_raised_once_and_to_no_more_than_the_intent_permits():
    run = Run()
    assert run.rounds(512 * MIB, *[64 * MIB] * 30)[:2] == ["raise_downtime", "abort"]
    raised = run.reactions[0]
    assert (raised.downtime_ms, run.control.limit_ms) == (500, 500)
    assert raised.reason == (
        "64.0 MiB are left after every round; the downtime limit goes up to what the intent permits, 500 ms"
    )
    assert len(run.reactions) == 2


def raised_to(left, *, cap_ms=100_000, rate=RATE, rounds=40):
    """The limits that a guest which leaves so much in each round is given, one after the other."""
    run = Run(downtime_cap_ms=cap_ms)
    for iteration in range(1, rounds):
        run.sample(iteration, left, rate=rate)
    return [one.downtime_ms for one in run.reactions if one.action == "raise_downtime"]


def test_a_raise_asks_for_what_is_left_and_then_doubles():
    # 10 MiB need 438 ms, and a quarter more is asked for, because what is left swings.
    assert raised_to(10 * MIB)[:3] == [547, 1094, 2188]
    # Little is left, and still the first raise is worth something.
    assert raised_to(MIB // 10)[0] == 120
    # Nothing is known of the link: all that is permitted.
    assert raised_to(10 * MIB, rate=0) == [100_000]


@pytest.mark.parametrize("cap_ms", [61, 120, 500, 5000, 2_000_000])
def test_raises_end_at_the_cap_and_never_pass_it(cap_ms):
    limits = raised_to(MIB, cap_ms=cap_ms, rounds=200)
    assert limits[-1] == cap_ms
    assert limits == sorted(set(limits))
    assert len(limits) <= 17


def test_one_round_without_gain_is_only_a_burst():
    run = Run()
    assert ROUNDS_TO_RAISE == 2
    assert run.rounds(512 * MIB, 64 * MIB, 64 * MIB, 30 * MIB, 30 * MIB, 14 * MIB, 14 * MIB, 5 * MIB) == []


def test_a_limit_that_is_at_its_cap_already_is_not_raised():
    run = Run(downtime_ms=50, downtime_cap_ms=50)
    assert run.rounds(512 * MIB, *[64 * MIB] * (1 + ROUNDS_TO_GIVE_UP)) == ["abort"]


def test_giving_up_says_what_would_have_been_needed():
    run = Run(downtime_ms=500)
    run.rounds(512 * MIB, *[64 * MIB] * 20)
    (abort,) = run.reactions
    assert (abort.action, abort.code) == ("abort", "does_not_converge")
    assert abort.reason == (
        "64.0 MiB are dirtied again in every round: at 22.8 MiB/s it would be down for about 2807 ms, and the intent"
        " permits 500 ms"
    )
    assert abort.remedy == (
        "permit allow_postcopy, allow_suspend or max_downtime_ms of at least 3508, or give it a faster link"
    )


def test_giving_up_at_an_unknown_rate_names_no_figure():
    run = Run(downtime_ms=500)
    for iteration in range(1, 20):
        run.sample(iteration, 64 * MIB, rate=0)
    (abort,) = run.reactions
    assert abort.reason == "64.0 MiB are dirtied again in every round"
    assert "a longer max_downtime_ms" in abort.remedy


def test_rounds_that_pass_in_a_moment_are_given_their_time():
    run = Run(downtime_ms=500)
    for iteration in range(1, 3 + 2 * ROUNDS_TO_GIVE_UP):
        assert run.sample(iteration, 8 * MIB, after_s=0.1) is None
    assert run.sample(99, 8 * MIB, after_s=5.0).action == "abort"


@pytest.mark.parametrize(
    ("permitted", "action", "words"),
    [
        ({"postcopy": True}, "start_postcopy", "switching to post-copy"),
        ({"suspend": True}, "suspend", "the guest is stopped to finish, as permitted"),
        ({"postcopy": True, "suspend": True}, "start_postcopy", "switching to post-copy"),
        ({}, "abort", "the intent permits 500 ms"),
    ],
)
def test_the_last_resort_is_the_mildest_that_is_permitted(permitted, action, words):
    run = Run(**permitted)
    assert run.rounds(512 * MIB, *[64 * MIB] * 30) == ["raise_downtime", action]
    assert words in run.reactions[1].reason


@pytest.mark.parametrize("permitted", [{"postcopy": True}, {"suspend": True}])
def test_once_it_finishes_nothing_is_asked_for_any_more(permitted):
    run = Run(deadline_s=100, **permitted)
    run.rounds(512 * MIB, *[64 * MIB] * 30)
    assert len(run.reactions) == 2
    assert run.sample(40, 64 * MIB) is None
    # A deadline that passes now must not abort in post-copy, where that would lose the guest.
    late = run.sample(40, 64 * MIB, after_s=500)
    assert late is None if "postcopy" in permitted else late.code == "deadline"
    assert run.sample(41, 64 * MIB) is None


@pytest.mark.parametrize("permitted", [{"postcopy": True}, {"suspend": True}, {}])
def test_what_could_not_be_done_is_wanted_again(permitted):
    run = Run(**permitted)
    run.rounds(512 * MIB, *[64 * MIB] * 30)
    last = run.reactions[-1]
    run.control.not_done(last)
    assert run.rounds(*[64 * MIB] * 3, first=40)[-1] == last.action
    assert len(run.reactions) == 3


def test_a_report_that_could_not_be_done_is_nothing():
    run = Run()
    run.sample(1, 64 * MIB)
    report = run.sample(1, 64 * MIB, after_s=10, sent=0)
    assert report.action == "report"
    run.control.not_done(report)
    assert run.rounds(*[64 * MIB] * 3, first=2)[-1] == "raise_downtime"


def test_a_raise_that_could_not_be_done_is_no_reason_to_stay_for_ever():
    run = Run()
    for iteration in range(1, 40):
        reaction = run.sample(iteration, 64 * MIB)
        if reaction and reaction.action == "raise_downtime":
            run.control.not_done(reaction)
    assert [one.action for one in run.reactions] == ["raise_downtime"] * ATTEMPTS + ["abort"]


@pytest.mark.parametrize(
    ("permitted", "expected"),
    [
        ({"postcopy": True}, ["start_postcopy"] * ATTEMPTS + ["abort"]),
        ({"suspend": True}, ["suspend"] * ATTEMPTS + ["abort"]),
        ({"postcopy": True, "suspend": True}, ["start_postcopy"] * ATTEMPTS + ["suspend"] * ATTEMPTS + ["abort"]),
    ],
)
def test_what_is_refused_again_and_again_gives_way_to_the_next_resort(permitted, expected):
    run = Run(downtime_ms=500, **permitted)
    for iteration in range(1, 60):
        reaction = run.sample(iteration, 64 * MIB)
        if reaction and reaction.action != "abort":
            run.control.not_done(reaction)
    assert [one.action for one in run.reactions] == expected


def test_the_deadline_ends_it_and_says_what_to_do():
    run = Run(deadline_s=10)
    assert run.sample(1, 64 * MIB, after_s=9.9) is None
    abort = run.sample(1, 60 * MIB, after_s=0.1)
    assert (abort.action, abort.code, abort.reason) == ("abort", "deadline", "the deadline of 10 s has passed")
    assert abort.remedy == "give it more time with deadline_s, more bandwidth, or permit post-copy with allow_postcopy"
    assert run.sample(1, 50 * MIB) is None


def test_the_deadline_counts_before_the_first_round_too():
    run = Run(deadline_s=10)
    assert run.sample(0, 0, after_s=11, sent=0).action == "abort"


def test_a_dead_link_is_reported_once_and_again_after_it_moved():
    run = Run()
    run.sample(1, 64 * MIB)
    quiet = [run.sample(1, 64 * MIB, after_s=0.25, sent=0) for dummy in range(60)]
    reports = [reaction for reaction in quiet if reaction]
    assert [(one.action, one.reason) for one in reports] == [
        ("report", "no data was sent for 5 s: is the link up?"),
    ]
    assert quiet.index(reports[0]) == int(STALLED_S / 0.25) - 1
    run.sample(1, 60 * MIB)
    again = [run.sample(1, 60 * MIB, after_s=0.25, sent=0) for dummy in range(60)]
    assert len([one for one in again if one]) == 1


def test_the_time_before_memory_flows_is_no_silence():
    run = Run()
    assert [run.sample(0, 0, sent=0) for dummy in range(int(SET_UP_STALLED_S))] == [None] * int(SET_UP_STALLED_S)


@pytest.mark.parametrize("disk_bytes", [0, 10 << 30])
def test_nor_is_it_waited_for_without_an_end(disk_bytes):
    """A destination that hangs, or a disk whose copy has stalled."""
    control = Control(decision())
    told = [control.react(Sample(float(at_s), 0, 0, 0, 0, disk_bytes)) for at_s in range(7200)]
    report, abort = [(at_s, one) for at_s, one in enumerate(told) if one]
    assert (report[0], report[1].action) == (SET_UP_STALLED_S, "report")
    assert report[1].reason == (
        "no data was sent for 60 s, and no memory has been sent yet: is the destination busy, or the link down?"
    )
    assert (abort[0], abort[1].action, abort[1].code) == (SET_UP_GIVE_UP_S, "abort", "no_progress")
    assert abort[1].reason == "no data was sent for 1800 s, and no memory has been sent yet"
    assert abort[1].remedy == (
        "check what libvirt at the destination is busy with, and repair the link between the two hosts; the guest keeps"
        " running where it was"
    )


def test_a_link_that_is_silent_in_postcopy_is_reported_every_minute_and_never_given_up():
    link = StalledLink()
    told = [link.at(Sample(float(at_s), 3, MIB, MIB, 0), may_give_up=False, in_postcopy=True) for at_s in range(300)]
    reports = [(at_s, one) for at_s, one in enumerate(told) if one]
    assert [at_s for at_s, dummy in reports] == [5, 65, 125, 185, 245]
    assert {one.action for dummy, one in reports} == {"report"}
    assert reports[1][1].reason == (
        "no data was sent for 65 s: is the link up? Each host has a part of the guest's memory, and the guest waits for"
        " the link. It goes on by itself if the link is back before the kernel gives the connection up, after a quarter"
        " of an hour at most"
    )


def test_a_deadline_says_how_long_the_time_before_memory_flows_may_be():
    control = Control(decision(deadline_s=5000))
    told = [control.react(Sample(float(at_s), 0, 0, 0, 0)) for at_s in range(5001)]
    assert [(at_s, one.code) for at_s, one in enumerate(told) if one] == [(60, ""), (5000, "deadline")]


def test_disks_that_move_are_no_silence():
    control = Control(decision())
    for second in range(1, 20):
        assert control.react(Sample(float(second), 1, MIB, 0, 0, disk_remaining_bytes=1000 - second)) is None


def copying(at_s, *, sent, left):
    return Sample(float(at_s), 0, 0, 0, 0, disk_remaining_bytes=left, disk_total_bytes=1 << 30, disk_sent_bytes=sent)


def test_disks_whose_packets_vanish_are_told_soon_while_the_guest_goes_on_writing():
    """What the guest writes makes more of the disk left to copy, which must not count as progress."""
    control = Control(decision())
    for second in range(10):
        assert control.react(copying(second, sent=second * MIB, left=(500 - second) * MIB)) is None
    told = [control.react(copying(9 + at_s, sent=9 * MIB, left=(491 + at_s) * MIB)) for at_s in range(200)]
    report, abort = [(at_s, one) for at_s, one in enumerate(told) if one]
    assert (report[0], report[1].action) == (20, "report")
    assert report[1].reason == (
        "nothing of its disks was sent for 20 s: is the link up, and is there room at the destination?"
    )
    assert (abort[0], abort[1].action, abort[1].code) == (90, "abort", "no_progress")
    assert abort[1].reason == "nothing of its disks was sent for 90 s"
    assert abort[1].remedy.startswith("repair the link between the two hosts, and see whether the storage of the dest")


def test_holes_of_a_disk_need_no_link_and_are_no_silence():
    control = Control(decision())
    for second in range(600):
        assert control.react(copying(second, sent=MIB, left=(1000 - second) * MIB)) is None


def test_a_guest_that_swings_is_recognised_too():
    run = Run()
    swinging = [60 * MIB, 40 * MIB] * 30
    assert run.rounds(512 * MIB, *swinging)[:2] == ["raise_downtime", "abort"]


@pytest.mark.parametrize("seed", range(200))
def test_whatever_a_guest_does_there_is_an_end(seed):
    """Either a round leaves next to nothing, so that QEMU ends it, or the control does."""
    chance = random.Random(seed)
    top = chance.choice([2, 20, 200, 20000]) * MIB
    run = Run()
    for iteration in range(1, 2000):
        left = chance.randrange(top // 100, top)
        if run.sample(iteration, left) and run.reactions[-1].action == "abort":
            break
    *raises, last = run.reactions
    assert last.action == "abort"
    assert {one.action for one in raises} == {"raise_downtime"}
    # 60, 120, 240, 480, 500: more than doubling each time, it cannot be raised oftener.
    assert len(raises) <= 5
    assert raises[-1].downtime_ms == 500


# --- recorded migrations of real guests ---------------------------------------------------------------------------

RECORDED = json.loads((FIXTURES / "recorded_migrations.json").read_text(encoding="utf-8"))


def recording(guest, mode, repetition=0):
    return next(one for one in RECORDED if (one["guest"], one["mode"], one["rep"]) == (guest, mode, repetition))


def replay(recorded, **changes):
    """The reactions to a recorded migration, each with the round it came in."""
    control = Control(decision(**changes))
    found = []
    for at_s, iteration, left, sent, rate in recorded["samples"]:
        reaction = control.react(Sample(at_s, iteration, left, sent, rate))
        if reaction:
            found.append((iteration, at_s, reaction))
    return found


def name_of(recorded):
    return f"{recorded['guest']}-{recorded['mode']}-{recorded['rep']}"


@pytest.mark.parametrize("cap_ms", [50, 300, 500, 5000])
@pytest.mark.parametrize("recorded", [one for one in RECORDED if one["ok"]], ids=name_of)
def test_a_real_migration_that_ended_well_is_never_given_up(recorded, cap_ms):
    cap_ms = max(cap_ms, recorded["limit_ms"])
    reactions = [reaction for _iteration, _at_s, reaction in replay(recorded, downtime_cap_ms=cap_ms)]
    assert {reaction.action for reaction in reactions} <= {"raise_downtime"}
    # The recording goes on whatever is raised; even so each step is worth its while, and there is a last one.
    limits = [reaction.downtime_ms for reaction in reactions]
    assert all(after >= min(2 * before, cap_ms) for before, after in zip(limits, limits[1:]))
    assert max(limits, default=0) <= cap_ms


def test_no_more_downtime_is_permitted_than_what_is_left_needs():
    run = Run()
    # 2 MiB at 22.8 MiB/s take 88 ms, and a quarter is added; but less than double the limit would hardly help.
    assert run.rounds(512 * MIB, *[2 * MIB] * 4) == ["raise_downtime"]
    assert run.reactions[0].downtime_ms == 120
    assert run.reactions[0].reason == "2.0 MiB are left after every round; the downtime limit goes up to 120 ms"
    run = Run()
    assert run.rounds(512 * MIB, *[6 * MIB] * 4) == ["raise_downtime"]
    assert run.reactions[0].downtime_ms == 328


def test_a_real_idle_guest_is_not_touched_at_all():
    assert replay(recording("gi", "pre")) == []
    assert replay(recording("gi", "xb")) == []


def test_a_real_guest_that_does_not_converge_switches_to_postcopy():
    found = replay(recording("g64", "pre"), downtime_cap_ms=300, postcopy=True)
    assert [reaction.action for _iteration, _at_s, reaction in found] == ["raise_downtime", "start_postcopy"]
    assert [iteration for iteration, _at_s, _reaction in found] == [5, 11]
    assert found[1][1] < recording("g64", "pre")["wall_s"]


def test_a_real_guest_that_does_not_converge_is_given_up_in_words_that_are_right():
    (_raised, (_iteration, _at_s, abort)) = replay(recording("g64", "pre"), downtime_cap_ms=300)
    assert abort.code == "does_not_converge"
    # 64 MiB hot and a little of the kernel's, over 22.8 MiB/s
    assert 2700 < int(abort.reason.split("about ")[1].split(" ms")[0]) < 3300


def test_a_real_guest_with_more_hot_memory_switches_within_a_dozen_rounds():
    recorded = recording("g150", "pre")
    found = replay(recorded, downtime_cap_ms=300, postcopy=True)
    assert [(iteration, reaction.action) for iteration, _at_s, reaction in found] == [(4, "raise_downtime")]
    # The recording was cut off at its time limit; its last rounds go on as they were.
    at_s, iteration, _left, sent, rate = recorded["samples"][-1]
    left = next(sample[2] for sample in recorded["samples"] if sample[1] == iteration)
    longer = [[at_s + 6.6 * n, iteration + n, left, sent + left * n, rate] for n in range(1, 7)]
    found = replay({"samples": recorded["samples"] + longer}, downtime_cap_ms=300, postcopy=True)
    assert [reaction.action for _iteration, _at_s, reaction in found] == ["raise_downtime", "start_postcopy"]
    assert found[1][0] <= 12


def test_a_real_guest_that_swings_for_216_rounds_is_not_waited_for():
    """16 MiB hot at a limit of 50 ms: rounds of a tenth of a second that leave now more, now less."""
    recorded = recording("g16", "d50")
    found = replay(recorded, downtime_ms=50, downtime_cap_ms=50, postcopy=True)
    assert [reaction.action for _iteration, _at_s, reaction in found] == ["start_postcopy"]
    assert found[0][1] < recorded["wall_s"] / 1.5


# --- figures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "rate", "expected"), [(64 * MIB, RATE, 2807), (0, RATE, 0), (64 * MIB, 0, None), (1, 10**12, 0)]
)
def test_downtime_for(left, rate, expected):
    assert downtime_for(left, rate) == expected


@pytest.mark.parametrize(
    ("left", "total", "expected"),
    [(0, 100, 99), (100, 100, 0), (58, 100, 42), (200, 100, 0), (5, 0, 0), (5, -1, 0), (-5, 100, 99)],
)
def test_percent_done_is_never_a_hundred_before_the_end(left, total, expected):
    assert percent_done(Sample(1.0, 1, left, 0, 0), total) == expected


@pytest.mark.parametrize(
    ("left", "disks", "rate", "expected"),
    [(RATE * 2, 0, RATE, 2), (RATE, RATE, RATE, 2), (1, 0, RATE, 0), (5, 0, 0, None), (5, 0, -1, None)],
)
def test_seconds_left(left, disks, rate, expected):
    assert seconds_left(Sample(1.0, 1, left, 0, rate, disks)) == expected


def test_mib():
    assert [mib(0), mib(MIB), mib(1536 * 1024)] == ["0.0 MiB", "1.0 MiB", "1.5 MiB"]
