# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator sees in a real terminal, and elsewhere."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from harness.ansible import CHECKOUT

from .playbook_stand_in import HOSTILE
from .screen import Screen

SCRIPT = Path(__file__).with_name("playbook_stand_in.py")
COLLECTIONS = CHECKOUT / "build/collections"
HEIGHT = 24
#: What stays: all but figures.
STAYS = [
    "TASK [Move the guests]",
    "h1: db1 -> h2 | setup      | pre-copy (about 10 s)",
    "ok: [h3]",
    "h1: db1 -> h2 | done       | moved, 9.9 s",
    "[WARNING]: something else",
    "in two lines",
    "h1: web1 -> h2 | done       | moved, 9.8 s",
    "changed: [h1]",
    "PLAY RECAP",
]
#: All lines one below the other, as a log has them.
PLAIN = [
    "TASK [Move the guests]",
    "h1: db1 -> h2 | setup      | pre-copy (about 10 s)",
    "h1: db1 -> h2 | pre-copy   | 42 %, 22.8 MiB/s",
    "ok: [h3]",
    "h1: db1 -> h2 | pre-copy   | 84 %, 22.8 MiB/s",
    "h1: db1 -> h2 | done       | moved, 9.9 s",
    "h1: web1 -> h2 | pre-copy   | 7 %, 22.8 MiB/s",
    "[WARNING]: something else",
    "in two lines",
    "h1: web1 -> h2 | done       | moved, 9.8 s",
    "changed: [h1]",
    "PLAY RECAP",
]


def environment(**variables):
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    python = os.pathsep.join([str(COLLECTIONS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        **kept,
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": python,
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }


def typed(width=100, ending="finished", **variables):
    """What is written to a terminal of its own in which the stand-in for ansible-playbook runs."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover  (this is the other process)
        os.execve(sys.executable, [sys.executable, "-c", _WAIT, str(SCRIPT), ending], environment(**variables))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
    os.write(terminal, b"\n")
    written = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            # The last process that had it has ended.
            break
        if not piece:
            break
        written += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, written.decode()
    return written.decode().partition("\r\n")[2]


#: The terminal has its size before anything is asked about it.
_WAIT = "import sys, runpy; input(); sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


def screen(width=100, **how):
    made = Screen(width, HEIGHT)
    made.feed(typed(width, **how))
    return made


def block(shown):
    """The lines at the bottom that are rewritten, each time they have changed."""
    found = []
    for lines in shown.seen:
        last = [re.sub(r"\d+(\.\d)? s\b|\d+ min \d\d s", "T", line) for line in lines[-3:]]
        if last[-1] and (not found or last != found[-1]):
            found.append(last)
    return found


def test_one_line_a_guest_is_rewritten_and_the_run_has_a_bar():
    shown = screen()
    assert block(shown) == [
        [
            "h1: db1 -> h2   waiting",
            "h1: web1 -> h2  waiting",
            "[............................] 0 of 2 guests, 0 %, about T left, window: T left",
        ],
        [
            "h1: db1 -> h2   setup       pre-copy (about T)",
            "h1: web1 -> h2  waiting",
            "[............................] 0 of 2 guests, 0 %, about T left, window: T left",
        ],
        [
            "h1: db1 -> h2   pre-copy    [#######...........]  42 %, about T",
            "h1: web1 -> h2  waiting",
            "[#####.......................] 0 of 2 guests, 21 %, about T left, window: T left",
        ],
        [
            "h1: db1 -> h2   pre-copy    [###############...]  84 %, about T",
            "h1: web1 -> h2  waiting",
            "[###########.................] 0 of 2 guests, 42 %, about T left, window: T left",
        ],
        [
            "h1: db1 -> h2   done        moved, T",
            "h1: web1 -> h2  waiting",
            "[##############..............] 1 of 2 guests, 50 %, about T left, window: T left",
        ],
        [
            "h1: db1 -> h2   done        moved, T",
            "h1: web1 -> h2  pre-copy    [#.................]   7 %, about T",
            "[##############..............] 1 of 2 guests, 54 %, about T left, window: T left",
        ],
        [
            "h1: db1 -> h2   done        moved, T",
            "h1: web1 -> h2  done        moved, T",
            "[############################] 2 of 2 guests, 100 %, window: T left",
        ],
    ]


@pytest.mark.parametrize("width", [100, 80])
def test_what_stays_is_what_a_log_has_without_the_figures(width):
    shown = screen(width)
    assert shown.all_lines() == STAYS
    assert (shown.region, shown.wraps, shown.column) == ((0, HEIGHT - 1), True, 0)


def test_a_screen_that_is_full_scrolls_above_the_lines():
    shown = Screen(100, HEIGHT)
    shown.feed("earlier\r\n" * 60 + typed())
    assert shown.all_lines()[60:] == STAYS
    assert len(block(shown)) == 7


def test_a_narrow_terminal_has_the_names_of_guests_only():
    shown = screen(40)
    assert block(shown)[2] == [
        "db1   pre-copy     42 %, about T",
        "web1  waiting",
        "0 of 2, 21 %, T left",
    ]


@pytest.mark.parametrize("width", [80, 40, 20])
def test_no_line_is_longer_than_the_terminal_whatever_a_guest_is_called(width):
    shown = screen(width, GUEST=HOSTILE)
    for lines in shown.seen:
        assert all(len(line) < width for line in lines[-3:])
    assert any("web\N{REPLACEMENT CHARACTER}" in line for lines in shown.seen for line in lines[-3:])
    assert len(block(shown)) >= 5


def test_without_colour_nothing_is_coloured_and_lines_are_still_rewritten():
    assert screen().colours > {"0"}
    shown = screen(NO_COLOR="1")
    assert shown.colours == set()
    assert len(block(shown)) == 7


def test_an_interrupt_leaves_a_clean_terminal():
    shown = screen(ending="interrupted")
    assert shown.all_lines() == [line for line in STAYS if line != "changed: [h1]"]
    assert shown.region == (0, HEIGHT - 1)


@pytest.mark.parametrize(
    "variables", [{"TERM": "dumb"}, {"TERM": "no-such-terminal"}, {"CI": "true"}, {"LIVE": "false"}, {"TERM": ""}]
)
def test_a_terminal_that_cannot_or_must_not_gets_plain_lines(variables):
    written = typed(**variables)
    assert "\x1b" not in written
    assert written.split("\r\n")[:-1] == PLAIN


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}])
def test_what_is_no_terminal_gets_plain_lines_byte_for_byte(variables):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "finished"], env=environment(**variables), capture_output=True, check=True
    )
    assert done.stdout.decode() == "\n".join([*PLAIN, ""])
    assert done.stderr == b""
