# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: text for terminals and logs, in columns of fixed width.

from __future__ import annotations

import textwrap
import typing as t
import unicodedata

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean

__all__ = ["clean", "columns", "cut", "short", "table", "wrapped"]

#: No name takes more columns than this, so that a table with one monstrous name stays readable.
MOST_NAME_COLUMNS = 40
#: Sentences are broken here; most terminals are at least so wide.
LINE_COLUMNS = 120


def columns(text: str) -> int:
    """How many columns a terminal needs for a text: wide characters take two, combining ones none."""
    return sum(_columns_of(char) for char in text)


def short(text: str, most: int = MOST_NAME_COLUMNS) -> str:
    """Shorten a name to so many columns. The middle is cut out, because names differ at their ends.

    >>> short("prod-eu-west-1-database-primary-0001", 20)
    'prod-eu-west…ry-0001'
    """
    if columns(text) <= most:
        return text
    tail = _taken(reversed(text), (most - 1) * 2 // 5)[::-1]
    head = _taken(iter(text), most - 1 - columns(tail))
    return f"{head}\N{HORIZONTAL ELLIPSIS}{tail}"


def cut(text: str, most: int) -> str:
    """Shorten a text to so many columns. Its end is cut off.

    >>> cut("42 %, 22.8 MiB/s, 42.0 MiB left", 20)
    '42 %, 22.8 MiB/s, 4…'
    """
    if columns(text) <= most:
        return text
    return f"{_taken(iter(text), most - 1)}\N{HORIZONTAL ELLIPSIS}"


def table(header: t.Sequence[str], rows: t.Iterable[t.Sequence[t.Any]], right: t.Collection[str] = ()) -> list[str]:
    """Lines of a table; columns named in ``right`` are aligned to the right. The last column is never cut."""
    cells = [
        [clean(cell) if number == len(row) - 1 else short(clean(cell)) for number, cell in enumerate(row)]
        for row in ([*header], *map(list, rows))
    ]
    widths = [max(columns(row[number]) for row in cells) for number in range(len(header))]
    return [
        "  ".join(_padded(cell, widths[number], header[number] in right) for number, cell in enumerate(row)).rstrip()
        for row in cells
    ]


def wrapped(text: str, first: str, rest: str) -> list[str]:
    """A sentence as lines of a readable width; ``first`` goes before the first one and ``rest`` before the others.

    Words are counted in characters: a sentence in wide ones comes out somewhat longer.
    """
    return textwrap.wrap(
        clean(text),
        LINE_COLUMNS,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _padded(text: str, width: int, right: bool) -> str:
    space = " " * (width - columns(text))
    return space + text if right else text + space


def _taken(chars: t.Iterable[str], most: int) -> str:
    taken, used = [], 0
    for char in chars:
        used += _columns_of(char)
        if used > most:
            break
        taken.append(char)
    return "".join(taken)


def _columns_of(char: str) -> int:
    if unicodedata.combining(char) or unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
