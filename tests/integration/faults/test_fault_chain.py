# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Five faults of the matrix (tests/faults) in one drain, and the check that it makes after each of its cases."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from faults.act.chain import ChainRun
from faults.plan.cases import Case
from faults.plan.faults import FAULTS
from faults.plan.phases import phase
from lab import Lab

#: Fast enough for seven moves and their tries in a minute, and slow enough for each to be met in its first pass.
LINK_MBIT = 200
LASTS_S = 3.0
STRIKES = (
    "destination's libvirtd killed",
    "link reset for 12 s",
    "second controller",
    "destination's QEMU killed",
    "controller killed",
)


@pytest.mark.soak
def test_five_faults_in_one_drain_lose_nobody_and_the_same_command_finishes_it(lab: Lab, tmp_path: Path) -> None:
    faults = {fault.name: fault for fault in FAULTS}
    first_pass = dataclasses.replace(phase("first pass"), link_mbit=LINK_MBIT)
    cases = [Case(faults[name], first_pass) for name in STRIKES]
    result = ChainRun(lab, cases, tmp_path, LASTS_S).run()
    assert result.verdict == "passed", result
    assert [one for one in result.remedies if one.startswith("again: ")][-1] == "again: 0"
