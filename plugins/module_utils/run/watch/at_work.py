# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the run that is at work on this host, for people who have not started it. It only reads.

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import (
    document_shapes,
    lease_clock,
    shape,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import LeaseError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.run_progress import line_of, run_progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_file, read_json
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import run_lock_holder
from ansible_collections.kvmops.cluster.plugins.module_utils.run.runner import running_plan

#: What of a lease says who has the host.
_WHO = ("owner", "run", "purpose", "since", "expires_at")


def at_work(state_dir: str, now: datetime.datetime | None = None) -> dict[str, t.Any] | None:
    """How far the run is that moves guests away from this host, or None where none does.

    Args:
        state_dir: where this host keeps its records.
        now: for tests.

    Raises:
        OSError: the records cannot be read.
    """
    plan = running_plan(state_dir)
    if plan is None or not shape.fits(document_shapes.KEPT_PLAN, plan):
        return None
    directory = RunDirectory(state_dir, str(plan["id"]))
    holder = run_lock_holder(state_dir)
    moment = now or datetime.datetime.now(datetime.timezone.utc)
    lines, read_bytes = progress_lines(directory.progress)
    return {
        **run_progress(plan, holder, lines, moment),
        "progress": directory.progress,
        "progress_bytes": read_bytes,
    }


def progress_lines(path: str) -> tuple[list[dict[str, t.Any]], int]:
    """The whole lines of a progress file, and how many bytes they have; the next one comes behind them.

    What is no such line is left out.
    """
    try:
        whole, newline, _rest = read_file(path).rpartition(b"\n")
    except FileNotFoundError:
        return [], 0
    texts = whole.decode("utf-8", "replace").split("\n")
    return [line for line in map(line_of, texts) if line is not None], len(whole + newline)


def results_of(state_dir: str, plan_id: str) -> list[dict[str, t.Any]] | None:
    """What became of each step of a plan on this host; None if its run has not ended, or died.

    Raises:
        RunError: no plan has such an id.
        OSError: the record cannot be read.
    """
    document = read_json(RunDirectory(state_dir, plan_id).result)
    return document["results"] if shape.fits(document_shapes.RUN_RESULT, document) else None


def lease_holder(state_dir: str, host: str) -> dict[str, t.Any] | None:
    """Who has this host; None if nobody has, or if that cannot be read."""
    try:
        lease = leases.load(state_dir, host)
    except LeaseError:
        return None
    if lease["owner"] is None or lease_clock.rest_s(lease, leases.clock()) <= 0:
        return None
    return {key: lease[key] for key in _WHO}
