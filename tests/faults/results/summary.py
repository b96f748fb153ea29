# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results as tables for people: Markdown, and JUnit."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence

from faults.plan.cases import Case
from faults.plan.phases import PHASES

from .record import VERDICTS, Result

Last = Mapping[tuple[str, int], Result]
#: A whole playbook may be printed in a complaint.
MOST_WHY = 300
_FOLDERS = re.compile(r"(?:/[^\s/]+)+/(?=build/|\.venv/)")
BEGIN, END = "<!-- faults: written by make faults-table -->", "<!-- end of faults -->"


def totals(cases: Sequence[Case], last: Last) -> Counter[str]:
    """Count the runs of these cases by verdict; C(open) are those that were never tried."""
    counted: Counter[str] = Counter()
    for case in cases:
        for number in range(1, case.times + 1):
            found = last.get((case.name, number))
            counted[found.verdict if found else "open"] += 1
    return counted


def combinations(cases: Sequence[Case], last: Last) -> int:
    """Return how many cases were tried at least once."""
    return sum(any((case.name, number) in last for number in range(1, case.times + 1)) for case in cases)


def table(cases: Sequence[Case], last: Last) -> list[str]:
    """Return the table of faults and phases: runs that passed, of those that were made."""
    met = {case.phase.name for case in cases}
    phases = [phase.name for phase in PHASES if phase.name in met]
    faults = list(dict.fromkeys(case.fault.name for case in sorted(cases, key=lambda case: case.fault.name)))
    by_place = {(case.fault.name, case.phase.name): case for case in cases}
    lines = ["| fault | " + " | ".join(phases) + " |", "|---" * (len(phases) + 1) + "|"]
    for fault in faults:
        cells = [_cell(by_place.get((fault, phase)), last) for phase in phases]
        lines.append(f"| {fault} | " + " | ".join(cells) + " |")
    return lines


def _cell(case: Case | None, last: Last) -> str:
    if case is None:
        return ""
    found = [last[case.name, number] for number in range(1, case.times + 1) if (case.name, number) in last]
    if not found:
        return "–"
    passed = sum(one.verdict == "passed" for one in found)
    return f"{passed}/{len(found)}" if passed == len(found) else f"**{passed}/{len(found)}**"


def failures(cases: Sequence[Case], last: Last) -> list[str]:
    """Return a list entry for each run that did not pass, with what was wrong."""
    lines = []
    for case in cases:
        for number in range(1, case.times + 1):
            one = last.get((case.name, number))
            if one and one.verdict != "passed":
                why = "; ".join([*one.complaints, *filter(None, [one.note])])
                lines.append(f"- {case.name} ({number}): {one.verdict}: {_short(why)}")
    return lines


def _short(why: str) -> str:
    """Return the beginning of what was wrong, without the folders of the machine that it was tried on."""
    told = _FOLDERS.sub("", why)
    return told if len(told) <= MOST_WHY else f"{told[:MOST_WHY]} …"


def in_words(cases: Sequence[Case], last: Last) -> list[str]:
    """Return the figures in sentences."""
    counted = totals(cases, last)
    made = sum(counted[verdict] for verdict in VERDICTS)
    figures = ", ".join(f"{counted[verdict]} {verdict}" for verdict in VERDICTS)
    remedies = [remedy for one in last.values() for remedy in one.remedies]
    helped = sum(remedy.endswith(": 0") for remedy in remedies)
    return [
        f"{combinations(cases, last)} of {len(cases)} combinations were tried, in {made} runs: {figures}.",
        f"{len(remedies)} printed remedies were carried out; {helped} of them ended with exit status 0.",
    ]


def page_part(cases: Sequence[Case], last: Last) -> str:
    """Return the part of the page that is written by a command."""
    told = failures(cases, last)
    lines = [BEGIN, "", *in_words(cases, last), "", *table(cases, last), ""]
    if told:
        lines += ["What did not pass:", "", *told, ""]
    return "\n".join([*lines, END])


def replaced(page: str, part: str) -> str:
    """Return a page with its written part replaced.

    Raises: ValueError if the page has no such part.
    """
    begin, end = page.index(BEGIN), page.index(END) + len(END)
    return page[:begin] + part + page[end:]


def junit(results: Sequence[Result]) -> ET.ElementTree[ET.Element]:
    """Return results as tests."""
    suite = ET.Element("testsuite")
    for one in results:
        case = ET.SubElement(
            suite, "testcase", classname="faults", name=f"{one.case} {one.number}", time=f"{one.seconds}"
        )
        if one.verdict != "passed":
            ET.SubElement(case, "failure", message="; ".join([one.verdict, *one.complaints, one.note]))
    return ET.ElementTree(suite)
