# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Sets of numbers as libvirt and the kernel write them: ``0-3,8``."""

from __future__ import annotations

import re
import typing as t

#: The kernel's largest number of CPUs (CONFIG_NR_CPUS of x86_64 is 8192 at most). Larger numbers are no CPUs.
MOST_CPUS = 8192

_PART = re.compile(r"(\^?)(\d{1,5})(?:-(\d{1,5}))?")


def parsed(text: str | None) -> frozenset[int]:
    """The numbers in a text such as ``0-3,^2,8``; empty if it cannot be read.

    >>> sorted(parsed("0-3,^2,8")), sorted(parsed("none")), sorted(parsed(None))
    ([0, 1, 3, 8], [], [])
    """
    found: set[int] = set()
    for part in (text or "").replace(" ", "").split(","):
        match = _PART.fullmatch(part)
        if match is None:
            return frozenset()
        first = int(match[2])
        last = min(int(match[3] or first), MOST_CPUS)
        numbers = range(first, last + 1)
        if match[1]:
            found.difference_update(numbers)
        else:
            found.update(numbers)
    return frozenset(found)


def shown(numbers: t.Iterable[int]) -> str:
    """The shortest text for these numbers.

    >>> shown({0, 1, 2, 8}), shown([])
    ('0-2,8', '')
    """
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
