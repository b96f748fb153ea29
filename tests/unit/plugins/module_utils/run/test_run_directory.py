# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import (
    RunDirectory,
    RunError,
    is_run_locked,
    read_json,
    run_lock_holder,
    take_run_lock,
    write_durably,
)

#: Holds a lease in a process of its own until it is killed.
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


@pytest.mark.parametrize(
    "plan_id", ["", ".", "..", "../x", "a/b", "/etc", "-rf", "a b", "a\n", "ä", "a\0b", ".hidden", "x" * 201]
)
def test_a_plan_cannot_choose_a_directory_outside(state_dir, plan_id):
    with pytest.raises(RunError, match="cannot name a directory") as why:
        RunDirectory(state_dir, plan_id)
    assert why.value.refusal["code"] == "plan_id"
    assert len(str(why.value)) < 400


@pytest.mark.parametrize("plan_id", ["a", "drain-h1-20261124T020000Z-3f9a", "x" * 200, "a..b"])
def test_the_files_of_a_run_are_in_one_place(state_dir, plan_id):
    directory = RunDirectory(state_dir, plan_id)
    files = (directory.plan, directory.journal, directory.progress, directory.result)
    assert {str(Path(file).parent) for file in files} == {f"{state_dir}/runs/{plan_id}"}


def test_making_it_keeps_the_plan_and_the_journal_but_no_old_result(state_dir):
    directory = RunDirectory(state_dir, "p1")
    directory.make({"id": "p1"})
    write_durably(directory.result, {"old": True})
    write_durably(directory.journal, ["kept"])
    directory.make({"id": "p1", "again": True})
    assert read_json(directory.plan) == {"id": "p1", "again": True}
    assert read_json(directory.result) is None
    assert read_json(directory.journal) == ["kept"]
    assert stat.S_IMODE(Path(directory.path).stat().st_mode) == 0o700
    assert sorted(path.name for path in Path(directory.path).iterdir()) == ["journal.jsonl", "plan.json"]


def test_a_lease_is_for_one_at_a_time(state_dir):
    assert not is_run_locked(state_dir)
    lease = take_run_lock(state_dir, "p1", "alice@admin1")
    assert is_run_locked(state_dir)
    assert take_run_lock(state_dir, "p2", "bob@admin2") is None
    who = run_lock_holder(state_dir)
    assert (who["plan"], who["owner"], who["pid"]) == ("p1", "alice@admin1", os.getpid())
    assert who["since"].endswith("Z")
    lease.release()
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
def test_a_lease_file_that_is_no_longer_whole_keeps_nobody_out(state_dir, garbage):
    Path(state_dir).mkdir()
    (Path(state_dir) / "apply.lease").write_bytes(garbage)
    assert run_lock_holder(state_dir) == {}
    assert not is_run_locked(state_dir)
    lease = take_run_lock(state_dir, "p1", "alice")
    assert run_lock_holder(state_dir)["plan"] == "p1"
    lease.release()


def test_a_document_is_replaced_as_a_whole(tmp_path, monkeypatch):
    path = str(tmp_path / "x.json")
    write_durably(path, {"n": 1})
    monkeypatch.setattr(json, "dump", lambda _document, file: file.write('{"n": ') and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_durably(path, {"n": 2})
    assert read_json(path) == {"n": 1}


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_document_that_is_missing_or_cut_short_is_none(tmp_path, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    assert read_json(str(path)) is None
