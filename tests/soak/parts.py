# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make soak` runs: the table of its parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One part of the long proof.

    Attributes:
        name: what `make soak NAME=` takes.
        purpose: what it shows, in one line.
        minutes: how long it takes on two quiet cores, roughly.
        command: a program with its arguments; exit status 0 means that all is well. Tests write their JUnit files into
            the folder that the variable JUNIT names.
        times: how often it runs; it passes if it passes each time.
    """

    name: str
    purpose: str
    minutes: float
    command: tuple[str, ...]
    times: int = 1


def _make(*words: str) -> tuple[str, ...]:
    return ("make", "--no-print-directory", *words)


def _integration(*tests: str, select: str = "") -> tuple[str, ...]:
    """The tests of some files that are marked `soak`."""
    chosen = f" -k '{select}'" if select else ""
    return _make("integration", f"TESTS={' '.join(tests)}", f"ARGS=-m soak{chosen}")


PARTS = (
    Part("units", "The unit tests that run whole playbooks.", 3, _make("units", "ARGS=-m soak")),
    Part(
        "fuzz", "Thousands of broken documents and definitions for everything that reads one.", 60, _make("units-fuzz")
    ),
    Part("recover", "Post-copy that is cut, and resumed.", 25, _integration("tests/integration/recover")),
    Part(
        "faults",
        "Each fault in each phase of a move (docs/reliability.md); goes on with the case where it was stopped.",
        240,
        _make("faults"),
    ),
    Part(
        "upgrade",
        "A rolling upgrade of three hosts: one fails, one run is killed, the next one takes over.",
        9,
        _integration("tests/integration/test_rolling_upgrade.py"),
    ),
    Part(
        "integration",
        "All other integration tests that take long.",
        30,
        _integration(
            "tests/integration",
            select=(
                "not test_recover and not test_faults and not test_rolling_upgrade and not test_interrupt"
                " and not capsules and not test_observe"
            ),
        ),
    ),
    Part(
        "observe",
        "Three hosts measure sixty times by a timer and move nobody; Prometheus scrapes them.",
        20,
        _integration("tests/integration/observe"),
    ),
    Part(
        "capsule-faults",
        "Each fault while a capsule is sent, or while a disk follows its guest; capsules that must not be used.",
        75,
        _make("integration", "TESTS=tests/integration/capsules", "ARGS=-m ''"),
    ),
    Part(
        "lab",
        "The faults that the lab and its line can make, and a lab that is killed while it starts.",
        8,
        _integration("tests/lab/tests"),
    ),
    Part(
        "interrupt",
        "Tests that depend on timing, three times: a killed controller, a killed job, Ctrl-C.",
        16,
        _make("integration", "TESTS=tests/integration/test_interrupt.py", "ARGS=-m ''"),
        times=3,
    ),
    Part(
        "overhead",
        "A drain by playbook takes at most three times as long as a loop of virsh migrate.",
        4,
        _make("bench", "NAME=overhead", "ARGS=--max-ratio 3"),
    ),
    Part(
        "releases",
        "A minimal Debian 12 and 13: the tests, the demo, and an installation from Git.",
        25,
        _make("releases"),
    ),
)
