# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab for as long as it is needed."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from lab import Lab, LabError, take_down

from .meter import METER

#: Numbers that neither people nor workers (side_by_side.py) are likely to have.
BESIDE = range(11, 7, -1)


def is_up() -> bool:
    """Return whether a lab is up already."""
    try:
        Lab.load()
    except LabError:
        return False
    return True


def say(line: str) -> None:
    """Print a line of the lab's own progress."""
    print(f"lab: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def lab_for(scenario: Path, *, inventory: Path | None = None, keep: bool = False) -> Iterator[Lab]:
    """Bring a lab up, and take it down at the end, however that comes about, unless it is to be kept."""
    with ended_like_ctrl_c():
        try:
            # The first lab on a machine makes the images of its hosts, which is no test's work.
            with METER.apart():
                lab = Lab.up(scenario, inventory_path=inventory, say=say)
            yield lab
        finally:
            if not keep:
                with unhurried():
                    say("taking it down")
                    take_down()


@contextlib.contextmanager
def lab_beside(scenario: Path) -> Iterator[Lab]:
    """Bring up a lab for one test only, beside any that is up: for hosts that nobody can work with afterwards."""
    before = {name: os.environ.pop(name, None) for name in ("KVMOPS_LAB_INSTANCE", "KVMOPS_LAB_STATE")}
    try:
        for number in (before["KVMOPS_LAB_INSTANCE"] or "0", *map(str, BESIDE)):
            os.environ["KVMOPS_LAB_INSTANCE"] = number
            if not is_up():
                break
        else:
            raise LabError("so many labs are up that there is no number for one more", "Take one down.")
        with lab_for(scenario) as lab:
            yield lab
    finally:
        os.environ.update({name: value for name, value in before.items() if value is not None})
        if before["KVMOPS_LAB_INSTANCE"] is None:
            os.environ.pop("KVMOPS_LAB_INSTANCE", None)


@contextlib.contextmanager
def ended_like_ctrl_c() -> Iterator[None]:
    """Let a request to terminate unwind everything, as an interrupt does."""

    def unwind(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, unwind) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Clean up in peace: a second Ctrl-C must not leave half a lab behind."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
