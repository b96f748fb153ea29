# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reports for other programs: a merge request, a pipeline, a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from xml.etree import ElementTree

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.trend import trend
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import csv_text, formats, trend_view
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.junit import junit
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.markdown import markdown

from .told_reports import HOSTILE, told_plan, told_report


def cases(report):
    suite = ElementTree.fromstring(junit(report))
    return suite, {case.get("name"): case for case in suite.iter("testcase")}


def test_each_guest_is_a_test_case():
    suite, found = cases(told_report(["web1", "web2"], failing=(1,)))

    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4",
        "failures": "3",
        "errors": "0",
        "skipped": "0",
    }
    assert len(found["web1 moves from h1 to h2"].findall("failure")) == 0
    assert found["web2 moves from h1 to h2"].find("failure").get("message") == "libvirt says no to web2"
    assert "is passed through" in found["web1 leaves h1"].find("failure").get("message")
    assert found["the drain of h1 as a whole"].find("failure") is not None


@pytest.mark.parametrize(("outcome", "kind"), [("unclear", "error"), ("lost", "error"), ("refused", "failure")])
def test_who_must_be_looked_for_is_an_error(outcome, kind):
    report = told_report(["web1"])
    report["guests"][0].update(outcome=outcome, error="look at both hosts")
    assert cases(report)[1]["web1 moves from h1 to h2"].find(kind).get("message") == "look at both hosts"


def test_who_was_left_out_is_skipped_and_a_run_that_is_done_passes():
    report = told_report(["web1"])
    report.update(ok=True, todo=[])
    report["stays"][0]["refusals"] = [{"code": "excluded", "reason": "it is left out", "remedy": ""}]
    suite, found = cases(report)
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "0", "1")
    assert found["web1 leaves h1"].find("skipped").get("message") == "it is left out"


def test_hostile_names_in_a_suite():
    names = list(cases(told_report(HOSTILE))[1])
    for name in HOSTILE:
        assert f"{clean(name)} moves from h1 to h2" in names


def test_hostile_names_in_markdown():
    text = markdown(told_report(HOSTILE))
    table = [line for line in text.splitlines() if line.startswith("| ") and " h1 | h2 | " in line]

    assert len(table) == len(HOSTILE)
    # The names have no mark of a table that is not escaped.
    assert {line.replace("\\|", "").count("|") for line in table} == {10}
    assert not re.search(r"(?<!\\)[<>]", text)
    for mark in ("@all", "\x1b", "http://"):
        assert mark not in text


def test_what_markdown_says():
    text = markdown(told_report(["web1", "web2"], failing=(1,)))
    assert text.startswith("# Drain of h1: NOT done, 1 guest moved, 2 not, ")
    assert "| web1 | h1 | h2 | moved | 4.0 s | 84.4 MiB | 80 ms | 200 ms, kept | pre-copy |" in text
    assert "1. web2 still runs on h1: its move to h2 failed (libvirt says no to web2)." in text
    assert (
        "| guest | time | sent | downtime |\n| --- | --- | --- | --- |\n| web1 | \\+2 % | \\-1 % | \\+6 % |\n" in text
    )


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_no_cell_of_a_spreadsheet_is_a_formula():
    report = told_report(HOSTILE)
    for text in (
        csv_text.report_csv(report),
        csv_text.plan_csv(told_plan(HOSTILE)),
        trend_view.trend_csv(trend([{**report, "plan": "=1+1"}])),
    ):
        for row in rows_of(text):
            for cell in row.values():
                number = cell.removeprefix("-").replace(".", "", 1).isdigit()
                assert number or not cell.startswith(csv_text.FORMULA), cell
    guests = [row["guest"] for row in rows_of(csv_text.report_csv(report))]
    assert '\'=HYPERLINK("http://evil.example/")' in guests
    assert {"'-2", "'@all", "a|b|c"} <= set(guests)


def test_figures_in_a_spreadsheet():
    first, *_rest, last = rows_of(csv_text.report_csv(told_report(["web1", "web2"], failing=(1,))))
    assert (first["guest"], first["downtime_ms"], first["forecast_downtime_ms"], first["kept_downtime"]) == (
        "web1",
        "80",
        "85",
        "yes",
    )
    assert float(first["error_total_s"]) == pytest.approx(0.025)
    assert (last["outcome"], last["guest"]) == ("stays", "web1")


def test_formats_that_nobody_asked_for_are_not_made():
    assert formats.report_texts(told_report(["web1"]), ["json"]) == {}
    assert list(formats.report_texts(told_report(["web1"]), ["csv", "json", "csv"])) == ["csv"]
