# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run stages of the proof, all of them even if one fails.

stages.py STAGE[+STAGE...]...     each stage is a target of the Makefile; those joined by "+" run side by side

It prints how long each stage took and the slowest tests. The last line says how many tests ran; the exit status says
whether everything was well.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock

from tools import results

JUNIT = Path(os.environ.get("JUNIT", "build/junit"))
#: Texts of stages that end at once shall not mix.
ONE_WRITER = Lock()


@dataclass(frozen=True)
class Ended:
    """A stage that has ended."""

    stage: str
    ok: bool
    seconds: float

    @property
    def line(self) -> str:
        """The stage in one line.

        >>> Ended("units", False, 61.4).line
        'units          FAILED    61 s'
        """
        return f"{self.stage:<14} {'ok' if self.ok else 'FAILED':<7} {self.seconds:4.0f} s"


Run = Callable[[str, bool], bool]


def make(stage: str, alone: bool) -> bool:
    """Run one target of the Makefile; return whether it was well.

    A stage that runs alone prints as it goes; what one beside others prints is shown at its end.
    """
    command = ["make", "--no-print-directory", stage]
    title = f"\n== make {stage}\n"
    if alone:
        print(title, end="", flush=True)
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    with ONE_WRITER:
        sys.stdout.buffer.write(title.encode() + done.stdout)
        sys.stdout.flush()
    return done.returncode == 0


def timed(stage: str, alone: bool, run: Run) -> Ended:
    """Run one stage and say how long it took."""
    began = time.monotonic()
    ok = run(stage, alone)
    return Ended(stage, ok, time.monotonic() - began)


def run_all(groups: Iterable[str], run: Run = make, at_once: int = 2) -> list[Ended]:
    """Run groups of stages, one group after the other; return what became of each stage, in the order given."""
    ended: list[Ended] = []
    for group in groups:
        stages = group.split("+")
        with ThreadPoolExecutor(max_workers=min(at_once, len(stages))) as pool:
            ended += pool.map(partial(timed, alone=len(stages) == 1, run=run), stages)
    return ended


def main(groups: Sequence[str]) -> int:
    """Run what was named, print the figures, and return the exit status."""
    shutil.rmtree(JUNIT, ignore_errors=True)
    JUNIT.mkdir(parents=True)
    began = time.monotonic()
    # One more than there are processors: some unit tests wait, and pip does.
    ended = run_all(groups, at_once=(os.cpu_count() or 1) + 1)
    tests = results.read(JUNIT)
    print("", *(stage.line for stage in ended), f"{'total':<22} {time.monotonic() - began:4.0f} s", sep="\n")
    return results.tell(tests, failed=[stage.stage for stage in ended if not stage.ok])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
