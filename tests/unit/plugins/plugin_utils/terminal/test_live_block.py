# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import run_progress
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_block import View, block
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import columns

NOW = datetime.datetime(2026, 11, 24, 2, 0, 20, tzinfo=datetime.UTC)
AT = "2026-11-24T02:00:20.000Z"


def plan(host, names):
    steps = [
        {
            "id": f"{host}-{number}",
            "guest": {"name": name, "uuid": name},
            "source": host,
            "destination": "h9",
            "memory_bytes": 1 << 30,
        }
        for number, name in enumerate(names)
    ]
    times = {step["id"]: {"start_s": 30.0 * number, "end_s": 30.0 * number + 30} for number, step in enumerate(steps)}
    return {"id": "p", "steps": steps, "expected": {"steps": times}}


def view(host, *names, window_left_s=None, **phases):
    rows = run_progress.rows_of(plan(host, names))
    for name, phase in phases.items():
        figures = {
            "percent": 50,
            "eta_s": 12,
            "rate_bytes_per_s": 24 << 20,
            "remaining_bytes": 80 << 20,
            "iteration": 2,
        }
        told = {"phase": phase, "message": f"{phase} it", "at": AT, **(figures if phase == "pre-copy" else {})}
        run_progress.follow(rows, {"guest": name, **told})
    return View(host, rows, NOW, window_left_s)


def texts(*views, width=100, most=12):
    return [line.text for line in block(views, width, most)]


def test_all_guests_of_all_hosts_and_the_run():
    assert texts(
        view("h1", "web1", "web2", web1="done", web2="pre-copy", window_left_s=90.0), view("h2", "db1", "db2")
    ) == [
        "h1: web1 -> h9  done        done it",
        "h1: web2 -> h9  pre-copy    [#########.........]  50 %, about 12 s, 24 MiB/s, 80 MiB left, round 2",
        "h2: db1 -> h9   waiting",
        "h2: db2 -> h9   waiting",
        "[##########..................] 1 of 4 guests, 38 %, about 1 min 00 s left, window: 1 min 30 s left",
    ]


def test_figures_give_way_to_the_width():
    shown = view("h1", "web1", web1="pre-copy")
    assert texts(shown, width=80)[0] == "h1: web1 -> h9  pre-copy    [#########.........]  50 %, about 12 s, 24 MiB/s"
    assert texts(shown, width=59) == [
        "h1: web1 -> h9  pre-copy    [####.....]  50 %, about 12 s",
        "[##########..........] 0 of 1 guests, 50 %, about 12 s left",
    ]
    assert texts(shown, width=58) == [
        "web1  pre-copy     50 %, about 12 s, 24 MiB/s, 80 MiB left",
        "0 of 1, 50 %, 12 s left",
    ]
    assert texts(shown, width=40) == ["web1  pre-copy     50 %, about 12 s", "0 of 1, 50 %, 12 s left"]
    assert texts(shown, width=20) == ["web1  pre-copy     …", "0 of 1, 50 %"]


def test_those_under_way_come_first_where_there_is_too_little_room():
    names = [f"g{number:02}" for number in range(40)]
    shown = view("h1", *names, g00="done", g01="failed", g02="done", g07="pre-copy", g20="setup")
    assert texts(shown, width=70, most=6) == [
        "h1: g03 -> h9  waiting",
        "h1: g04 -> h9  waiting",
        "h1: g07 -> h9  pre-copy    [#########.........]  50 %, about 12 s",
        "h1: g20 -> h9  setup       setup it",
        "and 33 waiting, 3 that have ended",
        "[##......................] 3 of 40 guests, 9 %, about 18 min 00 s left",
    ]


@pytest.mark.parametrize("most", [2, 3, 6, 16])
def test_there_are_never_more_lines_than_there_is_room_for(most):
    names = [f"g{number:02}" for number in range(40)]
    lines = texts(view("h1", *names, **dict.fromkeys(names[:20], "pre-copy")), most=most)
    assert len(lines) == most
    assert lines[-1].endswith("left")


@pytest.mark.parametrize("width", [20, 39, 60, 79, 200])
@pytest.mark.parametrize("name", ["x" * 300, "データベース" * 9, "e\u0301" * 90, "\x1b[2J\u202eweb\n2"])
def test_no_line_is_wider_than_the_terminal(width, name):
    shown = view(f"h{name}", name, "b", b="pre-copy", window_left_s=5)
    run_progress.follow(shown.rows, {"guest": name, "phase": name, "message": name, "destination": name, "at": AT})
    for line in texts(shown, width=width):
        assert columns(line) <= width
        assert line.isprintable()


def test_a_run_that_will_be_late_says_by_how_much():
    late = view("h1", "web1", web1="pre-copy", window_left_s=4.0)
    [_guest, run] = block([late], 100, 12)
    assert run.text.endswith("0 of 1 guests, 50 %, about 12 s left, 8.0 s longer than the window")
    assert run.color == "bright purple"
    [_guest, run] = block([view("h1", "web1", web1="pre-copy", window_left_s=-61.0)], 100, 12)
    assert run.text.endswith("about 12 s left, the window ended 1 min 01 s ago")


def test_an_end_that_nobody_knows_is_not_told():
    shown = view("h1", "web1", "web2", web1="pre-copy")
    shown.rows[1]["end_s"] = None
    assert texts(shown)[-1] == "[#######.....................] 0 of 2 guests, 25 %"


def test_a_run_without_guests_has_no_lines():
    assert block([view("h1")], 100, 12) == []
