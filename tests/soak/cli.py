# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the parts of the long proof, and go on where an earlier run was stopped."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import results

from harness.session import ended_like_ctrl_c, unhurried

from .parts import PARTS, Part
from .progress import Progress, tree_of

CHECKOUT = Path(__file__).resolve().parents[2]
FOLDER = CHECKOUT / "build" / "soak"
INTERRUPTED = 130

#: Runs a part, with a folder for its JUnit files; returns whether it passed.
Run = Callable[[Part, Path], bool]


@dataclass(frozen=True)
class Ended:
    """A part that has ended, now or in an earlier run."""

    part: Part
    verdict: str
    seconds: float | None = None

    @property
    def line(self) -> str:
        """The part in one line."""
        took = "" if self.seconds is None else f"{self.seconds:6.0f} s"
        return f"{self.part.name:<14} {self.verdict:<14} {took}".rstrip()


def carry_out(part: Part, junit: Path) -> bool:
    """Run a part as often as it asks for; return whether it passed each time."""
    for number in range(1, part.times + 1):
        if part.times > 1:
            print(f"soak: {part.name}: {number} of {part.times}", flush=True)
        folder = junit / str(number)
        folder.mkdir(parents=True)
        mine = {**os.environ, "JUNIT": str(folder)}
        if run_to_its_end(part.command, mine):
            return False
    return True


def run_to_its_end(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command and return its exit status; if this run is ended, end the command first and wait for it.

    The command and all that it starts are one group: `make` does not pass a request to terminate on to its programs,
    and a lab whose program is not told stays up.
    """
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdin=subprocess.DEVNULL, process_group=0)
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGTERM)
        with unhurried():
            process.wait()
        raise


def tests_in(junit: Path) -> list[results.Result]:
    """Return the tests of all runs of a part."""
    return [test for folder in sorted(junit.glob("*/")) for test in results.read(folder)]


def count_as_test(part: Part, junit: Path, *, ok: bool, seconds: float) -> None:
    """Let a part count as one test if it has none itself, or if it failed and none of its tests did."""
    found = tests_in(junit)
    if found and (ok or results.count(found)[1]):
        return
    suite = ET.Element("testsuite")
    case = ET.SubElement(suite, "testcase", classname="soak", name=part.name, time=f"{seconds:.1f}")
    if not ok:
        ET.SubElement(case, "failure", message=f"{' '.join(part.command)} failed")
    folder = junit / "whole"
    folder.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(suite).write(folder / "part.xml", encoding="utf-8")


def run_parts(parts: Sequence[Part], progress: Progress, folder: Path, run: Run = carry_out) -> list[Ended]:
    """Run all parts that have not passed yet, also after one has failed."""
    ended = []
    for number, part in enumerate(parts, start=1):
        if part.name in progress.passed():
            ended.append(Ended(part, "passed before"))
            continue
        print(f"\n== {number} of {len(parts)}: {part.name}, about {part.minutes:g} minutes\n{part.purpose}", flush=True)
        junit = folder / part.name
        shutil.rmtree(junit, ignore_errors=True)
        junit.mkdir(parents=True)
        began = time.monotonic()
        ok = run(part, junit)
        seconds = time.monotonic() - began
        count_as_test(part, junit, ok=ok, seconds=seconds)
        progress.note(part.name, ok=ok)
        ended.append(Ended(part, "passed" if ok else "FAILED", seconds))
        print(f"\n{ended[-1].line}", flush=True)
    return ended


def chosen(name: str | None) -> list[Part]:
    """Return the parts to run: the one with this name, or all."""
    return [part for part in PARTS if name in (None, part.name)]


def _parser() -> argparse.ArgumentParser:
    table = "\n".join(f"  {part.name:<12} {part.minutes:3g} min  {part.purpose}" for part in PARTS)
    parser = argparse.ArgumentParser(
        prog="soak",
        description="Run the tests that take too long for `make test`.",
        epilog=f"parts:\n{table}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=[part.name for part in PARTS], help="one part (default: all)")
    parser.add_argument("--again", action="store_true", help="also run parts that have passed before")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all parts that were asked for have passed, now or before with the same content."""
    options = _parser().parse_args(arguments)
    parts = chosen(options.name)
    progress = Progress(FOLDER / "passed.json", tree_of(CHECKOUT))
    if options.again:
        for part in parts:
            progress.note(part.name, ok=False)
    try:
        with ended_like_ctrl_c():
            ended = run_parts(parts, progress, FOLDER)
    except KeyboardInterrupt:
        print("\nsoak: stopped. The same command continues with the part that was stopped.", file=sys.stderr)
        return INTERRUPTED
    print("", *(one.line for one in ended), sep="\n")
    tests = [test for part in parts for test in tests_in(FOLDER / part.name)]
    return results.tell(tests, failed=[one.part.name for one in ended if one.verdict == "FAILED"])
