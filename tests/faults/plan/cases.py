# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cases: each fault in each phase that it meets, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .faults import ANY_SECOND, FAULTS, Expect, Fault
from .phases import Phase, phase


@dataclass(frozen=True)
class Case:
    """One fault in one phase."""

    fault: Fault
    phase: Phase

    @property
    def name(self) -> str:
        """The name in results and on the command line."""
        return f"{self.fault.name} @ {self.phase.name}"

    @property
    def times(self) -> int:
        """How often it runs."""
        return max(self.fault.times, self.phase.times)

    @property
    def expect(self) -> Expect:
        """What the operator is told."""
        return self.fault.expected(self.phase.name)


def all_cases(faults: Iterable[Fault] = (*FAULTS, ANY_SECOND), *, more: bool = True) -> list[Case]:
    """Return all cases: first one phase of every fault, then its next one, and so on.

    Args:
        faults: of which.
        more: those too that tell less.
    """
    rows = [[Case(fault, phase(name)) for name in (*fault.phases, *(fault.more if more else ()))] for fault in faults]
    longest = max(len(row) for row in rows)
    return [row[column] for column in range(longest) for row in rows if column < len(row)]


def runs(cases: Sequence[Case]) -> list[tuple[Case, int]]:
    """Return each case with the number of its run: all of them once, then those a second time that run more often."""
    most = max((case.times for case in cases), default=0)
    return [(case, number) for number in range(1, most + 1) for case in cases if number <= case.times]


def left(wanted: Sequence[tuple[Case, int]], verdicts: Mapping[tuple[str, int], str]) -> list[tuple[Case, int]]:
    """Return the runs that have not passed: those that were never tried come first."""
    untried = [run for run in wanted if key(run) not in verdicts]
    return untried + [run for run in wanted if verdicts.get(key(run), "passed") != "passed"]


def key(run: tuple[Case, int]) -> tuple[str, int]:
    """What names a run in the results."""
    return run[0].name, run[1]
