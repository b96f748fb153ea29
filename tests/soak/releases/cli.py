# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do a newcomer's steps on each release, and say how that went."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools import results

from harness.session import ended_like_ctrl_c, unhurried
from lab.common.command import run
from lab.common.errors import LabError
from lab.common.settings import from_environment
from lab.machine import prerequisites

from . import steps
from .root import Entered, Root, place_of

RELEASES = ("bookworm", "trixie")
CHECKOUT = Path(__file__).resolve().parents[3]
LOGS = CHECKOUT / "build" / "logs"
#: In the root: what Git takes for the README's address.
REPOSITORY = "srv/cluster.git"
INTERRUPTED = 130
LAST_LINES = 20


class Report:
    """The steps that have ended, told as they end."""

    def __init__(self) -> None:
        self.results: list[results.Result] = []

    def passed(self, release: str) -> list[str]:
        """Return the steps of a release that passed."""
        names = [result.name for result in self.results if result.outcome == "passed"]
        return [name.removeprefix(f"{release}: ") for name in names if name.startswith(f"{release}: ")]

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Tell a step; it passes unless it raises LabError, which ends here."""
        print(f"{name:<32} ", end="", flush=True)
        began = time.monotonic()
        outcome, why = "passed", ""
        try:
            yield
        except LabError as error:
            outcome, why = "failed", str(error)
        except BaseException:
            print("interrupted", flush=True)
            raise
        seconds = time.monotonic() - began
        self.results.append(results.Result(name, seconds, outcome))
        print(f"{'ok' if outcome == 'passed' else 'FAILED':<7} {seconds:5.0f} s", flush=True)
        if why:
            print(why, flush=True)

    def skip(self, name: str, why: str) -> None:
        """Tell a step that cannot be done."""
        self.results.append(results.Result(name, outcome="skipped"))
        print(f"{name:<32} skipped: {why}", flush=True)

    def write(self, file: Path) -> None:
        """Write a JUnit file."""
        suite = ET.Element("testsuite")
        for one in self.results:
            case = ET.SubElement(suite, "testcase", classname="releases", name=one.name, time=f"{one.seconds:.1f}")
            if one.outcome != "passed":
                ET.SubElement(case, {"failed": "failure", "skipped": "skipped"}[one.outcome])
        file.parent.mkdir(parents=True, exist_ok=True)
        ET.ElementTree(suite).write(file, encoding="utf-8")


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Keep a second run away from the same roots."""
    with (place / "lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("another run of this is at work", "Wait for its end, then try again.") from None
        yield


def copy_checkout(root: Path) -> None:
    """Put the last commit of this checkout where Git in the root finds it under the README's address."""
    trust = root / "root/trust"
    # Under sudo, the checkout belongs to another user; its Git would refuse.
    trust.write_text("[safe]\n\tdirectory = *\n", encoding="ascii")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": str(trust)}
    run(["git", "clone", "--bare", "--quiet", CHECKOUT, root / REPOSITORY], environment=environment)
    trust.unlink()
    instead = f'[url "file:///{REPOSITORY}"]\n\tinsteadOf = {steps.ADDRESS}\n'
    (root / "root/.gitconfig").write_text(instead, encoding="ascii")


def carry_out(entered: Entered, release: str, step: steps.Step) -> None:
    """Do a step in an entered root; raise LabError if it fails."""
    log = LOGS / f"releases-{release}-{step.name.replace(' ', '-')}.log"
    status = entered.run(step.command, step.folder, log, step.limit_s)
    if status == 0:
        return
    ended = f"no end after {step.limit_s:g} s" if status is None else f"exit status {status}"
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    raise LabError("\n".join([f"  {ended}: {step.command}", *(f"  | {line}" for line in last)]), f"  All output: {log}")


def do_release(root: Root, newcomer: Sequence[steps.Step], report: Report) -> None:
    """Do all steps in a fresh root of one release, and remove it; first, whatever a killed run left."""
    release = root.release
    root.remove()
    try:
        with report.step(f"{release}: fresh root"):
            root.make()
            copy_checkout(root.folder)
        if "fresh root" in report.passed(release):
            with root.entered() as entered:
                for step in newcomer:
                    missing = steps.missing(step, report.passed(release))
                    if missing:
                        report.skip(f"{release}: {step.name}", f"{', '.join(missing)} failed")
                        continue
                    with report.step(f"{release}: {step.name}"):
                        carry_out(entered, release, step)
    finally:
        with unhurried(), report.step(f"{release}: removed"):
            root.remove()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="soak.releases", description=__doc__)
    parser.add_argument("--release", action="append", choices=RELEASES, help="only this one (may be repeated)")
    parser.add_argument("--junit-xml", type=Path, metavar="FILE", help="write the steps as tests into this file")
    return parser


def _say_what_is_not_tested() -> None:
    changed = run(["git", "-c", f"safe.directory={CHECKOUT}", "-C", CHECKOUT, "status", "--porcelain"]).stdout
    if changed:
        print(f"Not tested, because they are not committed: {len(changed.splitlines())} changed files.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all steps passed on all releases."""
    options = _parser().parse_args(arguments)
    report = Report()
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        newcomer = steps.of_newcomer((CHECKOUT / "README.md").read_text(encoding="utf-8"))
        prerequisites.check_root()
        settings = from_environment()
        prerequisites.ensure_packages(lambda line: print(f"lab: {line}"))
        _say_what_is_not_tested()
        with ended_like_ctrl_c(), alone(place_of(settings)):
            for release in options.release or RELEASES:
                do_release(Root(settings, release), newcomer, report)
    except (LabError, steps.ReadmeError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    if options.junit_xml:
        report.write(options.junit_xml)
    passed, failed, skipped = results.count(report.results)
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed and not skipped else 1
