# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results so far, as lines of JSON in a file, so that the matrix goes on where it was stopped."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

#: Passed; something is not as it must be; the fault came when the phase was over; the lab itself broke.
VERDICTS = ("passed", "failed", "missed", "broken")


@dataclass(frozen=True)
class Result:
    """What came of one run of one case.

    Attributes:
        case, number: which run.
        verdict: one of L(VERDICTS).
        complaints: what is not as it must be.
        at: when it began.
        seconds: how long it took, with putting the lab in order.
        status: of the first playbook; None if it was killed.
        remedies: what was done of that which was printed, with the exit status of each.
        note: why it was missed.
        tree: the name of the content that was tested.
    """

    case: str
    number: int
    verdict: str
    complaints: list[str] = field(default_factory=list)
    at: str = ""
    seconds: float = 0.0
    status: int | None = None
    remedies: list[str] = field(default_factory=list)
    note: str = ""
    tree: str = ""


def read(file: Path) -> list[Result]:
    """Return all results of a file, the oldest first. A line that was cut off is left out."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [result for result in map(_parsed, lines) if result]


def _parsed(line: str) -> Result | None:
    try:
        return Result(**json.loads(line))
    except (ValueError, TypeError):
        return None


def append(file: Path, result: Result) -> None:
    """Add a result."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(dataclasses.asdict(result)) + "\n")


def last(results: Iterable[Result], tree: str | None = None) -> dict[tuple[str, int], Result]:
    """Return the last result of each run, of one content or of all."""
    return {(one.case, one.number): one for one in results if tree in (None, one.tree)}
