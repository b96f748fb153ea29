# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one run on one source host. It takes the run lock, or joins the run that has it.

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step
from ansible_collections.kvmops.cluster.plugins.module_utils.run import guest_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.executor import (
    Executor,
    Mover,
    no_refusal,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal, utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import read_json, write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.past_runs import moved_at
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.retention import Retention, tidy
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory, RunError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import (
    RunLock,
    is_run_locked,
    run_lock_holder,
    take_run_lock,
)

RESULT_SCHEMA = "kvmops.result/1"
#: A run that was joined is checked this often.
JOIN_POLL_S = 0.5
TAKE_ATTEMPTS = 3
TAKE_AGAIN_S = 0.2


@dataclasses.dataclass(frozen=True)
class Request:
    """What a run is asked to do.

    Attributes:
        plan: the whole plan.
        steps: those of this host, in order.
        owner: who asked, for those who find the host busy.
        state_dir: where this host keeps its records.
        progress_path: where the controller expects a link to the live lines, or None.
        window: guests in transfer at once.
        start_refusal: why no further step may be begun, or None; asked at each step.
        keep: what is kept of past runs.
    """

    plan: dict[str, t.Any]
    steps: list[Step]
    owner: str
    state_dir: str
    progress_path: str | None
    window: int
    start_refusal: t.Callable[[], Refusal | None] = no_refusal
    keep: Retention = dataclasses.field(default_factory=Retention)


@dataclasses.dataclass
class Stop:
    """How far a run is to be stopped. The first signal lets moves under way finish, the second aborts them."""

    stopping: threading.Event = dataclasses.field(default_factory=threading.Event)
    aborting: threading.Event = dataclasses.field(default_factory=threading.Event)

    def on_signal(self, _number: int, _frame: t.Any) -> None:
        """Take a signal."""
        if self.stopping.is_set():
            self.aborting.set()
        self.stopping.set()


MoverFactory = t.Callable[[Journal, Progress, Stop], t.ContextManager[Mover]]


def run(request: Request, make_mover: MoverFactory, stop: Stop) -> dict[str, t.Any]:
    """Carry out a host's steps, or join the run that does so already.

    Returns: C(results) (a step result each) and C(run) (plan, attached, journal).

    Raises: RunError when another plan is being carried out here.
    """
    plan_id = request.plan["id"]
    directory = RunDirectory(request.state_dir, plan_id)
    while True:
        run_lock = _take(request, plan_id)
        if run_lock:
            return _carry_out(request, directory, run_lock, make_mover, stop)
        if run_lock_holder(request.state_dir).get("plan") != plan_id:
            raise host_busy(request.state_dir)
        result = join_run(request.state_dir, request.progress_path)
        if result is not None:
            return result
        # The joined run died without a result. This run carries on with its plan, from what both sides say.


def _take(request: Request, plan_id: str) -> RunLock | None:
    # A process that checks the lock holds it for that moment. So a first failure means little.
    for _attempt in range(TAKE_ATTEMPTS):
        try:
            run_lock = take_run_lock(request.state_dir, plan_id, request.owner)
        except OSError as error:
            raise _unwritable(request.state_dir, error) from error
        if run_lock:
            return run_lock
        time.sleep(TAKE_AGAIN_S)
    return None


def running_plan(state_dir: str) -> dict[str, t.Any] | None:
    """The plan that is being carried out here, or None: nobody is at work, or the record is not whole."""
    try:
        plan_id = str(run_lock_holder(state_dir).get("plan")) if is_run_locked(state_dir) else ""
        plan = read_json(RunDirectory(state_dir, plan_id).plan)
    except (RunError, OSError):
        return None
    return plan if isinstance(plan, dict) and plan.get("id") == plan_id else None


def host_busy(state_dir: str) -> RunError:
    """The error that another run moves guests away from this host."""
    who = run_lock_holder(state_dir)
    what = "another plan is being carried out here"
    if who.get("plan"):
        what = (
            f"plan {who['plan']} of {who.get('owner')} is being carried out here since {who.get('since')}"
            f" (process {who.get('pid')})"
        )
    return RunError(
        refusal(
            "busy",
            what,
            "wait for its end (plan_apply with attach_only: true shows it), then begin again; a plan is made anew",
        )
    )


def run_died(state_dir: str) -> RunError:
    """The error that the last run on this host ended without a result: it says not what became of its guests."""
    plan = run_lock_holder(state_dir).get("plan")
    return RunError(
        refusal(
            "run_died",
            f"the run of plan {plan or '(unknown)'} ended without a result: it was killed, or its disk is full, and a"
            " guest may still be moving",
            "run the plan again: it joins a move in flight, and asks both sides where each guest is",
        )
    )


def _unwritable(state_dir: str, error: OSError) -> RunError:
    return RunError(
        refusal(
            "state_dir",
            f"the records of this run cannot be kept in {state_dir} ({error.strerror or error}); nothing was started",
            "run as root (become: true), make room there, or give another state_dir",
        )
    )


def join_run(state_dir: str, progress_path: str | None) -> dict[str, t.Any] | None:
    """Wait for the end of the run that is at work here and return its result, or None if it died without one."""
    directory = RunDirectory(state_dir, str(run_lock_holder(state_dir).get("plan", "")) or "unknown")
    _link(directory.progress, progress_path)
    while is_run_locked(state_dir):
        time.sleep(JOIN_POLL_S)
    document = read_json(directory.result)
    if not shape.fits(document_shapes.RUN_RESULT, document) or document["schema"] != RESULT_SCHEMA:
        return None
    joined = {key: value for key, value in document["run"].items() if key != "moved_at"}
    return {"results": document["results"], "run": {**joined, "attached": True}}


def _carry_out(
    request: Request, directory: RunDirectory, run_lock: RunLock, make_mover: MoverFactory, stop: Stop
) -> dict[str, t.Any]:
    with contextlib.ExitStack() as ending:
        ending.callback(run_lock.release)
        try:
            directory.make(request.plan)
            journal = guest_runs.open_journal(request.state_dir, directory)
            ending.callback(journal.close)
            progress = Progress(directory.progress)
            ending.callback(progress.end)
            _link(directory.progress, request.progress_path)
            ids = [step["id"] for step in request.steps]
            progress.begin(os.getpid(), ids)
            journal.write("run.started", owner=request.owner, pid=os.getpid(), steps=ids)
        except OSError as error:
            raise _unwritable(request.state_dir, error) from error
        with _signals(stop), make_mover(journal, progress, stop) as mover:
            executor = Executor(
                mover,
                journal,
                progress,
                window=request.window,
                stopping=stop.stopping,
                start_refusal=request.start_refusal,
            )
            results = executor.run(request.steps)
        document = _conclude(request, directory, journal, results)
        # A bug there must not hide what became of the guests.
        with contextlib.suppress(Exception):
            tidy(request.state_dir, request.keep)
        return document


def _conclude(request: Request, directory: RunDirectory, journal: Journal, results: list[Result]) -> dict[str, t.Any]:
    run_record = {"plan": request.plan["id"], "attached": False, "journal": directory.journal, "finished_at": utc_now()}
    # With a full disk, runs that have joined get no result. The caller gets it all the same.
    with contextlib.suppress(OSError):
        journal.write("run.finished", outcomes={one["step"]: one["outcome"] for one in results})
        kept = {**run_record, "moved_at": moved_at(directory)}
        write_durably(directory.result, {"schema": RESULT_SCHEMA, "results": results, "run": kept})
    return {"results": results, "run": run_record}


@contextlib.contextmanager
def _signals(stop: Stop) -> t.Iterator[None]:
    """Take the signals that ask a run to stop. A hangup is ignored: a run outlives the session that began it."""
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop.on_signal),
        signal.SIGINT: signal.signal(signal.SIGINT, stop.on_signal),
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _link(progress: str, link: str | None) -> None:
    if link:
        # Then nobody sees the lines, and that does no harm.
        with contextlib.suppress(OSError):
            os.symlink(progress, link)
