# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from faults.plan import cases, phases
from faults.plan.faults import ALL, ANY_SECOND, FAULTS, Expect, Fault


def test_a_fault_may_kill_in_some_phases_only():
    always, sometimes = Fault("a", "", (), kills="host"), Fault("b", "", (), kills="guest", kills_in=("post-copy",))

    assert [always.killed(name) for name in ("set-up", "post-copy")] == ["host", "host"]
    assert [sometimes.killed(name) for name in ("set-up", "post-copy")] == ["", "guest"]


def test_there_are_at_least_sixty_combinations_and_every_phase_is_met():
    tried = cases.all_cases(FAULTS, more=False)

    assert len(tried) >= 60
    assert {case.phase.name for case in tried} >= set(ALL)


def test_names_are_unique_and_each_fault_is_explained():
    tried = cases.all_cases()

    assert len({case.name for case in tried}) == len(tried)
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert all(fault.what and fault.end in ("source", "destination") for fault in FAULTS)


def test_each_fault_can_be_brought_about():
    from faults.act.strikes import ARRANGE, STRIKES

    names = {fault.name for fault in (*FAULTS, ANY_SECOND)}

    assert set(STRIKES) == names
    assert set(ARRANGE) <= names


@pytest.mark.parametrize("name", ["switchover", "post-copy"])
def test_the_dangerous_phases_are_tried_three_times(name):
    assert phases.phase(name).times == 3
    assert all(case.times >= 3 for case in cases.all_cases() if case.phase.name == name)


def test_an_interrupt_at_any_second_is_tried_fifty_times():
    [case] = cases.all_cases([ANY_SECOND])

    assert len(cases.runs([case])) == 50


def test_every_fault_is_met_once_before_one_is_met_twice():
    first, second = Fault("one", "One.", ("set-up", "verify")), Fault("two", "Two.", ("set-up",))

    tried = [case.name for case in cases.all_cases([first, second])]

    assert tried == ["one @ set-up", "two @ set-up", "one @ verify"]


def test_phases_that_tell_less_come_last_and_only_if_asked_for():
    fault = Fault("one", "One.", ("set-up",), more=("verify",))

    assert [case.phase.name for case in cases.all_cases([fault])] == ["set-up", "verify"]
    assert [case.phase.name for case in cases.all_cases([fault], more=False)] == ["set-up"]


def test_all_cases_run_once_before_one_runs_twice():
    fault = Fault("one", "One.", ("switchover", "verify"))

    order = [(case.phase.name, number) for case, number in cases.runs(cases.all_cases([fault]))]

    assert order == [("switchover", 1), ("verify", 1), ("switchover", 2), ("switchover", 3)]


def test_what_has_passed_is_left_out_and_what_failed_comes_last():
    fault = Fault("one", "One.", ("set-up", "verify", "hand-over"))
    wanted = cases.runs(cases.all_cases([fault]))

    todo = cases.left(wanted, {("one @ set-up", 1): "failed", ("one @ verify", 1): "passed"})

    assert [cases.key(run) for run in todo] == [("one @ hand-over", 1), ("one @ set-up", 1)]


def test_what_is_told_depends_on_the_phase():
    split = Expect(split=True)
    fault = Fault("one", "One.", ALL, expect={"post-copy": split, "*": Expect(status=(2,))})

    assert fault.expected("post-copy") is split
    assert fault.expected("verify").status == (2,)
    assert Fault("two", "Two.", ALL).expected("verify") == Expect()


def test_a_mark_names_only_what_it_is_about():
    assert phases.phase("later round").begins.wanted() == {"event": "migration.iteration", "least_iteration": 2}
    assert phases.phase("switchover").begins.wanted() == {"suspended": phases.SUSPENDED_MIGRATED}
