# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real cluster for every test, and an operator who works on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.operator import Operator
from harness.session import is_up, lab_for
from harness.tidy import mend, tidy
from lab import Lab

SCENARIO = Path(__file__).with_name("lab.yml")
#: Hosts that only those tests know that ask for them: with three hosts, it is known beforehand who goes where.
SPARE = ("h4",)
#: How long guests are measured before they move, where a test is not about measuring. The default of the roles, 8 s, is
#: what test_drain.py and test_forecast.py work with.
QUICKLY = {
    f"{role}_measure_s": 2 for role in ("drain_host", "restore_host", "evacuate", "rebalance", "rolling_upgrade")
}


@pytest.fixture(scope="session")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenario of this session, with the release of Debian that C(KVMOPS_TEST_RELEASE) names."""
    release = os.environ.get("KVMOPS_TEST_RELEASE", "")
    if not release:
        return SCENARIO
    document = yaml.safe_load(SCENARIO.read_text(encoding="utf-8"))
    document["hosts"]["release"] = release
    other = tmp_path_factory.mktemp("scenario") / "lab.yml"
    other.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return other


@pytest.fixture(scope="session")
def cluster(scenario: Path) -> Iterator[Lab]:
    """The lab of this session. One that was up before stays up; any other is gone in the end."""
    keep = is_up()
    if keep:
        # Whoever was at work before may have stopped what a lab needs to come up.
        mend(Lab.load())
    keep = keep or os.environ.get("KVMOPS_KEEP_LAB", "") not in ("", "0")
    with lab_for(scenario, keep=keep) as lab:
        yield lab
        if keep:
            mend(lab)


@pytest.fixture
def lab(cluster: Lab) -> Lab:
    """A lab as its scenario asks for: every guest at home, no fault, no host in maintenance."""
    return tidy(cluster)


@pytest.fixture
def settings() -> dict[str, str]:
    """What Alice has set for Ansible, beside what everybody here has (harness.ansible.environment)."""
    return {}


@pytest.fixture
def variables() -> dict[str, Any]:
    """What Alice's inventory says about all hosts."""
    return dict(QUICKLY)


@pytest.fixture
def operator(lab: Lab, tmp_path: Path, settings: dict[str, str], variables: dict[str, Any]) -> Iterator[Operator]:
    """Alice, in a folder of her own, with an inventory of three hosts."""
    alice = Operator(lab, tmp_path, without=SPARE, variables=variables, **settings)
    yield alice
    alice.leave()


@pytest.fixture
def rack_operator(lab: Lab, tmp_path: Path) -> Iterator[Operator]:
    """Alice, with an inventory of all four hosts."""
    alice = Operator(lab, tmp_path, variables=QUICKLY)
    yield alice
    alice.leave()
