# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses

import pytest

from faults.judge import check, deaths
from faults.judge.deaths import Struck
from faults.judge.remedies import Remedy, remedies
from faults.judge.state import Domain, Found, HostState, host_state

RUNNING = Domain("running", "booted", autostart=True, downtime_ms=300, speed_mib_s=0, memory_kib=131072)
OFF = Domain("shut off", "crashed")
SPLIT = Domain("paused", "post-copy failed")
WHOLE = {"memory_ok": True, "disk_ok": True}
STRUCK = Struck("web1", "web2", "h1", "h2", at="T2", reached_at="T1")


def found(boots=("web1", "web2"), verified=None, **hosts):
    """What is found: h1={"web1": RUNNING}, h2=None for a host that does not answer."""
    states = {name: None if known is None else HostState(domains=known) for name, known in hosts.items()}
    return Found(states, dict.fromkeys(boots, "b1"), dict.fromkeys(boots, WHOLE if verified is None else verified))


BEFORE = found(h1={"web1": RUNNING, "web2": RUNNING}, h2={})
MOVED = found(h1={}, h2={"web1": RUNNING, "web2": RUNNING})


def after(now, dead=(), reborn=(), words="", split=False):
    return check.after_run(BEFORE, now, dead=dead, reborn=reborn, words=words, split=split)


def test_guests_that_are_on_one_host_and_whole_are_fine():
    assert after(MOVED) == []


def test_a_guest_that_runs_twice_is_found():
    assert after(found(h1={"web1": RUNNING}, h2={"web1": RUNNING, "web2": RUNNING})) == [
        "web1 is on h1 (running, booted) and h2 (running, booted)"
    ]


def test_a_guest_that_nobody_killed_must_not_be_off():
    [complaint] = after(found(h1={"web1": OFF}, h2={"web2": RUNNING}), words="web1 is off")

    assert complaint == "web1 runs nowhere, and neither its QEMU nor its host was killed"


def test_a_dead_guest_must_be_named():
    now = found(h1={"web1": OFF}, h2={"web2": RUNNING})

    assert after(now, dead={"web1"}, words="web1 is off on h1") == []
    assert after(now, dead={"web1"}, words="all is well") == [
        "web1 runs nowhere, and nothing that was printed names it"
    ]


def test_guests_of_a_silent_host_are_told_by_its_name():
    now = found(h1=None, h2={"web2": RUNNING})

    assert after(now, dead={"web1"}, words="h1 does not answer") == []


def test_nobody_names_anybody_where_the_controller_is_dead():
    assert after(found(h1={"web1": OFF}, h2={"web2": RUNNING}), dead={"web1"}, words=None) == []


def test_a_guest_that_was_started_anew_is_found():
    now = dataclasses.replace(MOVED, boots={"web1": "b2", "web2": "b1"})

    assert after(now) == ["web1 is in boot b2, not in b1"]
    assert after(now, reborn={"web1"}) == []


def test_a_guest_that_is_being_started_anew_may_not_answer_yet():
    now = dataclasses.replace(MOVED, boots={"web2": "b1"}, verified={"web2": MOVED.verified["web2"]})

    assert after(now, dead={"web1"}) == []
    assert after(now) == ["web1 is in boot no answer, not in b1", "the memory of web1 is not whole: {}"]


@pytest.mark.parametrize(
    ("verified", "wrong"),
    [({"memory_ok": False, "bad_pages": 1}, "memory"), ({"memory_ok": True, "disk_ok": False}, "disk")],
)
def test_damage_is_found(verified, wrong):
    complaints = after(found(h1={}, h2={"web1": RUNNING, "web2": RUNNING}, verified=verified))

    assert [one.split(":")[0] for one in complaints] == [
        f"the {wrong} of {name} is not whole" for name in ("web1", "web2")
    ]


def test_a_guest_may_be_split_only_where_the_case_says_so():
    now = found(h1={"web1": SPLIT}, h2={"web1": SPLIT, "web2": RUNNING})

    assert after(now, split=True) == []
    assert after(now) == ["web1 is on h1 (paused, post-copy failed) and h2 (paused, post-copy failed)"]


def test_half_of_a_guest_that_died_may_be_left():
    now = found(h1={"web1": SPLIT}, h2={"web2": RUNNING})

    assert after(now, dead={"web1"}) == []
    assert after(now) == ["web1 is paused (post-copy failed) on h1"]


def test_a_paused_guest_is_found():
    now = found(h1={"web1": Domain("paused", "migrating")}, h2={"web2": RUNNING})

    assert "web1 is paused (migrating) on h1" in after(now)


def status(code, now, words="", expected=(), missing=()):
    return check.of_status(code, words, now, "h1", expected=expected, missing=missing)


def test_zero_means_that_the_host_is_empty():
    assert status(0, MOVED) == []
    left = found(h1={"web1": RUNNING}, h2={"web2": RUNNING})
    assert status(0, left, "web1") == ["exit status 0, but h1 is left with web1, missing: nobody"]
    assert status(2, MOVED, "run it again") == ["exit status 2, but h1 is empty, missing: nobody"]


def test_a_failure_names_who_is_left_and_what_to_do():
    left = found(h1={"web1": RUNNING}, h2={"web2": RUNNING})

    assert status(2, left, "web1 still runs on h1. Then run the drain of h1 again") == []
    assert status(2, left, "failed") == [
        "web1 is left on h1, and nothing that was printed names it",
        "it failed, and no remedy was printed that somebody could simply do",
    ]


def test_nobody_may_be_missing_where_the_status_is_zero():
    assert status(0, MOVED, missing={"web1"}) == ["exit status 0, but h1 is empty, missing: web1"]


def test_after_an_interrupt_nothing_need_be_printed():
    now = found(h1={"web1": RUNNING}, h2={"web2": RUNNING})

    assert check.of_status(99, "[ERROR]: User interrupted execution", now, "h1", expected=(99, 0), missing=()) == []
    assert check.of_status(99, "", now, "h1", expected=(2,), missing=()) == ["exit status 99, not 2"]


def test_a_case_may_name_the_status():
    assert status(99, MOVED, "Run the same playbook again to continue.", expected=(99,)) == []
    assert status(0, MOVED, expected=(99,)) == ["exit status 0, not 99"]


def test_what_is_to_be_said_is_a_pattern_with_names():
    assert check.of_words(["{guest} still runs on {source}"], "web1 still runs on h1", STRUCK) == []
    assert check.of_words(["the memory of {guest} is lost"], "", STRUCK) == [
        "nothing that was printed matches 'the memory of web1 is lost'"
    ]


def ended(now, off=(), reborn=(), undefined=()):
    return check.at_end(BEFORE, now, "h1", off=off, reborn=reborn, undefined=undefined)


def drained(**changes):
    hosts = {
        "h1": HostState(maintenance="maintenance", shown_closed=True),
        "h2": HostState(domains={"web1": RUNNING, "web2": RUNNING}),
    }
    hosts["h2"] = dataclasses.replace(hosts["h2"], **changes)
    return dataclasses.replace(MOVED, hosts=hosts)


def test_a_finished_drain_is_fine():
    assert ended(drained()) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"lease": "alice for drain-h1"}, "h2 is still taken by alice for drain-h1"),
        ({"at_work": True}, "a run is still at work on h2"),
        ({"shown_closed": True}, "h2 is shown to other hosts as closed"),
        ({"left_files": ("/var/lib/kvmops/progress-1",)}, "h2 has /var/lib/kvmops/progress-1 left"),
        ({"sysctl": "a = 1"}, "h2 has a = 1, and had "),
        ({"maintenance": "cordoned"}, "h2 is cordoned, not active"),
    ],
)
def test_what_is_left_changed_on_a_host_is_found(change, complaint):
    assert ended(drained(**change)) == [complaint]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"persistent": False}, "web1 is transient on h2"),
        ({"autostart": False}, "web1 has autostart False on h2, and had True"),
        ({"downtime_ms": 900}, "web1 has downtime_ms 900 on h2, and had 300"),
        ({"memory_kib": 65536}, "web1 has memory_kib 65536 on h2, and had 131072"),
        ({"job": True}, "web1 has a job on h2"),
    ],
)
def test_what_is_left_changed_of_a_guest_is_found(change, complaint):
    web1 = dataclasses.replace(RUNNING, **change)

    assert ended(drained(domains={"web1": web1, "web2": RUNNING})) == [complaint]


def test_a_definition_that_is_left_is_found():
    now = drained()
    now.hosts["h1"] = dataclasses.replace(now.hosts["h1"], domains={"web1": OFF})

    assert ended(now) == ["web1 is still defined on h1"]


def test_a_host_that_was_not_emptied_is_found():
    now = drained(domains={"web2": RUNNING})
    now.hosts["h1"] = HostState(domains={"web1": RUNNING}, maintenance="cordoned", shown_closed=True)

    assert ended(now) == ["web1 is left on h1", "h1 is cordoned, not maintenance"]


def test_a_guest_whose_owner_removed_its_definition_may_be_transient():
    transient = dataclasses.replace(RUNNING, persistent=False, autostart=False)
    now = drained(domains={"web1": transient, "web2": RUNNING})

    assert ended(now) == ["web1 is transient on h2", "web1 has autostart False on h2, and had True"]
    assert ended(now, undefined={"web1"}) == []


def test_a_guest_that_its_owner_has_ended_may_stay_off():
    now = drained(domains={"web2": RUNNING})

    assert ended(now) == ["web1 is on no host"]
    assert ended(now, off={"web1"}) == []


HOMES = {"web1": "h1", "web2": "h1", "db": "h2"}
JOURNAL = [
    {"event": "migration.started", "guest": "web2", "at": "T0", "data": {"destination": "h3"}},
    {"event": "step.verified", "guest": "web2", "at": "T1", "data": {"verdict": "moved"}},
    {"event": "migration.started", "guest": "web1", "at": "T1", "data": {"destination": "h2"}},
]


@pytest.mark.parametrize(
    ("phase", "hosts"),
    [("first pass", {"h1"}), ("switchover", {"h1", "h2"}), ("post-copy", {"h1", "h2"}), ("hand-over", {"h2"})],
)
def test_the_phase_says_where_the_memory_of_a_guest_is(phase, hosts):
    held = deaths.holders(phase, STRUCK, HOMES, JOURNAL)

    assert held == {"web1": hosts, "web2": {"h3"}, "db": {"h2"}}


@pytest.mark.parametrize(
    ("kills", "end", "dead"),
    [
        ("", "source", set()),
        ("guest", "source", {"web1"}),
        ("host", "source", {"web1"}),
        ("guest", "destination", set()),
        ("host", "destination", {"db"}),
    ],
)
def test_only_those_may_be_dead_whose_host_or_qemu_was_killed(kills, end, dead):
    held = deaths.holders("first pass", STRUCK, HOMES, JOURNAL)

    assert deaths.may_be_dead(kills, end, STRUCK, held) == dead


def test_a_fault_that_came_too_late_is_noticed():
    over = [{"event": "migration.completed", "guest": "web1", "at": "T1.5", "data": {}}]

    assert deaths.lateness(over, "web1", ["migration.completed"], STRUCK) == (
        "migration.completed at T1.5, before the fault at T2"
    )
    assert deaths.lateness(over, "web2", ["migration.completed"], STRUCK) is None
    assert deaths.lateness(over, "web1", ["step.verified"], STRUCK) is None


def test_printed_remedies_are_found():
    words = (
        "To do: 1. web1 is off on h1, and runs nowhere (start it again if it is to run: virsh start web1 on h1; "
        "/var/log/libvirt/qemu/web1.log there says how it ended). 2. Then run the drain of h1 again: 1 has not moved."
    )

    assert remedies(words) == [Remedy("command", "h1", "web1", "virsh start web1"), Remedy("again")]


def test_the_playbook_recover_comes_before_the_same_again():
    words = (
        "bring the link back, and resume it: ansible-playbook kvmops.cluster.recover. Then run the drain of h1 again."
    )
    assert [one.kind for one in remedies(words)] == ["recover", "again"]


def test_a_lost_guest_is_ended_and_started_anew():
    words = (
        "nothing can be resumed. End what is left on h2 (virsh destroy web1 there), then start it anew from its disks"
    )

    assert remedies(words) == [Remedy("lost", "h2", "web1", "virsh destroy web1")]


@pytest.mark.parametrize(
    "words",
    [
        "Run the same playbook again to continue.",
        "Then run the drain of h1 again: 2 guests have not moved.",
        "bring it back, then run it again",
        "Repair that, then run the same again",
    ],
)
def test_to_run_it_again_is_a_remedy(words):
    assert remedies(words) == [Remedy("again")]


@pytest.mark.parametrize(
    "words",
    ["all is well", "(virsh suspend web1)", "virsh resume web1 on h1", "let it run again", "it will run. Look again"],
)
def test_what_needs_a_look_first_is_not_simply_done(words):
    assert remedies(words) == []


def test_a_look_becomes_the_state_of_a_host():
    told = {
        "domains": {"web1": dataclasses.asdict(RUNNING)},
        "maintenance": "active",
        "lease": None,
        "at_work": False,
        "shown_closed": False,
        "left_files": ["a"],
        "sysctl": "",
    }

    assert host_state(told) == HostState(domains={"web1": RUNNING}, left_files=("a",))
