# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the control sequences that keep some lines at the bottom of a terminal. All else scrolls
# above them, whoever writes it, as apt does it with its bar.

from __future__ import annotations

import typing as t

SAVE, RESTORE = "\x1b7", "\x1b8"
_WHOLE_SCREEN = "\x1b[r"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[2K", "\x1b[J"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
#: A terminal needs these, in this very form; some append the time that an old terminal takes.
NEEDED = {
    "csr": b"\x1b[%i%p1%d;%p2%dr",
    "cup": b"\x1b[%i%p1%d;%p2%dH",
    "sc": b"\x1b7",
    "rc": b"\x1b8",
    "ed": b"\x1b[J",
}


def opened(lines: int, height: int) -> str:
    """Keep so many lines at the bottom free. The cursor stays in the line that it is in, above them.

    Setting the region moves the cursor, so its place is kept meanwhile.
    """
    return f"{chr(10) * lines}\x1b[{lines}A{SAVE}\x1b[1;{height - lines}r{RESTORE}"


def drawn(texts: t.Sequence[str], height: int) -> str:
    """Write these lines at the bottom. The cursor stays where it is."""
    first = height - len(texts) + 1
    rows = "".join(f"\x1b[{first + number};1H{_CLEAR_LINE}{text}" for number, text in enumerate(texts))
    # ansible-playbook passes on at once only what has a return.
    return f"{SAVE}{_NO_WRAP}{rows}{_WRAP}\r{RESTORE}"


def closed() -> str:
    """Give the whole screen back, without the lines. All of them are below the cursor, also after a change of size."""
    return f"{SAVE}{_WHOLE_SCREEN}\r{RESTORE}{_CLEAR_BELOW}"
