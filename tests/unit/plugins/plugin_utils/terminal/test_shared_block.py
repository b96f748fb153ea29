# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several workers, one terminal."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import in_place_lines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.in_place_lines import InPlaceLines, RunView
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.shared_block import SharedBlock

from .screen import Screen
from .test_live_block import AT, plan


class Terminal:
    """The terminal of ansible-playbook, and what is sent to it."""

    verbosity = 0

    def __init__(self):
        self.columns, self.lines = 80, 24
        self.owned = True
        self.screen = Screen(80, 24)
        self.logged = []

    def is_owned(self):
        return self.owned

    def size(self):
        return (self.columns, self.lines) if self.lines >= 10 else None

    def write(self, text):
        assert not self.owned or text.startswith("\x1b7\x1b[r"), "only who has no other way writes by himself"
        self.screen.feed(text)

    def display(self, text, color=None, *, screen_only=False, log_only=False, newline=True):
        del color
        if not log_only:
            self.screen.feed(text.replace("\n", "\r\n") + "\r\n" * newline)
        if not screen_only:
            self.logged.append(text)

    def bottom(self, count):
        return self.screen.lines()[-count:]


@pytest.fixture(autouse=True)
def no_colour(monkeypatch):
    monkeypatch.setattr(in_place_lines, "stringc", lambda text, color: text)


@pytest.fixture
def terminal():
    return Terminal()


@pytest.fixture
def worker(terminal, tmp_path):
    def made(host, *names, task="t"):
        rows = in_place_lines.run_progress.rows_of(plan(host, names))
        return InPlaceLines(terminal, terminal, SharedBlock(str(tmp_path), host, task), RunView(host, rows, None))

    return made


def line(guest, phase="pre-copy", **more):
    figures = {"percent": 50, "eta_s": 12} if phase == "pre-copy" else {}
    return {"guest": guest, "destination": "h9", "phase": phase, "message": "m", "at": AT, **figures, **more}


def test_one_worker_draws_the_lines_of_all(terminal, worker):
    first, second = worker("h1", "web1"), worker("h2", "db1")
    second.show(line("db1"))
    second.tick()
    first.tick()
    assert [row.split("  ")[0] for row in terminal.bottom(3)[:2]] == ["h1: web1 -> h9", "h2: db1 -> h9"]
    assert "50 %" in terminal.bottom(2)[0]
    assert "0 of 2 guests" in terminal.bottom(1)[0]


def test_when_it_is_done_the_next_one_draws_and_the_run_counts_on(terminal, worker):
    first, second = worker("h1", "web1"), worker("h2", "db1")
    first.show(line("web1", "done"))
    first.close()
    assert terminal.screen.region == (0, 23)
    second.tick()
    assert "1 of 2 guests, 50 %" in terminal.bottom(1)[0]
    second.close()
    assert terminal.screen.all_lines() == ["h1: web1 -> h9 | done       | m"]


def test_a_worker_that_dies_leaves_the_drawing_to_the_next_one(terminal, worker):
    first, second = worker("h1", "web1"), worker("h2", "db1")
    second.tick()
    assert not second._shared.is_mine
    # As the kernel does it at the end of a process.
    first._shared.give_up()
    second.tick()
    assert second._shared.is_mine
    assert "0 of 2 guests" in terminal.bottom(1)[0]


def test_what_another_task_has_told_is_not_drawn(terminal, worker):
    worker("h1", "web1", task="before").close()
    worker("h2", "db1")
    assert "0 of 1 guests" in terminal.bottom(1)[0]


def test_figures_are_in_the_log_all_the_same(terminal, worker):
    lines = worker("h1", "web1")
    lines.show(line("web1"))
    lines.show(line("web1", level=1))
    lines.show(line("web1", "done"))
    assert terminal.logged == ["h1: web1 -> h9 | pre-copy   | m", "h1: web1 -> h9 | done       | m"]


def test_a_change_of_size_draws_all_anew(terminal, worker):
    lines = worker("h1", "web1")
    terminal.display("an earlier line")
    terminal.columns, terminal.lines = 50, 20
    lines.tick()
    assert terminal.screen.region == (0, 17)
    assert terminal.screen.lines()[18].startswith("web1  waiting")
    assert next(filter(None, terminal.screen.lines())) == "an earlier line"
    assert not any("h1: web1" in row for row in terminal.screen.lines())


def test_a_terminal_that_has_become_too_small_is_left_alone(terminal, worker):
    lines = worker("h1", "web1")
    terminal.lines = 5
    lines.tick()
    assert not any(terminal.screen.lines())
    terminal.lines = 24
    lines.tick()
    assert "0 of 1 guests" in terminal.bottom(1)[0]


def test_a_run_that_was_stopped_or_sent_to_the_background_gives_the_screen_back_until_it_returns(terminal, worker):
    lines = worker("h1", "web1")
    terminal.owned = False
    lines.tick()
    assert not any(terminal.screen.lines())
    assert terminal.screen.region == (0, 23)
    terminal.owned = True
    lines.tick()
    assert "0 of 1 guests" in terminal.bottom(1)[0]


def test_after_an_interrupt_nothing_is_drawn_any_more(terminal, worker):
    lines = worker("h1", "web1")
    lines.abandon()
    lines.show(line("web1"))
    lines.tick()
    lines.close()
    lines.abandon()
    assert not any(terminal.screen.lines())


def test_guests_that_nobody_has_planned_get_a_line_when_they_are_told_of(terminal, worker):
    lines = worker("h1")
    assert not any(terminal.screen.lines())
    lines.show(line("web1"))
    lines.tick()
    assert "50 %" in terminal.bottom(2)[0]
    lines.show(line("web2"))
    lines.tick()
    assert "0 of 2 guests" in terminal.bottom(1)[0]
    assert [row.split("  ")[0] for row in terminal.bottom(3)[:2]] == ["h1: web1 -> h9", "h1: web2 -> h9"]
