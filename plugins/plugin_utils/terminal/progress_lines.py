# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: read progress lines from a host, and show them to a person.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.run_progress import line_of

_COLORS = {"done": "green", "failed": "red", "refused": "red", "waiting": "yellow", "switchover": "cyan"}


class FollowedFile:
    """Puts together whole lines from a file that is read in pieces while it grows.

    Args:
        offset: bytes at its start that are not read.
    """

    def __init__(self, offset: int = 0) -> None:
        #: Bytes of whole lines read so far; reading goes on behind them.
        self.offset = offset

    def feed(self, text: str) -> list[dict[str, t.Any]]:
        """Take what was read from ``offset`` on and return the whole lines in it; the rest is read again."""
        # Through a terminal, which ssh without pipelining has, every line ends in two characters; the file has one.
        whole, newline, _rest = text.replace("\r\n", "\n").rpartition("\n")
        if not newline:
            return []
        # Ansible keeps bytes that are no text as half characters.
        self.offset += len((whole + newline).encode("utf-8", "surrogateescape"))
        return [line for line in map(line_of, whole.split("\n")) if line is not None]


def phrase(host: str, line: dict[str, t.Any]) -> str:
    """A progress line for a person.

    >>> phrase("h1", {"guest": "web1", "destination": "h2", "phase": "pre-copy", "message": "42 %"})
    'h1: web1 -> h2 | pre-copy   | 42 %'
    """
    message = clean(line.get("message", ""))
    if not line.get("guest"):
        return f"{clean(host)}: {message}"
    move = f"{clean(line['guest'])} -> {clean(line.get('destination'))}"
    return f"{clean(host)}: {move} | {clean(line.get('phase') or ''):<10} | {message}"


def color_of(line: dict[str, t.Any]) -> str | None:
    """Ansible's colour for a line, or None for the terminal's own."""
    return _COLORS.get(str(line.get("phase")))
