# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one run on a host that finds moves that broke off, and finishes those that safely can be.

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import connect_uri
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import recovery_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import recovery
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.broken_move import ACTS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step
from ansible_collections.kvmops.cluster.plugins.module_utils.run import runner
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal, utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.retention import Retention
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import is_run_locked
from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import split_marks
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import MoveReporter
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import module_common
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.mover import STAYS
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.recover import left_changed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.recover.finding import Finder, Found
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.recover.recoverer import Recoverer, step_of

NOTHING_DONE = {"plan": None, "attached": False}


def recover(parameters: t.Mapping[str, t.Any], name: str, *, check_mode: bool) -> dict[str, t.Any]:
    """Find and finish the broken moves of this host, or only say what that would do.

    Args:
        parameters: the module's.
        name: this host's.

    Returns: the module's C(changed), C(guests), C(changed_back) and C(run).

    Raises: VirtError, RunError for what keeps this host from being looked at, or from being worked on.
    """
    settings = _settings(parameters, name)
    with Connections(read_only=True) as connections:
        found = Finder(connections, settings).find(parameters["guests"])
        steps = _steps(found)
        connection = connections.get(settings.source.uri).connection
        left = left_changed.limits(connection, settings.state_dir, settings.boot_id, restore=False)
        left += left_changed.taken(settings.state_dir)
        if check_mode:
            return _checked(connections, settings, found, steps, left)
        others = {one.guest["uuid"]: _other_end(one, name) for one in found}
        _sync_mark(connection, settings, others)
        # Whoever is at work gives back what it has taken.
        idle = not steps and (not left or is_run_locked(settings.state_dir))
        if idle or not parameters["finish"]:
            return _document(found, {}, [], NOTHING_DONE, finishes=parameters["finish"])
    try:
        return _carried_out(parameters, settings, found, steps)
    finally:
        with contextlib.suppress(VirtError, virt.libvirt.libvirtError), Connections(read_only=True) as connections:
            _sync_mark(connections.get(settings.source.uri).connection, settings, others)


def _sync_mark(connection: t.Any, settings: Settings, others: t.Mapping[str, str | None]) -> None:
    """Bring the mark of this host up to date."""
    active = connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    split_marks.sync(active, settings.state_dir, others)


def _other_end(found: Found, here: str) -> str | None:
    """The host that has the other half of a guest, or None where nobody knows."""
    ends = (found.diagnosis.source, found.diagnosis.destination)
    return next((end for end in ends if end is not None and end != here), None)


def _settings(parameters: t.Mapping[str, t.Any], name: str) -> Settings:
    """Raises: VirtError for an address that nobody may open."""
    hosts: dict[str, dict[str, t.Any]] = {}
    for host, known in parameters["connect"].items():
        told = known if isinstance(known, dict) else {}
        if host == name:
            continue
        fault = connect_uri.fault_of(told.get("connect_uri"), whose=str(host))
        if fault:
            raise VirtError(fault)
        hosts[str(host)] = {
            "connect_uri": told["connect_uri"],
            "migration_address": told.get("migration_address") or None,
        }
    return Settings(
        source=Endpoint(name, parameters["uri"]),
        state_dir=parameters["state_dir"],
        destinations=hosts,
        reserve_bytes=0,
        incoming_limit=1,
        boot_id=boot_id(),
        witnesses=hosts,
    )


def _steps(found: t.Sequence[Found]) -> dict[str, tuple[Step, Found]]:
    """The steps for what this host can finish, by their ids."""
    acts = [one for one in found if one.diagnosis.kind in ACTS]
    made = ((step_of(one, number), one) for number, one in enumerate(acts, 1))
    return {step["id"]: (step, one) for step, one in made}


def _checked(
    connections: Connections,
    settings: Settings,
    found: t.Sequence[Found],
    steps: t.Mapping[str, tuple[Step, Found]],
    left: list[str],
) -> dict[str, t.Any]:
    never = threading.Event()
    reporter = MoveReporter(None, module_common.NoProgress(), utc_now)
    context = MoveContext(connections, settings, reporter, never, never)
    recoverer = Recoverer(context, Finder(connections, settings))
    results = [recoverer.check(step, one) for step, one in steps.values()]
    return _document(found, _by_guest(results), left, NOTHING_DONE)


def _carried_out(
    parameters: t.Mapping[str, t.Any],
    settings: Settings,
    found: t.Sequence[Found],
    steps: t.Mapping[str, tuple[Step, Found]],
) -> dict[str, t.Any]:
    """Finish moves under the host's run lock, or join the run that does so already."""
    state_dir, source = settings.state_dir, settings.source.host
    now = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    ends = {step["destination"] for step, dummy in steps.values()} | {source}
    unknown = {"host_uuid": "", "connect_uri": None, "migration_address": None}
    hosts = {host: {**unknown, **settings.destinations.get(host, {})} for host in sorted(ends)}
    plan = recovery_plan.plan_of(source, [step for step, dummy in steps.values()], hosts, now, secrets.token_hex(2))
    running = runner.running_plan(state_dir)
    if running and str(running["id"]).startswith(f"{recovery_plan.RECOVER}-"):
        plan = {**plan, "id": running["id"]}
    if parameters["progress_path"]:
        # Where that cannot be, nobody sees the lines, and the run goes on all the same.
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(parameters["progress_path"]), mode=0o700, exist_ok=True)
    request = runner.Request(
        plan=plan,
        steps=plan["steps"],
        owner=parameters["owner"],
        state_dir=state_dir,
        progress_path=parameters["progress_path"],
        window=max(1, len(steps)),
        keep=Retention(parameters["keep_runs"], parameters["keep_days"]),
    )
    given_back: list[str] = []

    @contextlib.contextmanager
    def make_mover(journal: Journal, progress: Progress, stop: runner.Stop) -> t.Iterator[Recoverer]:
        with Connections(read_only=False) as writable:
            given_back.extend(_give_back(writable, settings, plan["steps"], journal, progress))
            context = MoveContext(
                writable, settings, MoveReporter(journal, progress, utc_now), stop.aborting, stop.stopping
            )
            yield Recoverer(context, Finder(writable, settings))

    document = runner.run(request, make_mover, runner.Stop())
    module_common.digest_left(document["results"], state_dir)
    return _document(found, _by_guest(document["results"]), given_back, document["run"])


def _give_back(
    connections: Connections,
    settings: Settings,
    steps: t.Sequence[Step],
    journal: Journal,
    progress: Progress,
) -> list[str]:
    """Restore what runs that died have left changed; returns what was done, in words."""
    told = _Told(progress)
    module_common.give_back_memory(connections, settings, journal, told)
    module_common.hand_over_left_settings(connections, settings, steps, journal, told)
    connection = connections.get(settings.source.uri).connection
    for words in left_changed.limits(connection, settings.state_dir, settings.boot_id, restore=True):
        told.write("setup", words)
    return told.words


class _Told:
    """A display that also keeps what it was told."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.words: list[str] = []

    def write(self, phase: str, message: str, *, step: Step | None = None, level: int = 0, **figures: t.Any) -> None:
        """Show one line, and keep it."""
        self.words.append(message)
        self._progress.write(phase, message, step=step, level=level, **figures)

    def due(self, step: Step, phase: str) -> bool:
        """Whether it is time for the next line about this guest."""
        return self._progress.due(step, phase)


def _by_guest(results: t.Iterable[Result]) -> dict[str, Result]:
    return {result["guest"]["uuid"]: result for result in results}


def _document(
    found: t.Sequence[Found],
    results: t.Mapping[str, Result],
    given_back: list[str],
    run: t.Mapping[str, t.Any],
    *,
    finishes: bool = True,
) -> dict[str, t.Any]:
    rows = []
    for one in found:
        row, result = recovery.row(one.guest, one.diagnosis, one.sides), results.get(one.guest["uuid"])
        if result is not None:
            row = recovery.with_result(row, result, stays=_stays(result))
        elif one.diagnosis.kind in ACTS and finishes:
            # Another run of this kind has been joined, and it did not have this guest.
            row = {**row, "outcome": "not_started", "remedy": "run it again"}
        rows.append(row)
    changed = bool(given_back) or any(row["outcome"] in recovery.CHANGED for row in rows)
    return {
        "changed": changed,
        "guests": rows,
        "changed_back": given_back,
        "run": {key: run.get(key) for key in ("plan", "attached")},
    }


def _stays(result: Result) -> bool:
    return result["outcome"] == "refused" and [one["code"] for one in result["refusals"]] == [STAYS]
