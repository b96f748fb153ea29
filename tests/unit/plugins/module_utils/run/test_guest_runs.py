# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run import guest_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory

STEP = {"id": "s001", "guest": {"name": "web1", "uuid": "u-1"}, "source": "h1", "destination": "h2"}


@pytest.fixture
def state_dir(tmp_path):
    return str(tmp_path)


def old_run(state_dir, plan_id, *events, step=None):
    """A run of a version that kept no index."""
    directory = RunDirectory(state_dir, plan_id)
    step = STEP if step is None else step
    directory.make({"id": plan_id, "steps": [step]})
    journal = Journal(directory.journal, plan_id)
    for event in events:
        journal.write(event, step=step)
    journal.close()


def test_the_last_run_comes_last_also_if_it_was_there_before(state_dir):
    assert guest_runs.runs_of(state_dir, "u-1") == []
    for plan_id in ("a", "b", "a", "a"):
        guest_runs.note(state_dir, plan_id, "u-1")
    assert guest_runs.runs_of(state_dir, "u-1") == ["b", "a"]
    assert guest_runs.runs_of(state_dir, "u-2") == []


def test_only_the_last_ones_are_kept(state_dir):
    plans = [f"p{number}" for number in range(guest_runs.KEEP + 5)]
    for plan_id in plans:
        guest_runs.note(state_dir, plan_id, "u-1")
    assert guest_runs.runs_of(state_dir, "u-1") == plans[5:]


def test_a_guest_of_a_plan_from_anywhere_names_no_other_file(state_dir, tmp_path):
    guest_runs.note(state_dir, "a", "../../x")
    assert [path.parent.name for path in tmp_path.rglob("*.json")] == ["guest_runs"]
    assert guest_runs.runs_of(state_dir, "../../x") == ["a"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": "kvmops.guest_runs/1"}', '{"schema": "kvmops.guest_runs/1", "runs": [1]}']
)
def test_a_damaged_record_says_so_and_is_replaced(state_dir, tmp_path, text):
    guest_runs.note(state_dir, "a", "u-1")
    (tmp_path / "guest_runs" / "u-1.json").write_text(text)
    assert guest_runs.runs_of(state_dir, "u-1") is None
    guest_runs.note(state_dir, "b", "u-1")
    assert guest_runs.runs_of(state_dir, "u-1") == ["b"]


def test_a_run_is_in_the_index_before_its_journal_says_where_a_guest_goes(state_dir):
    directory = RunDirectory(state_dir, "a")
    directory.make({"id": "a"})
    journal = guest_runs.open_journal(state_dir, directory)
    journal.write("run.started")
    journal.write("step.started", step=STEP)
    assert guest_runs.runs_of(state_dir, "u-1") == []
    journal.write("migration.started", step=STEP)
    journal.close()
    assert guest_runs.runs_of(state_dir, "u-1") == ["a"]
    assert guest_runs.unindexed(state_dir) == []


def test_runs_of_an_older_version_are_added_before_those_of_this_one(state_dir):
    old_run(state_dir, "b", "migration.started", "step.finished")
    old_run(state_dir, "a", "step.finished")
    old_run(state_dir, "c", "step.started")
    guest_runs.note(state_dir, "new", "u-1")
    assert {run.id for run in guest_runs.unindexed(state_dir)} == {"a", "b", "c"}
    guest_runs.add_missing(state_dir)
    assert guest_runs.unindexed(state_dir) == []
    assert guest_runs.runs_of(state_dir, "u-1") == ["b", "a", "new"]


def test_a_run_of_an_older_version_that_is_continued_stays_to_be_added(state_dir):
    old_run(state_dir, "a", "migration.started")
    directory = RunDirectory(state_dir, "a")
    guest_runs.open_journal(state_dir, directory).close()
    assert [run.id for run in guest_runs.unindexed(state_dir)] == ["a"]


def test_what_was_removed_is_forgotten(state_dir, tmp_path):
    for plan_id in ("a", "b"):
        guest_runs.note(state_dir, plan_id, "u-1")
    guest_runs.note(state_dir, "a", "u-2")
    guest_runs.forget(state_dir, {"a"})
    assert guest_runs.runs_of(state_dir, "u-1") == ["b"]
    assert not (tmp_path / "guest_runs" / "u-2.json").exists()


def test_a_damaged_record_is_made_again_from_all_runs(state_dir, tmp_path):
    old_run(state_dir, "new", "migration.started", "step.finished")
    guest_runs.add_missing(state_dir)
    old_run(state_dir, "later", "migration.started")
    (tmp_path / "guest_runs" / "u-1.json").write_text("{")
    guest_runs.add_missing(state_dir)
    assert sorted(guest_runs.runs_of(state_dir, "u-1")) == ["later", "new"]
