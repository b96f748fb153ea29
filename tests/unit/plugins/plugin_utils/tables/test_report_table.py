# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import report
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import report_table
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    choice,
    cluster,
    domain,
    plan_document,
    snapshot,
    step_result,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.plugin_utils.tables.forecast_plans import (
    NOT_SURE,
    forecast_plan,
)

TIMES = {"started_at": "2026-11-24T02:00:01.000Z", "finished_at": "2026-11-24T02:00:42.200Z"}
A_REPORT = """\
GUEST  FROM  TO  OUTCOME   TIME  FORECAST      SENT  FORECAST  DOWNTIME        FORECAST         ACCEPTED  HOW
web1   h1    h2  moved    4.3 s     4.1 s  84.4 MiB  83.9 MiB     92 ms           85 ms      200 ms kept  pre-copy
web2   h1    h2  moved     13 s  7.1-12 s  84.4 MiB  83.9 MiB    230 ms  414 ms or more  200 ms NOT KEPT  post-copy
web3   h1    h2  failed   2.0 s     4.1 s         -  83.9 MiB         -           85 ms           200 ms  pre-copy

Forecasts were off: time by 17 % (at worst 30 %), bytes by 1 % (at worst 1 %), downtime by 98 % (at worst 189 %).
Down for longer than accepted: web2.
"""


def test_a_report():
    plan = plan_document(cluster(snapshot("h1", domain("web1"), domain("web2")), snapshot("h2")))
    first, second = plan["steps"]
    joined = report.join(
        plan,
        {
            "h1": [
                step_result(first),
                step_result(second, "failed", error="connection reset", bytes=None, downtime_ms=None),
            ]
        },
        **TIMES,
    )
    assert report_table.report_lines(joined) == [
        "Drain of h1: NOT done, 1 guest moved, 1 not, 84.4 MiB in 41 s",
        "",
        "GUEST  FROM  TO  OUTCOME   TIME      SENT  DOWNTIME  HOW",
        "web1   h1    h2  moved    4.3 s  84.4 MiB     92 ms  pre-copy",
        "web2   h1    h2  failed   4.3 s         -         -  pre-copy",
        "",
        "To do:",
        "  1. web2 still runs on h1: its move to h2 failed (connection reset).",
        "  2. Then run the drain of h1 again: 1 guest has not moved.",
    ]


def test_a_report_in_which_all_went_well():
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    lines = report_table.report_lines(report.join(plan, {"h1": [step_result(plan["steps"][0])]}, **TIMES))
    assert lines[0] == "Drain of h1: done, 1 guest moved, 84.4 MiB in 41 s"
    assert "To do:" not in lines


def joined_with(plan, *results):
    return report.join(plan, {"h1": list(results)}, **TIMES)


def test_a_report_shows_what_was_forecast_beside_what_came_true():
    plan = forecast_plan(choice(), NOT_SURE, choice())
    first, second, third = plan["steps"]
    joined = joined_with(
        plan,
        step_result(first),
        step_result(second, strategy="post-copy", total_s=13.2, downtime_ms=230),
        step_result(third, "failed", error="connection reset", total_s=2.0, bytes=None, downtime_ms=None),
    )
    lines = report_table.report_lines(joined)
    assert lines[0] == ("Drain of h1: NOT done, 2 guests moved, 1 not, 169 MiB in 41 s (expected 252 MiB in 18 s)")
    assert lines[2:9] == A_REPORT.splitlines()


def test_a_report_without_forecasts_says_nothing_of_them():
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    lines = report_table.report_lines(joined_with(plan, step_result(plan["steps"][0])))
    assert not any("orecast" in line or "xpected" in line for line in lines)
    assert lines[-1].endswith("pre-copy")


def test_a_limit_that_was_broken_is_told_without_a_forecast_too():
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    lines = report_table.report_lines(joined_with(plan, step_result(plan["steps"][0], downtime_ms=900)))
    assert lines[-1] == "Down for longer than accepted: web1."


def test_a_note_stands_below_the_table():
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    (step,) = plan["steps"]
    note = "its clock may be 2.3 s behind, and it has no guest agent to set it: chrony or ntpd in the guest corrects it"
    lines = report_table.report_lines(report.join(plan, {"h1": [step_result(step, notes=[note])]}, **TIMES))
    assert lines[-2:] == [
        "",
        f"Note: web1: {note}",
    ]


def test_what_guests_have_left_behind_is_listed_with_its_size():
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    left = [
        {"host": "h1", "path": "/images/web1.qcow2", "allocated_bytes": 47 << 20},
        {"host": "h1", "path": "/dev/vg0/web1", "allocated_bytes": None},
    ]
    lines = report_table.report_lines(joined_with(plan, step_result(plan["steps"][0], left_copies=left)))
    at = lines.index("Old copies of disks stay as the copies to come home to:")
    assert lines[at + 1 :] == [
        "  /images/web1.qcow2 on h1 (web1, 47 MiB)",
        "  /dev/vg0/web1 on h1 (web1, -)",
        "  -> see all of them, and remove those that nobody needs: ansible-playbook kvmops.cluster.disk_copies",
    ]
