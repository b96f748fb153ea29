# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A terminal as its manual describes it, as far as anything here uses it. Anything else is an error."""

from __future__ import annotations

import re

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import columns

_SEQUENCE = re.compile(r"\x1b(?:(?P<escape>[78])|\[(?P<mark>\??)(?P<numbers>[\d;]*)(?P<command>[A-Za-z]))")


class Screen:
    """What a person sees.

    Attributes:
        past: what has scrolled away above.
        seen: the screen each time that something was drawn, by its lines.
        colours: what was asked for with SGR.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells = [[" "] * width for _line in range(height)]
        self.row = self.column = 0
        self._saved = (0, 0)
        self.region = (0, height - 1)
        self.wraps = True
        self.past: list[str] = []
        self.seen: list[list[str]] = []
        self.colours: set[str] = set()
        self._commands = {
            "A": self._up,
            "H": self._go,
            "J": self._clear_below,
            "K": self._clear_line,
            "r": self._keep_region,
            "m": self._color,
        }

    def lines(self) -> list[str]:
        """The lines of the screen, without blanks at their ends."""
        return ["".join(cells).rstrip() for cells in self._cells]

    def all_lines(self) -> list[str]:
        """Those too that have scrolled away."""
        shown = [*self.past, *self.lines()]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def feed(self, text: str) -> None:
        """Take what was written."""
        at = 0
        while at < len(text):
            if text[at] == "\x1b":
                found = _SEQUENCE.match(text, at)
                assert found, repr(text[at : at + 20])
                self._obey(**found.groupdict())
                at = found.end()
            else:
                self._put(text[at])
                at += 1

    def _obey(self, escape: str | None, mark: str, numbers: str, command: str) -> None:
        if escape == "7":
            self._saved = (self.row, self.column)
        elif escape == "8":
            self.row, self.column = self._saved
            self.seen.append(self.lines())
        elif mark:
            assert (numbers, command) in (("7", "l"), ("7", "h")), (numbers, command)
            self.wraps = command == "h"
        else:
            given = [int(number) for number in numbers.split(";") if number]
            self._commands[command](given)

    def _up(self, given: list[int]) -> None:
        self.row = max(0, self.row - (given[0] if given else 1))

    def _go(self, given: list[int]) -> None:
        self.row, self.column = given[0] - 1, given[1] - 1

    def _clear_below(self, given: list[int]) -> None:
        assert given == []
        self._clear_line(given)
        for row in range(self.row + 1, self.height):
            self._cells[row] = [" "] * self.width

    def _clear_line(self, given: list[int]) -> None:
        begin = 0 if given == [2] else self.column
        self._cells[self.row][begin:] = [" "] * (self.width - begin)

    def _keep_region(self, given: list[int]) -> None:
        self.region = (given[0] - 1, given[1] - 1) if given else (0, self.height - 1)
        self.row = self.column = 0

    def _color(self, given: list[int]) -> None:
        self.colours.add(";".join(map(str, given)))

    def _put(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._down()
        else:
            assert char.isprintable(), repr(char)
            self._print(char)

    def _print(self, char: str) -> None:
        wide = columns(char)
        if self.column + wide > self.width:
            if self.wraps:
                self.column = 0
                self._down()
            else:
                self.column = self.width - wide
        self._cells[self.row][self.column : self.column + wide] = [char, *[""] * (wide - 1)]
        self.column += wide

    def _down(self) -> None:
        if self.row == self.region[1]:
            if self.region[0] == 0:
                self.past.append("".join(self._cells[0]).rstrip())
            del self._cells[self.region[0]]
            self._cells.insert(self.region[1], [" "] * self.width)
        elif self.row < self.height - 1:
            self.row += 1
