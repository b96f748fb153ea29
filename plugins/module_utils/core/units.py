# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Quantities as people read them."""

from __future__ import annotations

MIB = 1024**2
GIB = 1024**3
#: No size or count of libvirt's has more. Python itself refuses to read very long numbers.
_MOST_DIGITS = 24


def human_bytes(count: float | None) -> str:
    """Bytes with a binary unit and three figures at most.

    >>> human_bytes(536870912), human_bytes(22977839104), human_bytes(900), human_bytes(None)
    ('512 MiB', '21.4 GiB', '900 B', '?')
    """
    if count is None:
        return "?"
    if abs(count) < 1024:
        return f"{count:.0f} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= 1024
        if abs(value) < 1023.95 or unit == "TiB":
            break
    if abs(value) >= 99.95 or value == int(value):
        return f"{value:.0f} {unit}"
    return f"{value:.1f} {unit}"


def human_seconds(seconds: float | None) -> str:
    """A duration.

    >>> human_seconds(4.31), human_seconds(41.2), human_seconds(187), human_seconds(7265), human_seconds(None)
    ('4.3 s', '41 s', '3 min 07 s', '2 h 01 min', '?')
    """
    if seconds is None:
        return "?"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def human_milliseconds(milliseconds: float | None) -> str:
    """A downtime: short ones matter to the millisecond.

    >>> human_milliseconds(81), human_milliseconds(2860), human_milliseconds(None)
    ('81 ms', '2.9 s', '?')
    """
    if milliseconds is None or milliseconds >= 999.5:
        return human_seconds(None if milliseconds is None else milliseconds / 1000)
    return f"{milliseconds:.0f} ms"


def listed(names: list[str], most: int = 3) -> str:
    """Names in a sentence, not too many of them.

    >>> listed(["h1"]), listed(["h1", "h2"]), listed(["h1", "h2", "h3", "h4", "h5"])
    ('h1', 'h1 and h2', 'h1, h2, h3 and 2 more')
    """
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def whole_number(text: str | None) -> int | None:
    """The number in a text of decimal digits; None for anything else, so that one odd value hides nothing more.

    >>> whole_number(" 12 "), whole_number("-1"), whole_number("\u00b2"), whole_number(None)
    (12, None, None, None)
    """
    number = (text or "").strip()
    return int(number) if number.isdecimal() and len(number) <= _MOST_DIGITS else None
