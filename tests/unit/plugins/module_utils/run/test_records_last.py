# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A record, its name and its directory are on disk before anybody acts on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim
from ansible_collections.kvmops.cluster.plugins.module_utils.run import history, leases, maintenance, upgrade_record
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import (
    begun_copies,
    kept_settings,
    left_copies,
    taken_memory,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import take_run_lock

GUEST = {"name": "web1", "uuid": "u1"}


def claim(state_dir):
    leases.take(state_dir, Claim("h1", "alice@admin1", "drain-h1"))


def with_lock(state_dir):
    with taken_memory.locked(state_dir, "u1"):
        taken_memory.store(state_dir, dict(GUEST))


BEGUN = {"schema": begun_copies.SCHEMA, "guest": GUEST, "destination": "h2", "disks": []}
RECORDS = {
    "lease.json": claim,
    "maintenance.json": lambda state_dir: maintenance.store(dict(maintenance.ACTIVE), Path(state_dir)),
    "upgrade.json": lambda state_dir: upgrade_record.store(dict(upgrade_record.NONE), Path(state_dir)),
    "taken_memory/u1.json": with_lock,
    "kept_settings/u1.json": lambda state_dir: kept_settings.store(state_dir, dict(GUEST)),
    "begun_copies/u1.json": lambda state_dir: begun_copies.store(state_dir, dict(BEGUN)),
    "left_copies/u1.json": lambda state_dir: left_copies.store(state_dir, {"guest": GUEST, "disks": [{}]}),
    "runs/drain-1/plan.json": lambda state_dir: RunDirectory(state_dir, "drain-1").make({"id": "drain-1"}),
    "calibration-path": lambda state_dir: history.keep_calibration(state_dir, "path", "h2", {}),
}


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_lasts_with_its_directory(tmp_path, synced, name):
    state_dir = tmp_path / "var" / "state"
    RECORDS[name](str(state_dir))
    assert any(path.startswith(f"{state_dir / name}") and path.endswith(".new") for path in synced)
    folder = state_dir / name if name == "calibration-path" else (state_dir / name).parent
    last = max(number for number, path in enumerate(synced) if path.endswith(".new"))
    assert str(folder) in synced[last:]
    # Each directory that was made is a name in the one above it.
    while folder != tmp_path:
        folder = folder.parent
        assert str(folder) in synced


@pytest.mark.parametrize(
    ("name", "remove"),
    [
        ("taken_memory/u1.json", taken_memory.remove),
        ("kept_settings/u1.json", kept_settings.remove),
        ("begun_copies/u1.json", lambda state_dir, uuid: begun_copies.remove(state_dir, uuid, "h2")),
        ("left_copies/u1.json", lambda state_dir, _uuid: left_copies.store(state_dir, {"guest": GUEST, "disks": []})),
    ],
)
def test_a_record_that_was_removed_does_not_come_back(tmp_path, synced, name, remove):
    RECORDS[name](str(tmp_path))
    synced.clear()
    remove(str(tmp_path), "u1")
    assert not (tmp_path / name).exists()
    assert synced == [str((tmp_path / name).parent)]


def test_a_journal_lasts_as_a_file(tmp_path, synced):
    Journal(str(tmp_path / "journal.jsonl"), "drain-1").close()
    assert str(tmp_path) in synced


def test_the_directory_that_a_run_makes_for_its_lock_lasts(tmp_path, synced):
    take_run_lock(str(tmp_path / "state"), "drain-1", "alice").release()
    assert str(tmp_path) in synced
