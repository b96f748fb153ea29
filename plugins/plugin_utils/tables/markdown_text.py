# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: words of others as Markdown that says what they say, and nothing else.

from __future__ import annotations

import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean

#: What makes a mention, a reference, a formula or an entity of the word behind it, and what makes an address a link.
_FOUND_BY_FORGES = re.compile(r"[@#!&%~$^]+(?=[\w\x22'({\\])|://|(?<=www)\.|(?<=mailto):|(?<=xmpp):", re.IGNORECASE)
#: At the beginning of a line: a heading, a list, a rule, a line below a heading, a command to the forge.
_FIRST = re.compile(r"^(\d+(?=[.)]\s))?([#+=/.)-])(?=.)")


def header(names: t.Sequence[str]) -> list[str]:
    """The first two rows of a table."""
    return [row(names), f"|{' --- |' * len(names)}"]


def row(cells: t.Iterable[str]) -> str:
    """One row of a table."""
    return f"| {' | '.join(map(cell, cells))} |"


def cell(text: str) -> str:
    """Text that stays text within a table: names are the guests' owners' to choose."""
    plain = clean(text)
    escaped = "".join(f"\\{mark}" if mark in "\\|`<>*_[]" else mark for mark in plain)
    # Forges look for mentions, references and addresses in the finished page, where an escaped mark is a plain one.
    safe = _FOUND_BY_FORGES.sub(lambda found: f"`{found[0]}`", escaped)
    return _FIRST.sub(lambda found: f"{found[1] or ''}\\{found[2]}", safe)
