# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sites with a line between them, and for each file the guests of its scenario.

All scenarios here have the same hosts, so that one lab serves all files: to replace guests takes seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.operator import Operator
from harness.session import lab_beside
from lab import Lab, LabError

HERE = Path(__file__).parent
SCENARIO = HERE / "capsules.yml"
STORE = "/var/lib/libvirt/capsules"
FORGET = (STORE, "/var/lib/kvmops", "/run/kvmops", "/var/lib/libvirt/images/*")


class OneLab:
    """The lab of this folder. It comes up for the first test, and goes after the last one."""

    def __init__(self) -> None:
        self._end = contextlib.ExitStack()
        self._lab: Lab | None = None

    def with_guests_of(self, scenario: Path) -> Lab:
        """Return the lab with the guests and the line of a scenario, and nothing that other tests have left."""
        if self._lab is None:
            self._lab = self._end.enter_context(lab_beside(scenario))
        else:
            self._lab = self._changed(self._lab, scenario)
        self._lab.fault.mend_line()
        return self._lab

    def _changed(self, lab: Lab, scenario: Path) -> Lab:
        try:
            return lab.reset(scenario, forget=FORGET)
        except LabError:
            # It has other hosts.
            return Lab.up(scenario)

    def close(self) -> None:
        """Take it down."""
        self._lab = None
        self._end.close()


ONE = OneLab()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Take the lab down before tests of other folders begin."""
    try:
        return (yield)
    finally:
        if nextitem is None or not nextitem.path.is_relative_to(HERE):
            ONE.close()


@pytest.fixture(scope="session")
def lab_with() -> Iterator[Callable[[Path], Lab]]:
    """The lab with the guests of a scenario."""
    try:
        yield ONE.with_guests_of
    finally:
        ONE.close()


@pytest.fixture(scope="module")
def sites(lab_with: Callable[[Path], Lab]) -> Lab:
    """The two sites, for all tests of a file."""
    return lab_with(SCENARIO)


@pytest.fixture
def lab(sites: Lab) -> Lab:
    """The sites with a whole line."""
    sites.fault.mend_line()
    return sites


@pytest.fixture
def operator(sites: Lab, tmp_path: Path) -> Iterator[Operator]:
    """Alice, with an inventory of both sites."""
    alice = Operator(sites, tmp_path)
    yield alice
    alice.leave()
