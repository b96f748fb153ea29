# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the runs of this host, by the files that they have left.

from __future__ import annotations

import datetime
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.run import journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_json
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory, RunError

#: When one of these is in the journal, the run knew what had become of the guest.
ENDINGS = ("step.verified", "step.finished")


def list_runs(state_dir: str, since: str | None = None) -> list[dict[str, t.Any]]:
    """The runs of this host, the oldest first.

    Args:
        state_dir: where this host keeps its records.
        since: only runs that were started then or later (UTC, ISO 8601).

    Raises:
        ValueError: ``since`` is not a time.
        OSError: the records cannot be read.
    """
    earliest = _moment(since) if since else None
    found = []
    folder = Path(state_dir) / "runs"
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            directory = RunDirectory(state_dir, path.name)
        except RunError:
            # Not ours, such as lost+found.
            continue
        plan = read_json(directory.plan)
        if not shape.fits(document_shapes.KEPT_PLAN, plan):
            continue
        started = datetime.datetime.fromtimestamp(Path(directory.plan).stat().st_mtime, datetime.timezone.utc)
        if earliest is None or started >= earliest:
            found.append((started, _run(directory, plan, started)))
    return [run for _started, run in sorted(found, key=lambda item: item[0])]


def unfinished_migration(state_dir: str, uuid: str) -> dict[str, t.Any] | None:
    """The data of the latest C(migration.started) of a guest whose run ended without saying what became of it.

    None if there is none such, or if a record cannot be read: then nobody knows.
    """
    latest, found = "", None
    paths = sorted((Path(state_dir) / "runs").glob("*/journal.jsonl"))
    try:
        entries = [journal.read(str(path), about=uuid) for path in paths]
    except OSError:
        return None
    for of_run in entries:
        told = [
            entry
            for entry in of_run
            if entry.get("uuid") == uuid and entry.get("event") in ("migration.started", *ENDINGS)
        ]
        if not told:
            continue
        # In a journal the numbers give the order. The clock may have been set back.
        last = max(reversed(told), key=lambda entry: entry["seq"])
        at = str(last.get("at", ""))
        if at >= latest:
            data = last.get("data")
            started = last["event"] == "migration.started" and isinstance(data, dict)
            latest, found = at, data if started else None
    return found


def _run(directory: RunDirectory, plan: dict[str, t.Any], started: datetime.datetime) -> dict[str, t.Any]:
    moved_at = _moved_at(directory)
    return {
        "plan": plan.get("id"),
        "goal": plan.get("goal"),
        "started_at": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "finished": read_json(directory.result) is not None,
        "steps": [
            {
                "guest": step["guest"],
                "source": step["source"],
                "destination": step["destination"],
                "moved_at": moved_at.get(step.get("id")),
            }
            for step in plan["steps"]
        ],
    }


def _moved_at(directory: RunDirectory) -> dict[str | None, str | None]:
    """When both sides agreed that a guest had moved, by step."""
    return {
        entry.get("step"): entry.get("at")
        for entry in journal.read(directory.journal)
        if entry.get("event") == "step.verified" and (entry.get("data") or {}).get("verdict") == "moved"
    }


def _moment(text: str) -> datetime.datetime:
    # Python 3.9 knows no Z.
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)
