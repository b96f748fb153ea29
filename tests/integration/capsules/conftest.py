# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sites, a guest at one of them, and capsules of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.operator import Operator
from harness.session import lab_beside
from lab import Lab

SCENARIO = Path(__file__).with_name("capsules.yml")
STORE = "/var/lib/libvirt/capsules"
FORGET = (STORE, "/var/lib/kvmops", "/run/kvmops")


@pytest.fixture(scope="module")
def sites() -> Iterator[Lab]:
    """The two sites, for all tests of a file."""
    with lab_beside(SCENARIO) as lab:
        yield lab


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
