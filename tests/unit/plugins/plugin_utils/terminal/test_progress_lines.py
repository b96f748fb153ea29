# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.progress_lines import (
    FollowedFile,
    color_of,
    phrase,
)

NAMES = ("web1", "two words", "größe 🐧", "a\u2028b", "tab\tand \x85 and \x0c")


def document(*names):
    """A progress file: JSON in ASCII, one line each, as the host writes it."""
    return "".join(json.dumps({"guest": name}) + "\n" for name in names).encode()


class Reader:
    """Reads a growing file as the action does, through a terminal or not."""

    def __init__(self, *, terminal):
        self.file = FollowedFile()
        self._terminal = terminal

    def read(self, content):
        text = content[self.file.offset :].decode()
        return [line["guest"] for line in self.file.feed(text.replace("\n", "\r\n") if self._terminal else text)]


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("piece", [1, 2, 7, 1000])
def test_however_a_file_grows_each_line_is_seen_once(terminal, piece):
    content, reader, seen = document(*NAMES), Reader(terminal=terminal), []
    for end in range(piece, len(content) + piece, piece):
        seen.extend(reader.read(content[:end]))
    assert seen == list(NAMES)
    assert reader.file.offset == len(content)
    assert reader.read(content) == []


def test_a_line_that_is_not_whole_is_read_again():
    file = FollowedFile()
    assert file.feed('{"guest": "we') == []
    assert file.offset == 0
    assert file.feed('{"guest": "web1"}\n{"gu') == [{"guest": "web1"}]
    assert file.offset == len('{"guest": "web1"}\n')


def test_bytes_are_counted_and_not_characters():
    file = FollowedFile()
    file.feed('{"guest": "größe"}\n')
    assert file.offset == len('{"guest": "größe"}\n'.encode())


@pytest.mark.parametrize("noise", ["tail: cannot open\n", "\n", "17\n", "[]\n", "null\n", '{"a": \n'])
def test_what_is_no_line_of_ours_is_passed_over(noise):
    file = FollowedFile()
    assert file.feed(noise + '{"guest": "web1"}\n') == [{"guest": "web1"}]
    assert file.offset == len(noise) + 18


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            {"guest": "web1", "destination": "h2", "phase": "pre-copy", "message": "42 %"},
            "h1: web1 -> h2 | pre-copy   | 42 %",
        ),
        (
            {"guest": "web1", "destination": "h2", "phase": "done", "message": "moved"},
            "h1: web1 -> h2 | done       | moved",
        ),
        ({"guest": None, "message": "all is done"}, "h1: all is done"),
        ({}, "h1: "),
        ({"guest": "web1"}, "h1: web1 -> None |            | "),
    ],
)
def test_a_line_as_a_person_reads_it(line, text):
    assert phrase("h1", line) == text


@pytest.mark.parametrize(
    ("phase", "color"), [("done", "green"), ("failed", "red"), ("refused", "red"), ("pre-copy", None), (None, None)]
)
def test_colors(phase, color):
    assert color_of({"phase": phase}) == color


def test_no_line_of_a_host_moves_the_cursor():
    line = {"guest": "web\x1b[2J", "destination": "h\u202e2", "phase": "done\x9b", "message": "a\r\n\x1b]0;x\x07\u2066"}
    assert phrase("h1", line) == "h1: web\ufffd[2J -> h\ufffd2 | done\ufffd      | a \ufffd]0;x\ufffd\ufffd"
    assert phrase("h1", {"message": "\x1b[31mred"}) == "h1: \ufffd[31mred"
    assert phrase("h1", {"guest": ["web"], "phase": ["x"], "message": {"a": 1}}).startswith(
        "h1: ['web'] -> None | ['x']"
    )
