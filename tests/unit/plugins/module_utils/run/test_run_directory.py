# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_json, write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory, RunError


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
