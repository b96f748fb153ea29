# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import expectation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import report
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import plan_table
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import text_layout
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    band,
    choice,
    cluster,
    domain,
    path,
    plan_document,
    snapshot,
    step_result,
    uuid_of,
)

PINNED = {"code": "hostdev", "reason": "PCI device 0000:3b:00.0 is passed through", "remedy": "detach it"}
TIMES = {"started_at": "2026-11-24T02:00:01.000Z", "finished_at": "2026-11-24T02:00:42.200Z"}


@pytest.mark.parametrize(
    ("text", "columns"), [("web1", 4), ("größe", 5), ("gro\u0308ße", 5), ("データ", 6), ("🐧", 2), ("", 0)]
)
def test_columns(text, columns):
    assert text_layout.columns(text) == columns


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("web1", 4, "web1"),
        ("prod-eu-west-1-database-primary-0001", 20, "prod-eu-west…ry-0001"),
        ("データベースサーバー01", 12, "データ…ー01"),
        ("n" * 200, 10, "nnnnnn…nnn"),
    ],
)
def test_a_long_name_keeps_both_ends(text, most, shown):
    assert text_layout.short(text, most) == shown
    assert text_layout.columns(shown) <= most


def test_a_name_cannot_move_the_cursor():
    assert text_layout.clean("a\x1b[2Jb\nc\td") == "a\N{REPLACEMENT CHARACTER}[2Jb c d"


def test_columns_line_up_whatever_is_in_them():
    rows = [[name, "x" * 3, "end"] for name in AWKWARD_NAMES]
    lines = text_layout.table(["NAME", "N", "LAST"], rows, right=["N"])
    assert len({text_layout.columns(line[: line.index("xxx")]) for line in lines[1:]}) == 1
    assert max(map(text_layout.columns, lines)) <= text_layout.MOST_NAME_COLUMNS + len("  xxx  LAST")


def test_a_plan():
    seen = cluster(
        snapshot("h1", domain("web1"), domain("db 1", memory_bytes=4 * GIB), domain("gpu1", blockers=[PINNED]),
                 domain("old", state="shutoff")),
        snapshot("h2"),
        snapshot("h3"),
    )  # fmt: skip
    assert plan_table.plan_lines(plan_document(seen)) == [
        "Plan drain-h1-20261124T020000Z-3f9a: 2 guests (4.5 GiB) leave h1",
        "",
        "STEP  GUEST   MEMORY  FROM  TO  WHY",
        "s001  web1   512 MiB  h1    h3  h3 has room for it (31.4 GiB left at the end)",
        "s002  db 1     4 GiB  h1    h2  h2 has room for it (27.9 GiB left at the end)",
        "",
        "1 guest stays where it is:",
        "  gpu1 on h1",
        "    PCI device 0000:3b:00.0 is passed through",
        "      -> detach it",
        "",
        "Shut off, left where it is: old",
    ]


@pytest.mark.parametrize(
    ("seen", "kind", "first"),
    [
        (cluster(snapshot("h1"), snapshot("h2")), "drain", "no guest has to leave h1"),
        (cluster(snapshot("h1", domain(blockers=[PINNED])), snapshot("h2")), "drain", "no guest can leave h1"),
        (cluster(snapshot("h1"), snapshot("h2", domain(home="h1"))), "restore", "1 guest (512 MiB) comes home to h1"),
        (cluster(snapshot("h1"), snapshot("h2")), "restore", "no guest has to come home to h1"),
        (cluster(snapshot("h1", domain()), snapshot("h2")), "upgrade", "1 guest (512 MiB) leaves h1"),
    ],
)
def test_the_first_line_of_a_plan(seen, kind, first):
    assert plan_table.plan_lines(plan_document(seen, kind))[0].partition(": ")[2] == first


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
    assert plan_table.report_lines(joined) == [
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
    lines = plan_table.report_lines(report.join(plan, {"h1": [step_result(plan["steps"][0])]}, **TIMES))
    assert lines[0] == "Drain of h1: done, 1 guest moved, 84.4 MiB in 41 s"
    assert "To do:" not in lines


def forecast_plan(*forecasts, **changes):
    """A drain of one guest for each forecast."""
    names = [f"web{number}" for number in range(1, len(forecasts) + 1)]
    plan = plan_document(cluster(snapshot("h1", *map(domain, names)), snapshot("h2")))
    for step, forecast in zip(plan["steps"], forecasts, strict=True):
        step.update(strategy=forecast["method"], forecast=forecast)
    plan["expected"] = {**expectation(plan["steps"], {}), **changes}
    return plan


NOT_SURE = choice(
    method="raise-downtime",
    verdict="marginal",
    reason="raise-downtime: raising the limit once, after two rounds, keeps the guest down for 0.7 s; plain pre-copy "
    "not, because it is not sure: in 108 ms the guest dirties 2.4 MiB and the link takes 2.5 MiB: too close to promise",
    total_s=band(9.3, 7.1, 12.4),
    downtime_ms={"value": 665, "low": 414, "high": None},
    fallbacks=["throttle", "post-copy", "suspend"],
)


def test_the_time_of_a_first_wave_is_not_that_of_an_upgrade():
    plan = forecast_plan(choice())
    move = {key: plan["steps"][0][key] for key in ("guest", "source", "destination")}
    waves = [{"hosts": [host], "moves": [move], "seconds": 60.0} for host in ("h1", "h2")]
    plan.update(
        goal={"kind": "upgrade", "hosts": ["h1", "h2"]},
        waves=waves,
        figures={"moves": 2, "seconds": 120.0, "moves_per_guest": 1.0},
    )
    lines = plan_table.plan_lines(plan)
    assert lines[0].partition(": ")[2] == "2 hosts are emptied in 2 waves with 2 moves"
    assert "All moves together take about 2 min" in "\n".join(lines)


A_PLAN = """\
STEP  GUEST   MEMORY  FROM  TO  START   END      TIME      SENT        DOWNTIME  HOW
s001  web1   512 MiB  h1    h2   0:00  0:04     4.1 s  83.9 MiB           85 ms  pre-copy
s002  web2   512 MiB  h1    h2   0:04  0:13  7.1-12 s  83.9 MiB  414 ms or more  raise-downtime, not sure

Why:
  web1  h2 is the only host that can take it; pre-copy: in 30 ms the guest dirties 402 KiB and the link takes 700 KiB
  web2  h2 is the only host that can take it; raise-downtime: raising the limit once, after two rounds, keeps the guest
        down for 0.7 s; plain pre-copy not, because it is not sure: in 108 ms the guest dirties 2.4 MiB and the link
        takes 2.5 MiB: too close to promise; should that fail: throttle, post-copy and 1 more

Expected: 13 s and 168 MiB in all, if what is not sure goes well. No order is faster: what goes from h1 takes 13 s.
"""
A_REPORT = """\
GUEST  FROM  TO  OUTCOME   TIME  FORECAST      SENT  FORECAST  DOWNTIME        FORECAST         ACCEPTED  HOW
web1   h1    h2  moved    4.3 s     4.1 s  84.4 MiB  83.9 MiB     92 ms           85 ms      200 ms kept  pre-copy
web2   h1    h2  moved     13 s  7.1-12 s  84.4 MiB  83.9 MiB    230 ms  414 ms or more  200 ms NOT KEPT  post-copy
web3   h1    h2  failed   2.0 s     4.1 s         -  83.9 MiB         -           85 ms           200 ms  pre-copy

Forecasts were off: time by 17 % (at worst 30 %), bytes by 1 % (at worst 1 %), downtime by 98 % (at worst 189 %).
Down for longer than accepted: web2.
"""


def test_a_plan_with_forecasts():
    assert plan_table.plan_lines(forecast_plan(choice(), NOT_SURE))[2:] == A_PLAN.splitlines()


def test_a_plan_says_what_its_forecasts_do_not_rest_on():
    old = choice(measured_at="2026-11-23T23:00:00Z")
    unmeasured = choice(measured_at=None, verdict="marginal")
    blind = choice(bandwidth_bytes_per_s=None, total_s=None, bytes=None, downtime_ms=None, verdict="marginal")
    lines = plan_table.plan_lines(forecast_plan(old, unmeasured, blind))
    assert lines[4].endswith("4.1 s  83.9 MiB         -  pre-copy, not measured")
    assert lines[5].endswith("    -         -         -  pre-copy")
    assert lines[-6:] == [
        "Not measured: web2. What is forecast of them rests on their size alone.",
        "  -> measure first: ansible-playbook kvmops.cluster.measure (a drain without --check measures by itself)",
        "Measured some time ago: web1 (3 h ago). Guests change.",
        "  -> measure again: ansible-playbook kvmops.cluster.measure (a drain without --check measures by itself)",
        "Nobody knows yet how fast the way is from h1 to h2, so nothing is forecast there.",
        "  -> state kvmops_cluster_bandwidth_mib_s in the inventory; the first move over it tells as well",
    ]
    assert " ".join(lines[-8:-6]).replace("   ", " ") == (
        "Expected: about 11 s in all, of which web3 is guessed by memory and link. "
        "No order is faster: what goes from h1 takes 11 s."
    )


def test_lines_of_a_plan_stay_readable_with_awkward_names():
    plan = forecast_plan(*[NOT_SURE] * len(AWKWARD_NAMES))
    for step, name in zip(plan["steps"], AWKWARD_NAMES, strict=True):
        step["guest"]["name"] = name
    lines = plan_table.plan_lines(plan)
    assert max(map(text_layout.columns, lines)) <= 140
    starts = [line for line in lines if "h2 is the only host" in line]
    assert len({text_layout.columns(line[: line.index("h2 is")]) for line in starts}) == 1


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
    lines = plan_table.report_lines(joined)
    assert lines[0] == ("Drain of h1: NOT done, 2 guests moved, 1 not, 169 MiB in 41 s (expected 252 MiB in 18 s)")
    assert lines[2:9] == A_REPORT.splitlines()


def test_a_report_without_forecasts_says_nothing_of_them():
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    lines = plan_table.report_lines(joined_with(plan, step_result(plan["steps"][0])))
    assert not any("orecast" in line or "xpected" in line for line in lines)
    assert lines[-1].endswith("pre-copy")


def test_a_limit_that_was_broken_is_told_without_a_forecast_too():
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    lines = plan_table.report_lines(joined_with(plan, step_result(plan["steps"][0], downtime_ms=900)))
    assert lines[-1] == "Down for longer than accepted: web1."


def test_paths():
    ports = {"check": "ports", "ok": False, "code": "ports_filtered", "reason": "no answer from port 49152",
             "remedy": "open TCP 49152-49215"}  # fmt: skip
    cpu = {"code": "cpu", "reason": "h1 lacks avx512f", "remedy": "choose another host"}
    guests = [
        {"name": "web1", "uuid": uuid_of("web1"), "refusals": [cpu]},
        {"name": "ok", "uuid": "x", "refusals": []},
    ]
    lines = plan_table.matrix_lines(
        [
            path("h1", "h2"),
            path("h1", "h3", ok=False, checks=[ports]),
            path("h2", "h1", guests=guests),
            path("h2", "h3"),
        ]
    )
    assert lines == [
        "FROM \\ TO  h1           h2  h3",
        "h1         -            ok  ports",
        "h2         not 1 guest  -   ok",
        "",
        "h1 -> h3",
        "  ports: no answer from port 49152",
        "    -> open TCP 49152-49215",
        "",
        "h2 -> h1",
        "  web1: h1 lacks avx512f",
        "    -> choose another host",
    ]


def test_a_path_that_was_not_checked():
    assert plan_table.matrix_lines([path("h1", "h2"), path("h3", "h1")])[2] == "h3         ok  ?"
    assert plan_table.matrix_lines([]) == ["No path was checked."]
