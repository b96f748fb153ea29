# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Text that somebody else chose (names, reasons, output of programs, words of agents), made fit to be shown.

Characters that move a cursor, begin an escape sequence, turn the direction of writing, or cannot be written at all
become a visible mark, so that what is read is what is there. Such a text may also be megabytes long.
"""

from __future__ import annotations

import typing as t
import unicodedata

#: Of an error with words of others, so many characters are shown.
MOST_OF_ERROR = 300
_MARK = "\N{REPLACEMENT CHARACTER}"
#: Control, format (bidi marks among them), halves of characters; ends of lines and of paragraphs.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
#: XML has none of these, whatever their category.
_NO_CHARACTERS = frozenset({*range(0xFDD0, 0xFDF0)})
#: No character has more bytes in UTF-8.
_BYTES_OF_CHARACTER = 4


def visible(text: t.Any) -> str:
    """The text on one line, with a mark for each character that is not seen. Blanks stay as they are.

    >>> visible("web1\\x1b[2J\\n  web2")
    'web1\N{REPLACEMENT CHARACTER}[2J   web2'
    """
    shown = str(text)
    return shown if shown.isprintable() else "".join(map(_visible, shown))


def clean(text: t.Any) -> str:
    """As L(visible), with single blanks between words, and none at the ends.

    >>> clean(" two\\n\\twords ")
    'two words'
    """
    return " ".join(visible(text).split())


def one_line(text: t.Any, most: int | None = None) -> str:
    """As L(clean), of so many characters at most.

    >>> one_line("no\\n such  database", 12)
    'no such dat…'
    """
    whole = str(text)
    # What is left out need not be looked at. Twice as much allows for blanks that go.
    line = clean(whole if most is None else whole[: 2 * most + 2])
    if most is None or len(line) <= most:
        return line
    return line[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def harmless(text: str) -> str:
    """As L(visible), but ends of lines stay."""
    return "\n".join(map(visible, text.split("\n")))


def end_of(printed: bytes, most: int) -> str:
    """The last characters of what a command has printed, harmless, line by line. Errors are at the end."""
    text = printed[-_BYTES_OF_CHARACTER * most :].decode("utf-8", "replace")
    return harmless(text.replace("\r\n", "\n").replace("\r", "\n")).strip()[-most:]


def _visible(char: str) -> str:
    if char.isspace():
        return char if unicodedata.category(char) == "Zs" else " "
    number = ord(char)
    unseen = unicodedata.category(char) in _UNSEEN or number in _NO_CHARACTERS or number & 0xFFFE == 0xFFFE
    return _MARK if unseen else char
