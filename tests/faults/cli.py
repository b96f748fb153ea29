# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fault matrix from the command line: goes on where it was stopped, and writes the table."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.ansible import CHECKOUT
from harness.postcopy_permission import postcopy_permitted
from harness.session import is_up, lab_for
from harness.tidy import mend
from lab import Lab, LabError
from soak.progress import tree_of

from .act.case_run import run_case
from .plan.cases import Case, all_cases, key, left, runs
from .results import record, summary

FOLDER = CHECKOUT / "build" / "faults"
SCENARIO = Path(__file__).with_name("lab.yml")
PAGE = CHECKOUT / "docs" / "reliability.md"
INTERRUPTED = 130
#: A fault that came too late is tried so often in all.
TRIES = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all cases that were asked for have passed, now or before with the same content."""
    options = _parser().parse_args(arguments)
    more = options.all or bool(options.only)
    cases = [case for case in all_cases(more=more) if re.search(options.only, case.name)]
    file = FOLDER / "results.jsonl"
    if options.list:
        print(*(f"{case.name} (x{case.times})" for case in cases), sep="\n")
        return 0
    if options.again and file.exists():
        file.unlink()
    tree = None if options.any_content else tree_of(CHECKOUT)
    if not options.write:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        try:
            _run(cases, file, tree, options.times)
        except KeyboardInterrupt:
            print("\nfaults: stopped. The same command goes on with the case that was stopped.", file=sys.stderr)
            return INTERRUPTED
    return _tell(cases, file, tree, write=options.write)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="faults", description="Strike a drain with each fault in each phase.")
    parser.add_argument(
        "--only", default="", metavar="REGEX", help="only the cases whose names match, as --list has them"
    )
    parser.add_argument("--all", action="store_true", help="also the cases that tell less (with --only: always)")
    parser.add_argument("--list", action="store_true", help="show the cases, and run none")
    parser.add_argument("--again", action="store_true", help="forget all results, and begin anew")
    parser.add_argument("--times", type=int, default=0, help="how often each case runs at most")
    parser.add_argument(
        "--any-content", action="store_true", help="also count results of a checkout with other content"
    )
    parser.add_argument("--write", action="store_true", help="run nothing; write the table into docs/reliability.md")
    return parser


def _run(cases: Sequence[Case], file: Path, tree: str | None, times: int) -> None:
    wanted = [run for run in runs(cases) if not times or run[1] <= times]
    verdicts = {name: one.verdict for name, one in record.last(record.read(file), tree).items()}
    todo = left(wanted, verdicts)
    if not todo:
        return
    keep = is_up()
    if keep:
        mend(Lab.load())
    content = tree or tree_of(CHECKOUT)
    with postcopy_permitted(), lab_for(SCENARIO, keep=keep) as lab:
        for place, (case, number) in enumerate(todo, start=1):
            result = dataclasses.replace(_tried(lab, case, number), tree=content)
            record.append(file, result)
            told = "; ".join([*result.complaints, *filter(None, [result.note])])
            print(
                f"{place:4} of {len(todo)}  {result.verdict:<7} {result.seconds:5.0f} s  {case.name} ({number})  {told}"
            )
            if result.verdict == "broken":
                _rebuild(lab)


def _tried(lab: Lab, case: Case, number: int) -> record.Result:
    """Run a case; a fault that came when its phase was over is tried again."""
    for _try in range(TRIES):
        result = run_case(lab, case, number, FOLDER / "runs")
        if result.verdict != "missed":
            break
    return result


def _rebuild(lab: Lab) -> None:
    """Begin with new guests after a case that has broken the lab."""
    try:
        lab.reset(forget=["/var/lib/kvmops"])
    except LabError as error:
        print(f"faults: the lab cannot be put in order: {error.what}", file=sys.stderr)
        for host in lab.hosts.values():
            host.kill()
        Lab.up(SCENARIO)


def _tell(cases: Sequence[Case], file: Path, tree: str | None, *, write: bool) -> int:
    last = record.last(record.read(file), tree)
    if write:
        PAGE.write_text(
            summary.replaced(PAGE.read_text(encoding="utf-8"), summary.page_part(cases, last)), encoding="utf-8"
        )
    mine = [last[key(run)] for run in runs(cases) if key(run) in last]
    junit = os.environ.get("JUNIT")
    if junit and not write:
        Path(junit).mkdir(parents=True, exist_ok=True)
        summary.junit(mine).write(Path(junit) / "faults.xml", encoding="utf-8")
    print(
        "",
        *summary.in_words(cases, last),
        "",
        *summary.table(cases, last),
        "",
        *summary.failures(cases, last),
        sep="\n",
    )
    counted = summary.totals(cases, last)
    return 0 if counted.total() == counted["passed"] else 1
