# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from tools import results
from tools.results import Result

XML = """<testsuites><testsuite name="pytest">{}</testsuite></testsuites>"""
WENT_WELL = '<testcase classname="tests.unit.test_a" name="test_one" time="0.25"/>'
FAILED = '<testcase classname="m" name="f" time="1"><failure message="no"/></testcase>'
BROKEN = '<testcase classname="m" name="e" time="1"><error message="no"/></testcase>'
SKIPPED = '<testcase classname="m" name="s" time="0"><skipped/></testcase>'
MEASURED = """
<testcase classname="tests.integration.test_a" name="test_long[x]" time="70.5"><properties>
  <property name="processor_s" value="61.4"/><property name="marks" value="long"/>
</properties></testcase>
"""


def file(folder, name, *cases):
    (folder / name).write_text(XML.format("".join(cases)), encoding="utf-8")


@pytest.mark.parametrize(
    ("files", "counted"),
    [
        pytest.param([], (0, 0, 0), id="nothing ran"),
        pytest.param([[WENT_WELL, WENT_WELL]], (2, 0, 0), id="one file"),
        pytest.param([[WENT_WELL, FAILED, SKIPPED], [BROKEN, WENT_WELL]], (2, 2, 1), id="an error is a failure"),
    ],
)
def test_tests_of_all_files_are_counted(tmp_path, files, counted):
    for number, cases in enumerate(files):
        file(tmp_path, f"{number}.xml", *cases)

    assert results.count(results.read(tmp_path)) == counted


def test_a_file_cut_off_counts_as_a_failure(tmp_path):
    (tmp_path / "units.xml").write_text("<testsuites><testsuite tests=", encoding="utf-8")

    assert results.read(tmp_path) == [Result("units.xml (cut off)", outcome="failed")]


def test_a_test_is_read_with_what_it_took(tmp_path):
    file(tmp_path, "integration.xml", MEASURED, WENT_WELL)

    assert results.read(tmp_path) == [
        Result("integration: tests.integration.test_a::test_long[x]", 70.5, "passed", 61.4, frozenset({"long"})),
        Result("integration: tests.unit.test_a::test_one", 0.25),
    ]


@pytest.mark.parametrize(
    ("seconds", "marks", "told"),
    [
        (60.0, "", []),
        (75.3, "", ["drain took 75 s of processor time, more than 60 s: do less in it, or mark it soak."]),
        (75.3, "soak", []),
        (75.3, "long", []),
        (None, "", []),
    ],
)
def test_a_test_without_a_mark_may_take_a_minute_of_processor_time(seconds, marks, told):
    tests = [Result("idle", processor_s=1.0), Result("drain", 600.0, "passed", seconds, frozenset(marks.split()))]

    assert results.too_much(tests) == told


@pytest.mark.parametrize(("number", "told"), [(3, []), (4, ["4 tests are marked long, more than 3: t0, t1, t2, t3."])])
def test_few_tests_may_be_long(number, told):
    tests = [Result(f"t{one}", processor_s=1.0, marks=frozenset({"long"})) for one in range(number)]

    assert results.too_much(tests) == told


def test_the_slowest_come_first():
    tests = [Result("a", 1.0), Result("b", 3.0), Result("c", 2.0)]

    assert [test.name for test in results.slowest(tests, 2)] == ["b", "c"]


@pytest.mark.parametrize(
    ("tests", "stages", "status", "line"),
    [
        ([Result("a"), Result("b", outcome="skipped")], [], 0, "1 passed, 0 failed, 1 skipped"),
        ([Result("a"), Result("b", outcome="failed")], [], 1, "1 passed, 1 failed, 0 skipped"),
        ([Result("a")], ["types"], 1, "1 passed, 0 failed, 0 skipped"),
        ([Result("a", processor_s=61.0)], [], 1, "1 passed, 0 failed, 0 skipped"),
        ([], [], 1, "0 passed, 0 failed, 0 skipped"),
    ],
)
def test_the_last_line_and_the_exit_status(capsys, tests, stages, status, line):
    assert results.tell(tests, stages) == status
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_stages_that_failed_are_named(capsys):
    results.tell([Result("a")], ["types", "sanity"])

    assert "Failed: types, sanity\n" in capsys.readouterr().out
