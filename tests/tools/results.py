# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read the JUnit files of a folder: the slowest tests, those that take too much, and how many there were."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: How many of the slowest tests are printed.
SLOWEST = 15
#: Seconds of processor time that an integration test may take in pytest and Ansible, unless it is marked.
PROCESSOR_LIMIT_S = 60.0
#: A test with one of these marks may take more.
UNLIMITED = frozenset({"soak", "long"})
#: How many tests may be marked `long`.
MOST_LONG = 3


@dataclass(frozen=True)
class Result:
    """One test as a JUnit file tells it.

    Attributes:
        name: the module and the test, with its parameters.
        seconds: how long it took with its fixtures, by the clock.
        outcome: "passed", "failed" (an error is a failure) or "skipped".
        processor_s: processor time of pytest and Ansible; None where it was not measured (harness/processor.py).
        marks: those marks of the test that say how long it may take.
    """

    name: str
    seconds: float = 0.0
    outcome: str = "passed"
    processor_s: float | None = None
    marks: frozenset[str] = frozenset()


def read(folder: Path) -> list[Result]:
    """Return all tests of all files of a folder.

    A file that cannot be read was cut off while it was written: that is a failure.
    """
    found: list[Result] = []
    for file in sorted(folder.glob("*.xml")):
        try:
            cases = list(ET.parse(file).getroot().iter("testcase"))
        except ET.ParseError:
            found.append(Result(f"{file.name} (cut off)", outcome="failed"))
            continue
        found += [_test(file.stem, case) for case in cases]
    return found


def _test(stage: str, case: ET.Element) -> Result:
    properties = {one.get("name"): one.get("value", "") for one in case.iter("property")}
    failed = case.find("failure") is not None or case.find("error") is not None
    skipped = case.find("skipped") is not None
    processor = properties.get("processor_s")
    return Result(
        name=f"{stage}: {case.get('classname', '')}::{case.get('name', '')}",
        seconds=float(case.get("time", 0)),
        outcome="failed" if failed else "skipped" if skipped else "passed",
        processor_s=float(processor) if processor else None,
        marks=frozenset(properties.get("marks", "").split()),
    )


def too_much(tests: Iterable[Result], limit_s: float = PROCESSOR_LIMIT_S) -> list[str]:
    """Return a sentence for each test that takes more processor time than it may, and one if too many may.

    The clock is no measure: it goes on while other work has the processor.
    """
    told = []
    long = set()
    for test in tests:
        if "long" in test.marks:
            long.add(test.name)
        if test.processor_s is not None and test.processor_s > limit_s and not test.marks & UNLIMITED:
            told.append(
                f"{test.name} took {test.processor_s:.0f} s of processor time, more than {limit_s:.0f} s:"
                " do less in it, or mark it soak."
            )
    if len(long) > MOST_LONG:
        told.append(f"{len(long)} tests are marked long, more than {MOST_LONG}: {', '.join(sorted(long))}.")
    return told


def slowest(tests: Iterable[Result], number: int = SLOWEST) -> list[Result]:
    """Return the tests that took the longest, the slowest first."""
    return sorted(tests, key=lambda test: -test.seconds)[:number]


def count(tests: Sequence[Result]) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped."""
    passed, failed, skipped = (
        sum(test.outcome == outcome for test in tests) for outcome in ("passed", "failed", "skipped")
    )
    return passed, failed, skipped


def tell(tests: Sequence[Result], failed: Sequence[str] = ()) -> int:
    """Print the slowest tests, what is wrong, and the last line; return the exit status.

    Args:
        failed: stages that failed, also without a test that did.
    """
    print("\nSlowest tests:")
    for test in slowest(tests):
        processor = "" if test.processor_s is None else f"  ({test.processor_s:.1f} s of processor time)"
        print(f"{test.seconds:7.1f} s  {test.name}{processor}")
    print()
    excess = too_much(tests)
    for sentence in excess:
        print(sentence)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    passed, failures, skipped = count(tests)
    print(f"{passed} passed, {failures} failed, {skipped} skipped")
    return 0 if passed and not (failures or excess or failed) else 1
