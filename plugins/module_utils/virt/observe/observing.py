# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: measures the guests of this host, and writes what is known of them for Prometheus. It moves
# nobody, and changes nothing of a guest.

from __future__ import annotations

import dataclasses
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import LeaseError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease_clock import rest_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics import foreseen, past_moves
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.guest_expectation import Lessons
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.host_metrics import Observation, host_metrics
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB
from ansible_collections.kvmops.cluster.plugins.module_utils.run import history, leases
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    write_durably,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.past_runs import newest_results
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import is_run_locked
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host as hosts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import working_sets
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.observe import textfile

#: Where Debian's exporter reads files.
DEFAULT_PATH = "/var/lib/prometheus/node-exporter/kvmops.prom"
FORESEEN_FILE = "foreseen.json"
#: Of so many steps, the newest, a last move is told.
MOST_STEPS = 500


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be observed, and where it is written.

    Attributes:
        uri, name, state_dir, shared_devices: as modules take them.
        path: the file.
        measure_s: seconds for measuring all guests; 0: nothing is measured, and the last measurements count.
        allow_monitor, look_at_memory: how is measured, as C(working_set_info) takes them.
        bandwidth_mib_s: what the operator says that the link gives; None: what moves have shown.
        window_s: how long a drain of this host may take.
        intent: what the operator permits and accepts, as stated.
    """

    uri: str
    name: str
    state_dir: str
    path: str
    shared_devices: t.Sequence[str] = ()
    measure_s: float = 0.0
    allow_monitor: bool = False
    look_at_memory: bool = True
    bandwidth_mib_s: float | None = None
    window_s: float | None = None
    intent: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Observed:
    """What came of it.

    Attributes:
        text: the new content of the file.
        measured: names of guests that were measured now.
        refusals: why others were not.
    """

    text: str
    measured: list[str]
    refusals: list[dict[str, t.Any]]


def observe(request: Request, *, write: bool, plan: t.Mapping[str, t.Any] | None = None) -> Observed:
    """Measure, keep what was measured, and write the file.

    Args:
        write: False changes nothing, and measures nothing.
        plan: a plan to be told of from now on.

    Raises:
        VirtError: libvirt does not answer, or an option makes no sense.
        TextfileError: the file cannot be written.
        PlanError: it is no plan.
    """
    intent = _stated(request.intent)
    kept = None if plan is None else foreseen.foreseen(read_plan(plan), request.name)
    if kept is not None and write:
        _keep(request.state_dir, kept)
    at_work = is_run_locked(request.state_dir)
    found = _measured(request, measure=write and request.measure_s > 0 and not at_work)
    with connected(request.uri, read_only=True) as connection:
        taken = hosts.snapshot(
            connection, name=request.name, state_dir=Path(request.state_dir), shared_devices=request.shared_devices
        )
    text = host_metrics(_observation(request, taken, intent, kept or last_plan(request.state_dir), at_work=at_work))
    if write:
        textfile.replace(request.path, text)
    return Observed(text, [one["guest"]["name"] for one in found["working_sets"]], found["refusals"])


def last_plan(state_dir: str) -> dict[str, t.Any] | None:
    """What this host was told of a plan last; None: nothing, or it cannot be read."""
    document = read_json(os.path.join(state_dir, FORESEEN_FILE))
    return document if shape.fits(foreseen.FORESEEN, document) else None


def _keep(state_dir: str, document: t.Mapping[str, t.Any]) -> None:
    try:
        make_directory(state_dir, 0o755)
        write_durably(os.path.join(state_dir, FORESEEN_FILE), document)
    except OSError as error:
        raise VirtError(
            refusal(
                "plan_not_kept",
                f"what the plan says of this host cannot be kept in {state_dir}: {error.strerror or error}",
                "run as root (become: true), and see whether the file system is full or read-only",
            )
        ) from error


def _measured(request: Request, *, measure: bool) -> dict[str, t.Any]:
    if not measure:
        return {"working_sets": [], "refusals": []}
    return working_sets.measure(
        working_sets.Request(
            uri=request.uri,
            host=request.name,
            state_dir=request.state_dir,
            guests=None,
            budget_s=request.measure_s,
            allow_monitor=request.allow_monitor,
            sample_memory=request.look_at_memory,
            bandwidth_bytes_per_s=int((request.bandwidth_mib_s or 0) * MIB),
        ),
        utc_now,
    )


def _observation(
    request: Request,
    taken: dict[str, t.Any],
    intent: t.Mapping[str, t.Any],
    plan: dict[str, t.Any] | None,
    *,
    at_work: bool,
) -> Observation:
    now = leases.clock()
    try:
        lease = leases.load(request.state_dir, request.name)
    except LeaseError:
        lease = None
    return Observation(
        now=now.wall.timestamp(),
        snapshot=taken,
        lessons=_lessons(request, [domain["uuid"] for domain in taken["domains"]]),
        intent=intent,
        window_s=request.window_s,
        moves=past_moves.moves(newest_results(request.state_dir, MOST_STEPS)),
        lease=lease,
        lease_rest_s=rest_s(lease, now) if lease is not None and lease["run"] is not None else 0.0,
        run_at_work=at_work,
        plan=plan,
    )


def _lessons(request: Request, uuids: t.Iterable[str]) -> Lessons:
    sets, guests = {}, {}
    for uuid in uuids:
        kept = history.measurements(request.state_dir, uuid)
        if kept:
            sets[uuid] = kept[-1]
        state = history.calibration(request.state_dir, "guest", uuid)
        if state is not None:
            guests[uuid] = state
    stated = request.bandwidth_mib_s
    return Lessons(
        working_sets=sets,
        guests=guests,
        paths=history.calibrations(request.state_dir, "path"),
        stated_bytes_per_s=stated * MIB if stated else None,
    )


def _stated(intent: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    try:
        return intents.stated(intent)
    except intents.IntentError as error:
        raise VirtError(error.refusal) from error
