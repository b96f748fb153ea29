# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the runs of this host, by the files that they have left.

from __future__ import annotations

import contextlib
import datetime
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.recorded_events import recorded_events
from ansible_collections.kvmops.cluster.plugins.module_utils.run import guest_runs, journal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_json
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory, all_runs

_MOVED_AT = shape.mapping_of(shape.text())


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
    for directory in all_runs(state_dir):
        try:
            started = datetime.datetime.fromtimestamp(Path(directory.plan).stat().st_mtime, datetime.timezone.utc)
        except FileNotFoundError:
            # A run that is being removed, or that died before it had a plan.
            continue
        if earliest is not None and started < earliest:
            continue
        plan = read_json(directory.plan)
        if shape.fits(document_shapes.KEPT_PLAN, plan):
            found.append((started, _run(directory, plan, started)))
    return [run for _started, run in sorted(found, key=lambda item: item[0])]


def events_of(state_dir: str, plan_id: str) -> dict[str, list[dict[str, t.Any]]]:
    """What this host has recorded of a plan's steps, as far as a report shows it, by step. None is an empty record.

    Raises:
        RunError: no plan has such an id.
        OSError: the record cannot be read.
    """
    return recorded_events(journal.read(RunDirectory(state_dir, plan_id).journal))


def unfinished_migration(state_dir: str, uuid: str) -> dict[str, t.Any] | None:
    """The data of the latest C(migration.started) of a guest whose run ended without saying what became of it.

    None if there is none such, or if a record cannot be read: then nobody knows.
    """
    try:
        told = _last_told(state_dir, uuid)
    except OSError:
        return None
    data = told.get("data") if told else None
    started = told is not None and told["event"] == "migration.started" and isinstance(data, dict)
    return data if started else None


def last_migration(state_dir: str, uuid: str) -> dict[str, t.Any] | None:
    """The data of the latest C(migration.started) of a guest, whatever was said of it since, or None.

    Of a post-copy that broke off, its run has told the end. What was sent, where and how is still true.
    """
    try:
        told = _last_told(state_dir, uuid, ("migration.started",))
    except OSError:
        return None
    data = told.get("data") if told else None
    return data if isinstance(data, dict) else None


def _last_told(state_dir: str, uuid: str, events: t.Container[str] = journal.OF_MOVES) -> dict[str, t.Any] | None:
    """The latest line that says where a guest was going, or what became of it."""
    indexed = guest_runs.runs_of(state_dir, uuid)
    others = all_runs(state_dir) if indexed is None else guest_runs.unindexed(state_dir)
    lasts = [_last_line(run, uuid, events) for run in others]
    for plan_id in reversed(indexed or []):
        last = _last_line(RunDirectory(state_dir, plan_id), uuid, events)
        if last:
            lasts.append(last)
            break
    # Of runs that are not in the index only their clocks tell the order.
    return max((last for last in reversed(lasts) if last), key=lambda last: str(last.get("at", "")), default=None)


def _last_line(run: RunDirectory, uuid: str, events: t.Container[str]) -> dict[str, t.Any] | None:
    told = [
        entry
        for entry in journal.read(run.journal, about=uuid)
        if entry.get("uuid") == uuid and entry.get("event") in events
    ]
    # In a journal the numbers give the order. The clock may have been set back.
    return max(reversed(told), key=lambda entry: int(entry["seq"]), default=None)


def _run(directory: RunDirectory, plan: dict[str, t.Any], started: datetime.datetime) -> dict[str, t.Any]:
    result = read_json(directory.result)
    moved_at = _moved_at(directory, result)
    return {
        "plan": plan.get("id"),
        "goal": plan.get("goal"),
        "started_at": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "finished": result is not None,
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


def _moved_at(directory: RunDirectory, result: t.Any) -> dict[str, str]:
    """When both sides agreed that a guest had moved, by step. A run that ended has summed that up."""
    run = result.get("run") if isinstance(result, dict) else None
    known = run.get("moved_at") if isinstance(run, dict) else None
    return t.cast("dict[str, str]", known) if shape.fits(_MOVED_AT, known) else moved_at(directory)


def moved_at(directory: RunDirectory) -> dict[str, str]:
    """When both sides agreed that a guest had moved, by step, from the journal."""
    return {
        str(entry.get("step")): str(entry.get("at"))
        for entry in journal.read(directory.journal, about="step.verified")
        if entry.get("event") == "step.verified" and (entry.get("data") or {}).get("verdict") == "moved"
    }


def _moment(text: str) -> datetime.datetime:
    # Python 3.9 knows no Z.
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)


def newest_results(state_dir: str, most: int) -> list[t.Any]:
    """What ended runs have written of their steps, the newest runs first: so many steps, and the rest of their run.

    Raises:
        OSError: the records cannot be read.
    """
    ended = []
    for directory in all_runs(state_dir):
        with contextlib.suppress(OSError):
            ended.append((Path(directory.result).stat().st_mtime, directory.result))
    found: list[t.Any] = []
    for _at, path in sorted(ended, reverse=True):
        if len(found) >= most:
            break
        document = read_json(path)
        if shape.fits(document_shapes.RUN_RESULT, document):
            found.extend(document["results"])
    return found
