# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: phrases that several tables share.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean


def counted(number: int, one: str, many: str) -> str:
    """A number with its noun.

    >>> counted(1, "guest", "guests"), counted(3, "guest", "guests")
    ('1 guest', '3 guests')
    """
    return f"{number} {one if number == 1 else many}"


def it_is(number: int) -> str:
    """The subject and verb for so many things.

    >>> it_is(1), it_is(2)
    ('it is', 'they are')
    """
    return "it is" if number == 1 else "they are"


def refusal_lines(refusals: t.Iterable[t.Mapping[str, t.Any]], indent: str, prefix: str = "") -> list[str]:
    """Two lines for each refusal: the reason, and the remedy behind an arrow."""
    lines = []
    for refused in refusals:
        lines.append(f"{indent}{prefix}{clean(refused['reason'])}")
        if refused.get("remedy"):
            lines.append(f"{indent}  -> {clean(refused['remedy'])}")
    return lines
