# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from faults.plan.cases import all_cases
from faults.plan.faults import Fault
from faults.results import record, summary
from faults.results.record import Result

CASES = all_cases([Fault("cut", "A cut.", ("set-up", "switchover")), Fault("kill", "A kill.", ("set-up",))])
RESULTS = [
    Result("cut @ set-up", 1, "failed", ["web1 is on no host"], tree="t0"),
    Result("cut @ set-up", 1, "passed", remedies=["again: 0"], tree="t1"),
    Result("cut @ switchover", 1, "passed", tree="t1"),
    Result("cut @ switchover", 2, "missed", note="too late", tree="t1"),
]
LAST = record.last(RESULTS)


def test_results_are_kept_and_half_a_line_is_left_out(tmp_path):
    file = tmp_path / "build" / "results.jsonl"
    assert record.read(file) == []
    for result in RESULTS:
        record.append(file, result)
    with file.open("a", encoding="utf-8") as lines:
        lines.write('{"case": "cut')

    assert record.read(file) == RESULTS


def test_the_last_result_of_the_same_content_counts():
    assert LAST["cut @ set-up", 1].verdict == "passed"
    assert record.last(RESULTS, "t0") == {("cut @ set-up", 1): RESULTS[0]}


def test_the_table_has_what_passed_of_what_was_made():
    assert summary.table(CASES, LAST) == [
        "| fault | set-up | switchover |",
        "|---|---|---|",
        "| cut | 1/1 | **1/2** |",
        "| kill | – |  |",
    ]


def test_the_figures_are_counted():
    assert summary.in_words(CASES, LAST) == [
        "2 of 3 combinations were tried, in 3 runs: 2 passed, 0 failed, 1 missed, 0 broken.",
        "1 printed remedies were carried out; 1 of them ended with exit status 0.",
    ]
    assert summary.totals(CASES, LAST)["open"] == 2


def test_what_did_not_pass_is_told():
    assert summary.failures(CASES, LAST) == ["- cut @ switchover (2): missed: too late"]


def test_what_was_wrong_is_short_and_names_no_folder_of_this_machine():
    wrong = "/home/me/x/.venv/bin/ansible-playbook -i /home/me/x/build/faults/inventory.yml: " + "word " * 200
    one = Result("cut @ set-up", 1, "failed", [wrong])
    [line] = summary.failures(CASES, {(one.case, one.number): one})
    assert ".venv/bin/ansible-playbook -i build/faults/inventory.yml: word" in line
    assert "/home" not in line
    assert line.endswith(" …")
    assert len(line) < 400


def test_the_page_keeps_what_people_wrote():
    page = f"before\n{summary.BEGIN}\nold\n{summary.END}\nafter\n"

    written = summary.replaced(page, summary.page_part(CASES, LAST))

    assert written.startswith(f"before\n{summary.BEGIN}\n")
    assert written.endswith(f"{summary.END}\nafter\n")
    assert "old" not in written
    with pytest.raises(ValueError, match="substring"):
        summary.replaced("nothing here", "part")


def test_each_run_is_a_test_for_junit():
    cases = summary.junit(RESULTS).getroot().findall("testcase")

    assert [case.get("name") for case in cases][-1] == "cut @ switchover 2"
    assert [case.find("failure") is not None for case in cases] == [True, False, False, True]
