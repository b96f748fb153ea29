# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import report
from ansible_collections.kvmops.cluster.plugins.plugin_utils import tables
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
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
    assert tables.columns(text) == columns


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
    assert tables.short(text, most) == shown
    assert tables.columns(shown) <= most


def test_a_name_cannot_move_the_cursor():
    assert tables.clean("a\x1b[2Jb\nc\td") == "a\N{REPLACEMENT CHARACTER}[2Jb c d"


def test_columns_line_up_whatever_is_in_them():
    rows = [[name, "x" * 3, "end"] for name in AWKWARD_NAMES]
    lines = tables.table(["NAME", "N", "LAST"], rows, right=["N"])
    assert len({tables.columns(line[: line.index("xxx")]) for line in lines[1:]}) == 1
    assert max(map(tables.columns, lines)) <= tables.MOST_NAME_COLUMNS + len("  xxx  LAST")


def test_a_plan():
    seen = cluster(
        snapshot("h1", domain("web1"), domain("db 1", memory_bytes=4 * GIB), domain("gpu1", blockers=[PINNED]),
                 domain("old", state="shutoff")),
        snapshot("h2"),
        snapshot("h3"),
    )  # fmt: skip
    assert tables.plan_lines(plan_document(seen)) == [
        "Plan drain-h1-20261124T020000Z-3f9a: 2 guests (4.5 GiB) leave h1",
        "",
        "STEP  GUEST   MEMORY  FROM  TO  WHY",
        "s001  db 1     4 GiB  h1    h2  h2 keeps the most memory free (27.9 GiB after the move)",
        "s002  web1   512 MiB  h1    h3  h3 keeps the most memory free (31.4 GiB after the move)",
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
    ],
)
def test_the_first_line_of_a_plan(seen, kind, first):
    assert tables.plan_lines(plan_document(seen, kind))[0].partition(": ")[2] == first


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
    assert tables.report_lines(joined) == [
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
    lines = tables.report_lines(report.join(plan, {"h1": [step_result(plan["steps"][0])]}, **TIMES))
    assert lines[0] == "Drain of h1: done, 1 guest moved, 84.4 MiB in 41 s"
    assert "To do:" not in lines


def test_paths():
    ports = {"check": "ports", "ok": False, "code": "ports_filtered", "reason": "no answer from port 49152",
             "remedy": "open TCP 49152-49215"}  # fmt: skip
    cpu = {"code": "cpu", "reason": "h1 lacks avx512f", "remedy": "choose another host"}
    guests = [
        {"name": "web1", "uuid": uuid_of("web1"), "refusals": [cpu]},
        {"name": "ok", "uuid": "x", "refusals": []},
    ]
    lines = tables.matrix_lines(
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
    assert tables.matrix_lines([path("h1", "h2"), path("h3", "h1")])[2] == "h3         ok  ?"
    assert tables.matrix_lines([]) == ["No path was checked."]
