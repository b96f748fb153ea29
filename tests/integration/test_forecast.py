# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves will cost is told before anything starts, and held against what came true afterwards."""

from __future__ import annotations

import re

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab

LEAVING = ["busy", "idle", "shy", "web-one"]
#: A figure with its unit, or from where to where.
FIGURE = r"[\d.]+(?:-[\d.]+)? {unit}(?: or more)?"
#: When a step starts or ends.
CLOCK = r"\d+:\d\d"
COST = rf"{FIGURE.format(unit='s')} +{FIGURE.format(unit='MiB')} +{FIGURE.format(unit='ms')}"
NOT_MEASURED = re.compile(r"Not measured: (?:[\w-]+(?:, | and )?){4}\.")
METHODS = "pre-copy|parallel-zstd|xbzrle|raise-downtime|throttle|post-copy"


def unwrapped(text: str) -> str:
    """Sentences that go on in the next line, which is indented, in one line."""
    return re.sub(r"\n {5,}", " ", text)


@pytest.mark.soak
def test_a_check_forecasts_from_what_was_measured_and_moves_nothing(lab: Lab, operator: Operator) -> None:
    places = actual_state.everywhere(lab)
    measure = operator.run("measure", measure_s=8)
    assert measure.status == 0, measure.text
    assert measure.total("changed") == 0
    for guest in [*LEAVING, "web-two"]:
        row = rf"^h\d +{guest} +128 MiB +{FIGURE.format(unit='MiB')} +{COST}  ({METHODS}) .*\w$"
        assert re.search(row, measure.text, re.MULTILINE), measure.text

    check = operator.run("drain_host", "--check", drain_host_name="h1")
    assert check.status == 0, check.text
    for guest in LEAVING:
        row = re.search(
            rf"^s\d+  {guest} +128 MiB  h1 +h\d +{CLOCK} +{CLOCK} +{COST}  ({METHODS})", check.text, re.MULTILINE
        )
        assert row, check.text
        assert re.search(rf"^  {guest} +h\d \w+ .*; {row.group(1)}: \w", unwrapped(check.text), re.MULTILINE), (
            check.text
        )
        assert re.search(rf"^h1: {guest} -> h\d \| would move \| ", check.text, re.MULTILINE), check.text
    assert re.search(r"Expected: \S+ s and \S+ MiB in all", check.words)
    assert "Not measured" not in check.words
    assert actual_state.everywhere(lab) == places


@pytest.mark.soak
def test_a_check_without_a_measurement_says_so_and_how_to_get_one(lab: Lab, operator: Operator) -> None:
    check = operator.run("drain_host", "--check", drain_host_name="h1")
    assert check.status == 0, check.text
    assert NOT_MEASURED.search(check.words), check.text
    assert "-> measure first: ansible-playbook kvmops.cluster.measure" in check.words
    assert lab.host("h1").ssh("ls /var/lib/kvmops 2>/dev/null || true").stdout.split() == []


@pytest.mark.soak
def test_a_report_holds_the_forecast_against_what_came_true(lab: Lab, operator: Operator) -> None:
    drain = operator.run("drain_host", drain_host_name="h1", drain_host_measure_s=8)
    assert drain.status == 0, drain.text
    plan, done = drain.text.index("Expected: "), drain.text.index("Drain of h1: done")
    assert plan < drain.text.index(" | setup ") < done, "told too late"
    [report] = operator.reports()
    assert report["expected"]["seconds"] > 0
    for row in report["guests"]:
        assert row["forecast"]["schema"] == "kvmops.choice/1"
        assert row["forecast"]["measured_at"] is not None, "it was not measured before it was planned"
        assert row["errors"]["bytes"] == round(row["forecast"]["bytes"]["value"] / row["bytes"] - 1, 4)
        assert row["max_downtime_ms"] == (400 if row["guest"] == "shy" else 500)
        assert row["kept_downtime"] is (row["downtime_ms"] <= row["max_downtime_ms"])
        line = rf"^{row['guest']} +h1 +h\d +moved +[\d.]+ s +{FIGURE.format(unit='s')} +[\d.]+ MiB "
        assert re.search(line, drain.text, re.MULTILINE), drain.text
    assert report["accuracy"]["bytes"]["compared"] == len(LEAVING)
    assert "Forecasts were off: time by " in drain.words

    home = operator.run("restore_host", restore_host_name="h1")
    assert home.status == 0, home.text
    assert all(row["forecast"]["measured_at"] for row in operator.reports()[-1]["guests"])
    assert actual_state.places(lab) == {guest.name: guest.home for guest in lab.guests.values()}


@pytest.mark.soak
def test_an_intent_that_cannot_be_kept_is_refused_before_anything_starts(lab: Lab, operator: Operator) -> None:
    places = actual_state.everywhere(lab)
    drain = operator.run("drain_host", drain_host_name="h1", drain_host_intent={"deadline_s": 1, "bandwidth_mib_s": 4})
    assert drain.status == 2, drain.text
    assert "no guest can leave h1" in drain.words, drain.text
    assert "no method keeps the intent: " in drain.words
    assert re.search(r"-> permit deadline_s of at least \d+, or raise bandwidth_mib_s to \d+", drain.words), drain.text
    assert " | setup " not in drain.text
    assert "No guest was moved, and the host is open as before." in drain.words
    assert actual_state.everywhere(lab) == places


@pytest.mark.soak
def test_a_guest_that_cannot_be_measured_is_moved_all_the_same(lab: Lab, operator: Operator) -> None:
    drain = operator.run("drain_host", drain_host_name="h1", drain_host_measure_s=-1)
    assert drain.status == 0, drain.text
    assert "[WARNING]: Not measured on h1: budget_s is -1.0, which leaves no time to measure" in drain.words
    assert NOT_MEASURED.search(drain.words), drain.text
    assert actual_state.active_on(lab, "h1") == []
    [report] = operator.reports()
    assert [row["forecast"]["measured_at"] for row in report["guests"]] == [None] * len(LEAVING)


@pytest.mark.soak
def test_measuring_can_be_left_out(lab: Lab, operator: Operator) -> None:
    check = operator.run(
        "drain_host", drain_host_name="h1", drain_host_measure_s=0, drain_host_intent={"deadline_s": 1}
    )
    assert NOT_MEASURED.search(check.words), check.text
    assert lab.host("h1").ssh("ls /var/lib/kvmops/working_sets 2>/dev/null || true").stdout == ""
