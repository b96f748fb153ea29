# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files of reports are written, read and removed."""

from __future__ import annotations

import json
import os

import pytest
from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import report_files
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files.report_files import (
    DAY_S,
    Limits,
    mode_of,
    remove_old,
)

NOW = 1_800_000_000.0


def name(number, kind="rebalance"):
    return f"{kind}-h1-2026112{number}T020000Z-3f9a"


def report(folder, plan, age_days, kind="rebalance", source="h1", destination="h2"):
    document = {
        "schema": "kvmops.report/1",
        "plan": plan,
        "goal": {"kind": kind, "hosts": ["h1"]},
        "started_at": f"2026-11-2{plan[-15]}T02:00:00Z",
        "guests": [{"uuid": "u1", "source": source, "destination": destination, "outcome": "moved"}],
        "stays": [],
    }
    for suffix, text in ((".json", json.dumps(document)), (".html", "<p>"), (".md", "x")):
        file = folder / f"{plan}{suffix}"
        file.write_text(text)
        os.utime(file, (NOW - age_days * DAY_S,) * 2)


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_all_files_of_the_oldest_runs_are_removed(tmp_path):
    for number in range(4):
        report(tmp_path, name(number), age_days=10 - number)
    removed = remove_old(tmp_path, Limits(keep=2, days=0), NOW)
    assert len(removed) == 6
    assert left(tmp_path) == sorted(
        f"{name(number)}{suffix}" for number in (2, 3) for suffix in (".html", ".json", ".md")
    )


def test_old_files_are_removed_however_few_they_are(tmp_path):
    report(tmp_path, name(1), age_days=400)
    report(tmp_path, name(2), age_days=300)
    (tmp_path / f"{name(3)}.plan.html").write_text("x")
    os.utime(tmp_path / f"{name(3)}.plan.html", (NOW - 500 * DAY_S,) * 2)
    remove_old(tmp_path, Limits(keep=0, days=365), NOW)
    assert {path.split(".")[0] for path in left(tmp_path)} == {name(2)}


def test_without_limits_nothing_is_removed(tmp_path):
    report(tmp_path, name(1), age_days=4000)
    assert remove_old(tmp_path, Limits(keep=0, days=0), NOW) == []


def test_a_report_by_which_a_guest_is_still_to_come_home_stays(tmp_path):
    report(tmp_path, name(1, "drain"), age_days=900, kind="drain")
    remove_old(tmp_path, Limits(keep=1, days=10), NOW)
    assert left(tmp_path) == [f"{name(1, 'drain')}.json"]

    # It is home again: now neither is needed.
    report(tmp_path, name(2, "restore"), age_days=800, kind="restore", source="h2", destination="h1")
    remove_old(tmp_path, Limits(keep=1, days=10), NOW)
    remove_old(tmp_path, Limits(keep=1, days=10), NOW)
    assert left(tmp_path) in ([], [f"{name(2, 'restore')}.json"])


def test_what_is_not_ours_is_left_alone(tmp_path):
    others = [
        "notes.html",
        "reports.html",
        "drain.json",
        "drain-h1.json",
        "x-20261124T020000Z-3f9a.json",
        ".hidden.json",
    ]
    for other in others:
        (tmp_path / other).write_text("{}")
        os.utime(tmp_path / other, (0, 0))
    (tmp_path / f"{name(1)}.json").symlink_to(tmp_path / "notes.html")
    (tmp_path / f"{name(2)}.html").mkdir()
    assert remove_old(tmp_path, Limits(keep=1, days=1), NOW) == []
    assert set(others) <= set(left(tmp_path))


@pytest.mark.parametrize("stated", ["600", "0600", 0o600])
def test_a_mode_as_other_modules_take_it(stated):
    assert mode_of(stated) == 0o600


@pytest.mark.parametrize("stated", ["u=rw", "0400", "0700", "06000", True, None, 384.0, "0o600", ""])
def test_no_mode(stated):
    with pytest.raises(AnsibleError, match=r"is no mode for a report: give one such as '0600' or '0640', in quotes"):
        mode_of(stated)


def test_a_file_that_was_open_to_others_is_private_after_it_is_written_again(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("old")
    file.chmod(0o644)
    report_files.write(file, "new", 0o600)
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("new", 0o600)
