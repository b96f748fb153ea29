# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Make texts that nobody vouches for fit to be shown: output of commands, errors with the words of a guest's agent.

Such a text may have characters that move the cursor of a terminal or turn the order of letters around, and it may be
megabytes long.
"""

from __future__ import annotations

import unicodedata

#: Of an error with words of others, so many characters are shown.
MOST_OF_ERROR = 300
#: Control characters (C0, C1), format characters (such as those of bidirectional text), lone surrogates.
_HARMFUL = ("Cc", "Cf", "Cs")
#: No character has more bytes in UTF-8.
_BYTES_OF_CHARACTER = 4


def harmless(text: str) -> str:
    """A text in which each character that is none to look at is replaced. Ends of lines stay."""
    return "".join(
        char if char == "\n" or unicodedata.category(char) not in _HARMFUL else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def one_line(text: object, most: int | None = None) -> str:
    """A text on one line, harmless, of so many characters at most.

    >>> one_line("no\\n such  database", 12)
    'no such dat…'
    """
    whole = str(text)
    # What is left out need not be looked at. Twice as much allows for spaces that go.
    line = harmless(" ".join((whole if most is None else whole[: 2 * most + 2]).split()))
    if most is None or len(line) <= most:
        return line
    return line[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def end_of(printed: bytes, most: int) -> str:
    """The last characters of what a command has printed, harmless, line by line. Errors are at the end."""
    text = printed[-_BYTES_OF_CHARACTER * most :].decode("utf-8", "replace")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ")
    return harmless(lines).strip()[-most:]
