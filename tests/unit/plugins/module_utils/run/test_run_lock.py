# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import (
    is_run_locked,
    run_lock_holder,
    take_run_lock,
)

#: Holds the run lock in a process of its own until it is killed.
HOLDER = """
import fcntl, os, sys, time
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def state_dir(tmp_path):
    return str(tmp_path / "state")


def test_a_run_lock_is_for_one_at_a_time(state_dir):
    assert not is_run_locked(state_dir)
    run_lock = take_run_lock(state_dir, "p1", "alice@admin1")
    assert is_run_locked(state_dir)
    assert take_run_lock(state_dir, "p2", "bob@admin2") is None
    who = run_lock_holder(state_dir)
    assert (who["plan"], who["owner"], who["pid"]) == ("p1", "alice@admin1", os.getpid())
    assert who["since"].endswith("Z")
    run_lock.release()
    assert not is_run_locked(state_dir)
    again = take_run_lock(state_dir, "p2", "bob@admin2")
    assert run_lock_holder(state_dir)["plan"] == "p2"
    again.release()


def test_whoever_dies_holds_nothing_any_more(state_dir):
    Path(state_dir).mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"{state_dir}/apply.lease"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        assert is_run_locked(state_dir)
        assert take_run_lock(state_dir, "p1", "alice") is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert not is_run_locked(state_dir)
    take_run_lock(state_dir, "p1", "alice").release()


def test_looking_leaves_no_file_behind_and_keeps_nobody_out(state_dir):
    assert not is_run_locked(state_dir)
    assert not Path(state_dir).exists()
    take_run_lock(state_dir, "p1", "alice").release()
    for _look in range(3):
        assert not is_run_locked(state_dir)
    take_run_lock(state_dir, "p1", "alice").release()


@pytest.mark.parametrize("garbage", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"plan": "' + b"x" * 4096])
def test_a_run_lock_that_is_no_longer_whole_keeps_nobody_out(state_dir, garbage):
    Path(state_dir).mkdir()
    (Path(state_dir) / "apply.lease").write_bytes(garbage)
    assert run_lock_holder(state_dir) == {}
    assert not is_run_locked(state_dir)
    run_lock = take_run_lock(state_dir, "p1", "alice")
    assert run_lock_holder(state_dir)["plan"] == "p1"
    run_lock.release()
