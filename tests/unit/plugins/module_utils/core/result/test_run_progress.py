# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import run_progress

NOW = datetime.datetime(2026, 11, 24, 2, 0, 20, tzinfo=datetime.timezone.utc)
#: What follows waits for its end; each takes 10 s.
PLAN = {
    "id": "drain-h1-1",
    "goal": {"kind": "drain", "hosts": ["h1"]},
    "steps": [
        {
            "id": f"s{number}",
            "guest": {"name": f"web{number}", "uuid": f"u{number}"},
            "source": "h2" if number == 4 else "h1",
            "destination": "h3",
            "memory_bytes": number << 20,
        }
        for number in (1, 2, 3, 4)
    ],
    "expected": {
        "window_s": 60,
        "steps": {f"s{number}": {"start_s": 10.0 * (number - 1), "end_s": 10.0 * number} for number in (1, 2, 3, 4)},
    },
}


def at(second):
    return f"2026-11-24T02:00:{second:02d}.000Z"


def line(step, phase, second=18, **more):
    return {
        "step": f"s{step}",
        "guest": f"web{step}",
        "destination": "h3",
        "phase": phase,
        "message": "m",
        "at": at(second),
        **more,
    }


def rows(*lines):
    made = run_progress.rows_of(PLAN, "h1")
    for one in lines:
        run_progress.follow(made, one)
    return made


def left(*lines):
    return run_progress.seconds_left(rows(*lines), NOW)


def test_there_is_a_row_for_each_guest_that_leaves_the_host():
    assert [row["guest"] for row in rows()] == ["web1", "web2", "web3"]
    assert [row["guest"] for row in run_progress.rows_of(PLAN)] == ["web1", "web2", "web3", "web4"]


def test_before_anything_has_begun_the_plan_says_how_long_it_takes():
    assert left() == 30


def test_a_guest_under_way_says_itself_how_long_it_takes_and_time_goes_on_since():
    assert left(line(1, "pre-copy", 18, percent=50, eta_s=6)) == 4 + 20


def test_a_guest_that_has_no_figures_yet_takes_what_the_plan_says():
    assert left(line(1, "done"), line(2, "setup", 14)) == 4 + 10


def test_what_is_late_may_end_at_any_moment():
    assert left(line(1, "done"), line(2, "done"), line(3, "pre-copy", 2, percent=99, eta_s=1)) == 0
    assert left(line(1, "done"), line(2, "done"), line(3, "setup", 2)) == 0


def test_a_remark_between_figures_takes_none_of_them_away():
    [row, *dummy] = rows(line(1, "pre-copy", 10, percent=50, eta_s=8), line(1, "post-copy", 12))
    assert (row["phase"], row["percent"], row["eta_s"], row["figures_at"]) == ("post-copy", 50, 8, at(10))


@pytest.mark.parametrize("phase", ["waiting", "setup", "done", "failed", "refused"])
def test_figures_of_the_time_before_go(phase):
    [row, *dummy] = rows(line(1, "pre-copy", 10, percent=50, eta_s=8), line(1, phase, 12))
    assert (row["percent"], row["eta_s"], row["figures_at"]) == (None, None, None)


def test_a_guest_that_is_tried_once_more_waits_again():
    [row, *dummy] = rows(line(1, "setup", 2), line(1, "failed", 9), line(1, "waiting", 9))
    assert not run_progress.has_ended(row)
    assert not run_progress.has_begun(row)
    assert left(line(1, "setup", 2), line(1, "failed", 9), line(1, "waiting", 9)) == 30


def test_moves_that_overlap_count_once():
    made = rows()
    made[1]["start_s"], made[1]["end_s"] = 8.0, 18.0
    made[2]["start_s"], made[2]["end_s"] = 9.0, 12.0
    assert run_progress.seconds_left(made, NOW) == 18


def test_nobody_knows_the_end_if_one_guest_has_no_figure():
    made = rows()
    made[2]["end_s"] = None
    assert run_progress.seconds_left(made, NOW) is None
    run_progress.follow(made, line(3, "setup"))
    assert run_progress.seconds_left(made, NOW) is None
    run_progress.follow(made, line(3, "failed"))
    assert run_progress.seconds_left(made, NOW) == 20


def test_a_clock_that_was_set_back_makes_no_time():
    assert left(line(1, "done"), line(2, "done"), line(3, "pre-copy", 50, percent=1, eta_s=6)) == 6


def test_the_share_is_by_memory():
    assert run_progress.share_done(rows(line(3, "done"), line(2, "pre-copy", percent=50, eta_s=1))) == (3 + 1) / 6
    assert run_progress.share_done([]) == 0


def test_the_share_of_guests_of_unknown_size_is_by_their_number():
    made = rows(line(3, "done"))
    made[0]["memory_bytes"] = None
    assert run_progress.share_done(made) == pytest.approx(1 / 3)


def test_a_guest_of_an_unknown_plan_gets_a_row():
    made = []
    assert run_progress.follow(made, {"phase": "setup", "message": "for nobody"}) is None
    run_progress.follow(made, {"guest": "db1", "phase": "pre-copy", "percent": 5, "at": at(3)})
    run_progress.follow(made, {"guest": "db1", "phase": "done", "at": at(4), "message": "moved"})
    [row] = made
    assert (row["guest"], row["destination"], row["phase"], row["message"]) == ("db1", None, "done", "moved")


@pytest.mark.parametrize("odd", [-1, True, "50", float("nan"), float("inf"), [], {}])
def test_a_figure_that_is_none_is_not_taken(odd):
    [row, *dummy] = rows(line(1, "pre-copy", percent=odd, eta_s=odd))
    assert (row["percent"], row["eta_s"]) == (None, None)
    [row, *dummy] = rows(line(1, "pre-copy", percent=5, eta_s=odd))
    assert row["eta_s"] is None
    assert left(line(1, "pre-copy", percent=5, eta_s=odd, at=odd)) is None


HOLDER = {"owner": "alice@admin1", "since": at(2)}


def test_what_a_host_tells_of_its_run():
    told = run_progress.run_progress(
        PLAN, HOLDER, [{"phase": "job", "pid": 7, "steps": ["s1", "s2", "s3"]}, line(1, "done")], NOW
    )
    steps = told.pop("steps")
    assert told == {
        "schema": "kvmops.run_progress/1",
        "plan": "drain-h1-1",
        "goal": {"kind": "drain", "hosts": ["h1"]},
        "owner": "alice@admin1",
        "since": at(2),
        "read_at": at(20),
        "ended": 1,
        "guests": 3,
        "share_done": 0.167,
        "eta_s": 20.0,
        "window_s": 60,
        "window_left_s": 42.0,
    }
    assert [step["phase"] for step in steps] == ["done", None, None]


def test_a_run_of_an_older_version_has_the_guests_of_all_hosts():
    assert run_progress.run_progress(PLAN, HOLDER, [{"phase": "job", "pid": 7}], NOW)["guests"] == 4


@pytest.mark.parametrize("expected", [None, [], "x", {"steps": 5, "window_s": "x"}, {"steps": {"s1": 3}}])
def test_a_plan_without_times_is_shown_without(expected):
    told = run_progress.run_progress({**PLAN, "expected": expected}, {}, [], NOW)
    assert (told["eta_s"], told["window_s"], told["window_left_s"], told["owner"]) == (None, None, None, None)
