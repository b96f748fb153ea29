# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim
from ansible_collections.kvmops.cluster.plugins.module_utils.run import guest_runs, history, leases, retention
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import kept_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.retention import DAY_S, Retention
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import take_run_lock
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, working_set

NOW = 1_000 * DAY_S
MEASURED = working_set(domain("web1"))


@pytest.fixture
def state_dir(tmp_path):
    return str(tmp_path)


def keep(state_dir, plan_id, days_ago, finished=True):
    directory = RunDirectory(state_dir, plan_id)
    directory.make({"id": plan_id, "steps": []})
    Path(directory.journal).write_text("", encoding="utf-8")
    directory.mark_indexed()
    if finished:
        write_durably(directory.result, {})
    for path in Path(directory.path).iterdir():
        os.utime(path, (NOW - days_ago * DAY_S,) * 2)


def left(state_dir):
    return sorted(path.name for path in (Path(state_dir) / "runs").iterdir())


def tidy(state_dir, runs=0, days=0):
    retention.tidy(state_dir, Retention(runs, days), lambda: NOW)


def test_a_host_without_runs_has_nothing_to_remove(state_dir, tmp_path):
    tidy(state_dir, 1, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("runs", "days", "stay"),
    [
        (0, 0, ["a", "b", "c"]),
        (2, 0, ["b", "c"]),
        (1, 0, ["c"]),
        (0, 90, ["b", "c"]),
        (1, 90, ["c"]),
        (3, 5, ["c"]),
    ],
)
def test_the_newest_stay_as_long_as_they_are_not_too_old(state_dir, runs, days, stay):
    for plan_id, days_ago in (("a", 91), ("b", 89), ("c", 1)):
        keep(state_dir, plan_id, days_ago)
    tidy(state_dir, runs, days)
    assert left(state_dir) == stay


def test_a_run_counts_from_its_end_and_not_from_its_name(state_dir):
    keep(state_dir, "z", 20)
    keep(state_dir, "a", 10)
    tidy(state_dir, runs=1)
    assert left(state_dir) == ["a"]


def test_a_run_that_was_broken_off_stays(state_dir):
    keep(state_dir, "died", 500, finished=False)
    keep(state_dir, "old", 500)
    tidy(state_dir, 1, 1)
    assert left(state_dir) == ["died"]


def test_the_run_at_work_stays(state_dir):
    # One that is done again has the result of the first time until it begins.
    keep(state_dir, "at-work", 500)
    lock = take_run_lock(state_dir, "at-work", "alice")
    tidy(state_dir, 1, 1)
    lock.release()
    assert left(state_dir) == ["at-work"]


def test_a_run_that_a_record_names_stays(state_dir, tmp_path):
    for plan_id in ("leased", "upgrading", "settings", "old"):
        keep(state_dir, plan_id, 500)
    leases.take(state_dir, Claim("h1", "alice", "leased"))
    write_durably(str(tmp_path / "upgrade.json"), {"run": "upgrading"})
    guest_runs.note(state_dir, "settings", "u-1")
    kept_settings.store(state_dir, {"uuid": "u-1"})
    tidy(state_dir, 1, 1)
    assert left(state_dir) == ["leased", "settings", "upgrading"]


def test_what_is_no_run_is_left_alone_and_what_was_being_removed_goes(state_dir, tmp_path):
    keep(state_dir, "old", 500)
    for name in (".removed-1f", ".hidden", "lost+found"):
        (tmp_path / "runs" / name).mkdir()
    tidy(state_dir, days=90)
    assert left(state_dir) == [".hidden", "lost+found"]


def test_the_index_forgets_what_was_removed(state_dir):
    keep(state_dir, "old", 500)
    guest_runs.note(state_dir, "old", "u-1")
    tidy(state_dir, days=90)
    assert guest_runs.runs_of(state_dir, "u-1") == []


def test_what_was_learned_of_guests_ends_with_them_and_of_paths_stays(state_dir, tmp_path):
    history.add_measurement(state_dir, "old", MEASURED)
    history.keep_calibration(state_dir, "guest", "old", {})
    history.keep_calibration(state_dir, "path", "h2", {})
    for path in tmp_path.rglob("*.json"):
        os.utime(path, (NOW - 91 * DAY_S,) * 2)
    history.add_measurement(state_dir, "new", MEASURED)
    (tmp_path / "working_sets").mkdir(exist_ok=True)
    for path in (tmp_path / "working_sets").glob("*.json"):
        if path.stat().st_mtime > NOW:
            os.utime(path, (NOW, NOW))
    tidy(state_dir, runs=1)
    assert history.calibration(state_dir, "guest", "old") == {}
    tidy(state_dir, days=90)
    assert history.calibration(state_dir, "guest", "old") is None
    assert history.measurements(state_dir, "old") == []
    assert history.measurements(state_dir, "new") == [MEASURED]
    assert history.calibration(state_dir, "path", "h2") == {}


def test_what_cannot_be_removed_hides_nothing(state_dir, monkeypatch):
    keep(state_dir, "old", 500)

    def refuse(*_arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "rename", refuse)
    tidy(state_dir, 1, 1)
    assert left(state_dir) == ["old"]


def test_names_that_killed_controllers_have_left_are_removed(state_dir, tmp_path):
    for run in ("old", "working"):
        keep(state_dir, run, 1)
        (tmp_path / "runs" / run / "progress.jsonl").write_text("", encoding="utf-8")
    ages_s = {"young": 60, "left": 7200, "joined": 7200, "dangling": 60}
    targets = {"young": "old", "left": "old", "joined": "working", "dangling": "gone"}
    for name, target in targets.items():
        link = tmp_path / f"progress-{name}"
        link.symlink_to(tmp_path / "runs" / target / "progress.jsonl")
        os.utime(link, (NOW - ages_s[name],) * 2, follow_symlinks=False)
    for name, days in (("lines", 1), ("forgotten", 31)):
        file = tmp_path / f"progress-{name}"
        file.write_text("", encoding="utf-8")
        os.utime(file, (NOW - days * DAY_S,) * 2)
    lock = take_run_lock(state_dir, "working", "alice")
    tidy(state_dir)
    lock.release()
    assert sorted(path.name for path in tmp_path.glob("progress-*")) == [
        "progress-joined",
        "progress-lines",
        "progress-young",
    ]


@pytest.mark.parametrize(
    ("text", "stay"),
    [
        ('{"schema": "kvmops.maintenance/1", "state": "cordoned", "since": "1972-06-01T00:00:00Z"}', ["after"]),
        ('{"schema": "kvmops.maintenance/1", "state": "active", "since": "1972-06-01T00:00:00Z"}', []),
        ("{", ["after", "before"]),
    ],
    ids=["closed", "open", "damaged"],
)
def test_what_left_a_closed_host_stays_until_it_is_open_again(state_dir, tmp_path, text, stay):
    # 1 June 1972 is day 882.
    keep(state_dir, "before", NOW / DAY_S - 881)
    keep(state_dir, "after", NOW / DAY_S - 883)
    (tmp_path / "maintenance.json").write_text(text, encoding="utf-8")
    tidy(state_dir, 0, 1)
    assert left(state_dir) == stay
