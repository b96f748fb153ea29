# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which runs have moved a guest, so that nobody reads all journals to learn that of one. The
# journals are the truth: a run that is not in this index is read as a whole.

from __future__ import annotations

import contextlib
import functools
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.run import journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    remove_durably,
    write_durably,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory, all_runs

SCHEMA = "kvmops.guest_runs/1"
#: The last run that says something of a guest counts. A few more are kept for those whose journals say nothing.
KEEP = 10


def _folder(state_dir: str) -> Path:
    return Path(state_dir) / "guest_runs"


def _path(state_dir: str, uuid: str) -> Path:
    # A plan may come from anywhere, and its UUIDs with it.
    return _folder(state_dir) / f"{uuid.replace('/', '_')}.json"


def open_journal(state_dir: str, directory: RunDirectory) -> Journal:
    """A run's journal, of which each guest is put into the index before the journal speaks of its move.

    Raises: OSError when it cannot be opened.
    """
    is_new = not os.path.exists(directory.journal)
    opened = Journal(directory.journal, directory.id, functools.partial(note, state_dir, directory.id))
    if is_new:
        # Without the mark, the journal is read as those of older versions are.
        with contextlib.suppress(OSError):
            directory.mark_indexed()
    return opened


def note(state_dir: str, plan_id: str, uuid: str) -> None:
    """Put a run on record as the last one that moves a guest. Called before the journal says so.

    Raises: OSError when that cannot be.
    """
    known = runs_of(state_dir, uuid) or []
    if known and known[-1] == plan_id:
        return
    _write(state_dir, uuid, [*(one for one in known if one != plan_id), plan_id])


def runs_of(state_dir: str, uuid: str) -> list[str] | None:
    """The plans of the indexed runs that have moved a guest, the last one last; None: the record is damaged.

    Raises: OSError when it cannot be read.
    """
    path = _path(state_dir, uuid)
    document = read_json(str(path))
    if document is None:
        return None if path.exists() else []
    runs = document.get("runs") if isinstance(document, dict) and document.get("schema") == SCHEMA else None
    whole = isinstance(runs, list) and document.get("uuid") == uuid and all(isinstance(one, str) for one in runs)
    return runs if whole else None


def unindexed(state_dir: str) -> list[RunDirectory]:
    """The runs that are not in the index, such as those of an older version.

    Raises: OSError when they cannot be read.
    """
    return [run for run in all_runs(state_dir) if not run.is_indexed]


def add_missing(state_dir: str) -> None:
    """Put the runs of older versions into the index. Nobody else may be at work here.

    Raises: OSError when that cannot be.
    """
    missing = unindexed(state_dir)
    last: dict[str, list[tuple[str, str]]] = {}
    for run in missing:
        for uuid, at in _moved_by(run).items():
            last.setdefault(uuid, []).append((at, run.id))
    for uuid, found in last.items():
        known = runs_of(state_dir, uuid)
        if known is None:
            # Of a damaged record nobody knows what was in it, so all runs are read.
            times = [(_moved_by(run).get(uuid), run.id) for run in all_runs(state_dir)]
            older = [plan_id for at, plan_id in sorted((at, one) for at, one in times if at is not None)]
        else:
            older = [plan_id for _at, plan_id in sorted(found)]
        # What is in the index already is of this version, and so the later one.
        newer = [one for one in known or [] if one not in older]
        _write(state_dir, uuid, [*older, *newer])
    for run in missing:
        run.mark_indexed()


def _moved_by(run: RunDirectory) -> dict[str, str]:
    """When a run said last where a guest was going or what became of it, by the guest's UUID."""
    return {
        entry["uuid"]: str(entry.get("at", ""))
        for entry in journal.read(run.journal, about=journal.OF_MOVES)
        if entry.get("event") in journal.OF_MOVES and isinstance(entry.get("uuid"), str)
    }


def _write(state_dir: str, uuid: str, runs: list[str]) -> None:
    make_directory(str(_folder(state_dir)))
    write_durably(str(_path(state_dir, uuid)), {"schema": SCHEMA, "uuid": uuid, "runs": runs[-KEEP:]})


def forget(state_dir: str, gone: t.Container[str]) -> None:
    """Take runs that were removed out of the index."""
    for path in sorted(_folder(state_dir).glob("*.json")):
        with contextlib.suppress(OSError):
            document = read_json(str(path))
            runs = document.get("runs") if isinstance(document, dict) else None
            if not isinstance(runs, list):
                continue
            left = [one for one in runs if one not in gone]
            if not left:
                remove_durably(str(path))
            elif left != runs:
                write_durably(str(path), {**document, "runs": left})
