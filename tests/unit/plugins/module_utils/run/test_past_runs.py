# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run import guest_runs, journal, past_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.past_runs import list_runs, unfinished_migration
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory

STEP = {"id": "s001", "guest": {"name": "web1", "uuid": "u"}, "source": "h1", "destination": "h2", "reason": "room"}


def keep(state_dir, plan_id, at, finished=True):
    directory = RunDirectory(str(state_dir), plan_id)
    directory.make({"id": plan_id, "goal": {"kind": "drain", "hosts": ["h1"]}, "steps": [STEP]})
    os.utime(directory.plan, (at, at))
    if finished:
        Path(directory.result).write_text('{"results": []}', encoding="utf-8")


def test_a_host_that_never_moved_a_guest_has_no_runs(tmp_path):
    assert list_runs(str(tmp_path)) == []


def test_runs_are_told_in_their_order_with_who_was_to_leave(tmp_path):
    keep(tmp_path, "drain-b", 1_000_000)
    keep(tmp_path, "drain-a", 2_000_000, finished=False)

    found = list_runs(str(tmp_path))

    assert [(run["plan"], run["finished"]) for run in found] == [("drain-b", True), ("drain-a", False)]
    assert found[0]["steps"] == [{**{key: STEP[key] for key in ("guest", "source", "destination")}, "moved_at": None}]
    assert found[0]["started_at"] == "1970-01-12T13:46:40Z"


def test_earlier_runs_are_left_out(tmp_path):
    keep(tmp_path, "drain-a", 1_000_000)
    keep(tmp_path, "drain-b", 2_000_000)

    assert [run["plan"] for run in list_runs(str(tmp_path), "1970-01-20T00:00:00Z")] == ["drain-b"]


def test_a_record_that_is_not_whole_is_left_out(tmp_path):
    keep(tmp_path, "drain-a", 1_000_000)
    directory = RunDirectory(str(tmp_path), "drain-b")
    directory.make({})
    Path(directory.plan).write_text('{"id": "drain-b", "ste', encoding="utf-8")

    assert [run["plan"] for run in list_runs(str(tmp_path))] == ["drain-a"]


def test_since_must_be_a_time(tmp_path):
    with pytest.raises(ValueError, match="yesterday"):
        list_runs(str(tmp_path), "yesterday")


def test_what_is_no_run_is_passed_over(tmp_path):
    keep(tmp_path, "drain-a", 1_000_000)
    for name in ("lost+found", ".hidden"):
        (tmp_path / "runs" / name).mkdir()
    assert [run["plan"] for run in list_runs(str(tmp_path))] == ["drain-a"]


def entry(path, plan, at, event, uuid="u-1", step="s001", seq=None, **data):
    folder = path / "runs" / plan
    folder.mkdir(parents=True, exist_ok=True)
    seq = seq or len(journal.read(str(folder / "journal.jsonl"))) + 1
    line = {
        "schema": "kvmops.journal/1",
        "seq": seq,
        "at": at,
        "plan": plan,
        "uuid": uuid,
        "event": event,
        "data": data,
    }
    line["step"] = step
    with (folder / "journal.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def test_when_a_guest_moved_is_told_also_of_a_run_that_was_broken_off(tmp_path):
    keep(tmp_path, "drain-a", 1_000_000, finished=False)
    entry(tmp_path, "drain-a", "2026-11-24T02:01:07.412Z", "step.verified", step="s001", verdict="moved")
    keep(tmp_path, "drain-b", 2_000_000)
    entry(tmp_path, "drain-b", "2026-11-24T03:01:07.412Z", "step.verified", step="s001", verdict="stayed")

    assert [run["steps"][0]["moved_at"] for run in list_runs(str(tmp_path))] == ["2026-11-24T02:01:07.412Z", None]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], None),
        ([("a", "01", "step.started", {})], None),
        ([("a", "01", "migration.started", {"destination": "h2"})], "h2"),
        (
            [
                ("a", "01", "migration.started", {"destination": "h2"}),
                ("a", "02", "migration.failed", {}),
                ("a", "03", "migration.decision", {"action": "resume_source"}),
                # The next run has begun to look.
                ("b", "04", "step.started", {}),
            ],
            "h2",
        ),
        ([("a", "01", "migration.started", {"destination": "h2"}), ("a", "02", "step.verified", {})], None),
        ([("a", "01", "migration.started", {"destination": "h2"}), ("b", "02", "step.finished", {})], None),
        (
            [
                ("b", "01", "migration.started", {"destination": "h2"}),
                ("b", "02", "step.finished", {}),
                ("a", "03", "migration.started", {"destination": "h3"}),
            ],
            "h3",
        ),
        # The clock was set back while the run was at work.
        ([("a", "09", "migration.started", {"destination": "h2"}), ("a", "02", "step.verified", {})], None),
        ([("a", "09", "step.verified", {}), ("a", "02", "migration.started", {"destination": "h2"})], "h2"),
    ],
)
def test_where_a_run_that_died_was_sending_a_guest(tmp_path, events, expected):
    for plan, at, event, data in events:
        entry(tmp_path, plan, at, event, **data)
    entry(tmp_path, "z", "99", "migration.started", uuid="u-2", destination="h9")
    found = unfinished_migration(str(tmp_path), "u-1")
    assert (found and found["destination"]) == expected


def test_records_that_cannot_be_read_tell_nothing(tmp_path):
    entry(tmp_path, "a", "01", "migration.started", destination="h2")
    (tmp_path / "runs" / "b" / "journal.jsonl").mkdir(parents=True)
    assert unfinished_migration(str(tmp_path), "u-1") is None


def test_a_start_without_data_tells_nothing(tmp_path):
    entry(tmp_path, "a", "01", "migration.started")
    path = tmp_path / "runs" / "a" / "journal.jsonl"
    path.write_text(path.read_text().replace('"data": {}', '"data": null'))
    assert unfinished_migration(str(tmp_path), "u-1") is None


# --- the index --------------------------------------------------------------------------------------------------------


def indexed(path, plan, at, event, **data):
    guest_runs.note(str(path), plan, data.get("uuid", "u-1"))
    entry(path, plan, at, event, **data)
    RunDirectory(str(path), plan).mark_indexed()


@pytest.fixture
def read(monkeypatch):
    """The runs whose journals are read, in order."""
    seen, real = [], journal.read

    def note(path, about=""):
        seen.append(Path(path).parent.name)
        return real(path, about)

    monkeypatch.setattr(past_runs.journal, "read", note)
    return seen


def test_only_the_last_run_of_the_guest_is_read(tmp_path, read):
    for number in range(50):
        indexed(tmp_path, f"p{number:02d}", f"{number:02d}", "migration.started", uuid=f"u-{number % 5}")
    read.clear()
    unfinished_migration(str(tmp_path), "u-3")
    assert read == ["p48"]
    unfinished_migration(str(tmp_path), "u-9")
    assert read == ["p48"]


def test_the_order_of_the_index_counts_and_no_clock(tmp_path):
    indexed(tmp_path, "b", "09", "migration.started", destination="h2")
    indexed(tmp_path, "a", "01", "step.finished")
    assert unfinished_migration(str(tmp_path), "u-1") is None
    indexed(tmp_path, "b", "02", "migration.started", destination="h3")
    assert unfinished_migration(str(tmp_path), "u-1")["destination"] == "h3"


def test_a_run_that_died_before_its_line_was_written_says_nothing(tmp_path):
    indexed(tmp_path, "a", "01", "migration.started", destination="h2")
    guest_runs.note(str(tmp_path), "b", "u-1")
    assert unfinished_migration(str(tmp_path), "u-1")["destination"] == "h2"


def test_runs_of_an_older_version_are_still_read(tmp_path, read):
    entry(tmp_path, "old", "01", "migration.started", destination="h2")
    assert unfinished_migration(str(tmp_path), "u-1")["destination"] == "h2"
    indexed(tmp_path, "new", "02", "step.finished")
    read.clear()
    assert unfinished_migration(str(tmp_path), "u-1") is None
    assert sorted(read) == ["new", "old"]


def test_with_a_damaged_index_all_runs_are_read(tmp_path):
    indexed(tmp_path, "a", "01", "step.finished")
    indexed(tmp_path, "b", "02", "migration.started", destination="h2")
    (tmp_path / "guest_runs" / "u-1.json").write_text("{")
    assert unfinished_migration(str(tmp_path), "u-1")["destination"] == "h2"


def test_of_a_run_that_has_ended_no_journal_is_read(tmp_path, read):
    keep(tmp_path, "a", 1_000_000)
    summed = {"run": {"moved_at": {"s001": "2026-11-24T02:01:07.412Z"}}}
    Path(RunDirectory(str(tmp_path), "a").result).write_text(json.dumps(summed), encoding="utf-8")
    (run,) = list_runs(str(tmp_path))
    assert (run["finished"], run["steps"][0]["moved_at"]) == (True, "2026-11-24T02:01:07.412Z")
    assert read == []


def test_of_runs_before_the_time_nothing_is_read(tmp_path, monkeypatch):
    keep(tmp_path, "a", 1_000_000)
    monkeypatch.setattr(past_runs, "read_json", lambda path: pytest.fail(f"{path} is read"))
    assert list_runs(str(tmp_path), "1970-01-20T00:00:00Z") == []
