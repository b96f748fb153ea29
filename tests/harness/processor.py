# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write into the JUnit file how much processor time each test took (pytest -p harness.processor).

This process counts, and each child that it has waited for: pytest itself, and Ansible with all that it starts here. The
hosts of the lab are children of nobody here, so that emulated guests do not count. What a fixture does for the whole
session counts for no test: it does so within `METER.apart`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .meter import METER

#: Marks that say how long a test may take (tests/tools/results.py).
MARKS = ("soak", "long")
BEGAN = pytest.StashKey[float]()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Note when a test begins, before its fixtures do."""
    item.stash[BEGAN] = METER.read()
    return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Note what a test took when all its fixtures are done, in time for the last of its reports."""
    try:
        return (yield)
    finally:
        marks = " ".join(mark for mark in MARKS if item.get_closest_marker(mark))
        item.user_properties += [("processor_s", f"{METER.read() - item.stash[BEGAN]:.1f}"), ("marks", marks)]
