# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: removes runs and histories that nobody needs any more.

from __future__ import annotations

import contextlib
import math
import os
import shutil
import stat
import time
import typing as t
import uuid as uuids
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import lease_clock
from ansible_collections.kvmops.cluster.plugins.module_utils.run import guest_runs, maintenance
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_json, sync_directory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory, all_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import run_lock_holder

KEEP_RUNS = 200
KEEP_DAYS = 90
DAY_S = 86400.0
#: A controller that still reads the last lines of a run that has ended is done within a minute.
LINK_KEPT_S = 3600.0
#: A module that writes its lines itself, such as a capsule on its way over a thin link, may be silent for long.
LINES_KEPT_S = 30 * DAY_S

# Must be kept in sync with plugins/doc_fragments/move.py.
RETENTION_ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "keep_runs": {"type": "int", "default": KEEP_RUNS},
    "keep_days": {"type": "int", "default": KEEP_DAYS},
}

#: The records of guests that a run has not done with. Each is a file with the guest's UUID.
OPEN_RECORDS = ("taken_memory", "kept_settings", "begun_copies")
#: What was learned of a guest; written anew whenever it is measured or moved. It may be lost.
HISTORIES = ("working_sets", "calibration-guest")
#: Begins the name of a directory that is being removed.
_REMOVED = ".removed-"


class Retention(t.NamedTuple):
    """What is kept of past runs.

    Attributes:
        runs: so many of the newest ones; 0: any number.
        days: those that ended or died in so many last days; 0: of any age.
    """

    runs: int = KEEP_RUNS
    days: int = KEEP_DAYS


def tidy(state_dir: str, keep: Retention, now: t.Callable[[], float] = time.time) -> None:
    """Remove what is older or more than what is kept, and bring the index of guests up to date.

    Called by the run at work, under the run lock. What cannot be removed stays for the next time.

    Args:
        now: the time, in seconds since 1970.
    """
    with contextlib.suppress(OSError):
        guest_runs.add_missing(state_dir)
        gone = _remove_runs(state_dir, keep, now())
        if gone:
            guest_runs.forget(state_dir, gone)
    _remove_lines_of_controllers(state_dir, now())
    if keep.days:
        for name in HISTORIES:
            _remove_older(Path(state_dir) / name, now() - keep.days * DAY_S)


def _remove_runs(state_dir: str, keep: Retention, now: float) -> set[str]:
    folder = Path(state_dir) / "runs"
    # What a run that died was removing.
    for left in folder.glob(f"{_REMOVED}*"):
        shutil.rmtree(left, ignore_errors=True)
    newest_first = sorted(((_ended_at(run), run.id, run) for run in all_runs(state_dir)), reverse=True)
    needed, closed_at, gone = _needed(state_dir), _closed_at(state_dir), set[str]()
    for number, (ended_at, plan_id, run) in enumerate(newest_first):
        too_many = keep.runs and number >= keep.runs
        too_old = keep.days and ended_at < now - keep.days * DAY_S
        if (too_many or too_old) and plan_id not in needed and ended_at < closed_at and _is_finished(run):
            _remove(run)
            gone.add(plan_id)
    return gone


def _ended_at(run: RunDirectory) -> float:
    times = [0.0]
    for path in (run.result, run.journal, run.plan):
        with contextlib.suppress(OSError):
            times.append(os.stat(path).st_mtime)
    return max(times)


def _is_finished(run: RunDirectory) -> bool:
    # A run that died may have a guest under way; only its journal says so.
    return os.path.exists(run.result)


def _needed(state_dir: str) -> set[str]:
    """The plans that others may still ask for: of the run at work, and of those that a record names."""
    named = {run_lock_holder(state_dir).get("plan")}
    for name in ("lease.json", "upgrade.json"):
        document = read_json(os.path.join(state_dir, name))
        if isinstance(document, dict):
            named.add(document.get("run"))
    for name in OPEN_RECORDS:
        for path in sorted((Path(state_dir) / name).glob("*.json")):
            named.update(guest_runs.runs_of(state_dir, path.stem) or ())
    return {one for one in named if isinstance(one, str)}


def _closed_at(state_dir: str) -> float:
    """When the host was closed, in seconds since 1970; infinite while it is open.

    What left it since then is asked for when it is opened again. Of a record that cannot be read nobody knows that.
    """
    try:
        record = maintenance.load(Path(state_dir))
        return math.inf if record["state"] == "active" else lease_clock.moment(str(record["since"])).timestamp()
    except (maintenance.RecordError, OSError, ValueError, OverflowError):
        return 0.0


def _remove(run: RunDirectory) -> None:
    """Take its name away first, so that nobody reads a part of a run."""
    parent = os.path.dirname(run.path)
    hidden = os.path.join(parent, f"{_REMOVED}{uuids.uuid4().hex}")
    os.rename(run.path, hidden)
    sync_directory(parent)
    shutil.rmtree(hidden, ignore_errors=True)


def _remove_lines_of_controllers(state_dir: str, now: float) -> None:
    """Remove the names by which controllers followed runs, of those that did not come back to remove them."""
    working = run_lock_holder(state_dir).get("plan")
    for path in sorted(Path(state_dir).glob("progress-*")):
        with contextlib.suppress(OSError):
            told = path.lstat()
            if not stat.S_ISLNK(told.st_mode):
                # The lines themselves, of a module without a run.
                left = told.st_mtime < now - LINES_KEPT_S
            else:
                of_run = os.path.basename(os.path.dirname(os.readlink(path)))
                left = not path.exists() or (of_run != working and told.st_mtime < now - LINK_KEPT_S)
            if left:
                path.unlink()


def _remove_older(folder: Path, earliest: float) -> None:
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < earliest:
                path.unlink()
