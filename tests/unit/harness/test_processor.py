# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys

from harness.meter import Meter

# More than is asserted: the clock of processor time has a resolution of ten milliseconds.
BURN = "import time\nwhile time.process_time() < 0.25: pass\n"
TESTS = f"""
import subprocess, sys
import pytest
from harness.meter import METER

@pytest.fixture
def burned():
    subprocess.run([sys.executable, "-c", {BURN!r}], check=True)

@pytest.fixture
def burned_apart():
    with METER.apart():
        subprocess.run([sys.executable, "-c", {BURN!r}], check=True)

@pytest.mark.long
def test_burns(burned): pass

def test_burns_apart(burned_apart): pass
"""


def burn():
    subprocess.run([sys.executable, "-c", BURN], check=True)


def test_children_count_and_what_is_apart_does_not():
    meter = Meter()
    begun = meter.read()
    burn()
    counted = meter.read()
    with meter.apart():
        burn()

    assert counted - begun >= 0.2
    assert meter.read() - counted < 0.2


def test_what_a_test_took_is_in_the_junit_file(tmp_path, pytestconfig):
    from tools import results

    (tmp_path / "test_burn.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    long: yes\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "harness.processor", "--junit-xml=junit/burn.xml"]
    environment = {"PYTHONPATH": str(pytestconfig.rootpath / "tests"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    burns, apart = results.read(tmp_path / "junit")
    assert burns.processor_s >= 0.2
    assert burns.marks == {"long"}
    assert apart.processor_s < 0.2
    assert apart.marks == frozenset()
