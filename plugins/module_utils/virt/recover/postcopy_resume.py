# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: resumes a post-copy that broke off, and looks at both sides until it is over.

# libvirt's answer is not the truth here. Before 11.0 it may report a failure while QEMU goes on, and right after the
# cut it may refuse because QEMU has not noticed yet.

from __future__ import annotations

import contextlib
import dataclasses
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, Verdict
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    UnansweredError,
    within,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.control_loop import sample_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext

#: Nothing more is tried after so long without any progress: neither a byte less to send, nor another state.
PATIENCE_S = 120.0
#: A call of libvirt that is under way is awaited for longer: it may still be on its way to the other host, and it goes
#: on whether or not anybody waits.
CALL_PATIENCE_S = 900.0
#: Between two tries, and between two looks.
TRY_AGAIN_S = 3.0
POLL_S = 0.5
#: After libvirt's call has ended, both sides may take so long to agree.
AGREE_S = 15.0
#: A refusal that is no matter of time is not asked for more often.
MOST_REFUSALS = 3
_AFTERWARDS = "end of file while reading data"
#: What passes: QEMU has not noticed the cut, another thread is at it, or the link broke again (libvirt's
#: src/qemu/qemu_migration.c).
PASSING = (
    "still running",
    "already in progress",
    "actively monitored",
    "has not failed",
    "post-copy phase",
    "unable to connect",
    "failed to connect",
    "unable to write to socket",
    "broken pipe",
    "connection",
    _AFTERWARDS,
    "keepalive",
    "timed out",
    "state change lock",
)

Prove = t.Callable[[], t.Optional[Refusal]]


@dataclasses.dataclass(frozen=True)
class Ended:
    """How it ended.

    Attributes:
        verdict: of both sides.
        here, there: the guest at its source and at its destination.
        error: the last one of libvirt, or None.
        elapsed_s: from the first call on.
    """

    verdict: Verdict
    here: Side
    there: Side
    error: str | None
    elapsed_s: float


class _Call(threading.Thread):
    """The one call of libvirt that resumes a guest. It returns when the guest is whole, or the post-copy has failed."""

    def __init__(self, domain: t.Any, uri: str, decision: Decision) -> None:
        super().__init__(name=f"resume-{domain.UUIDString()}", daemon=True)
        self._domain, self._uri, self._decision = domain, uri, decision
        self.error: str | None = None

    def run(self) -> None:
        flags = 0
        for name in self._decision.flags:
            flags |= getattr(virt.libvirt, "VIR_MIGRATE_" + name)
        try:
            self._domain.migrateToURI3(self._uri, dict(self._decision.parameters), flags)
        except virt.libvirt.libvirtError as error:
            self.error = str(error)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            self.error = f"{type(error).__name__}: {error}"


class PostcopyResume:
    """Resumes one guest.

    Args:
        context: of the run, with writable connections.
        move: under way.
        decision: flags and parameters of the call.
        prove: why the link between both hosts does not work now, or None. Asked before each call.
    """

    def __init__(self, context: MoveContext, move: Move, decision: Decision, prove: Prove) -> None:
        self._context = context
        self._move = move
        self._decision = decision
        self._prove = prove
        self._left_bytes: int | None = None
        self._progress_at = context.clock()
        self._told = ""

    def run(self) -> Ended:
        """Resume it until it is whole, nothing helps any more, or the run is stopped."""
        clock, started = self._context.clock, self._context.clock()
        error, refused = None, 0
        self._progress_at = started
        while True:
            why = self._prove()
            if why is None:
                answer = self._call()
                refused += 1 if answer and not _passes(answer) else 0
                # What it says of the way to the other libvirt, after a failure for another reason, tells nothing.
                error = error if error and answer and _AFTERWARDS in answer.lower() else answer
            else:
                error = f"{why['reason']} ({why['remedy']})"
            verdict, here, there = self._agreement()
            over = refused >= MOST_REFUSALS or clock() >= self._progress_at + PATIENCE_S or self._context.is_stopping
            if verdict.kind == "moved" or not _may_resume(here, there) or over:
                return Ended(verdict, here, there, error, clock() - started)
            self._tell(f"not resumed yet: {error or verdict.reason}; trying again")
            self._context.sleep(TRY_AGAIN_S)

    def _call(self) -> str | None:
        """Call libvirt once, and show how far the guest is meanwhile; returns its error, or None."""
        step = self._move.step
        dummy, target = self._context.hosts.endpoints(step)
        try:
            call = _Call(self._context.hosts.domain(step), target.uri, self._decision)
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            return str(error)
        self._told, called_at = "", self._context.clock()
        call.start()
        while call.is_alive():
            call.join(POLL_S)
            self._look(step)
            if call.is_alive() and self._context.clock() >= max(called_at, self._progress_at) + CALL_PATIENCE_S:
                return f"libvirt has not answered, and nothing was sent for {human_seconds(CALL_PATIENCE_S)}"
        # While it lasted, no other call could have helped.
        now = self._context.clock()
        self._progress_at = min(now, self._progress_at + now - called_at)
        return call.error

    def _look(self, step: Step) -> None:
        """Note progress, and show it."""
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError, UnansweredError):
            job = within(ANSWER_TIMEOUT_S, lambda: self._context.hosts.domain(step).jobStats(0))
            if job.get("type") != virt.libvirt.VIR_DOMAIN_JOB_UNBOUNDED:
                return
            sample = sample_of(job, 0.0)
            if sample.remaining_bytes != self._left_bytes:
                self._left_bytes, self._progress_at = sample.remaining_bytes, self._context.clock()
                total = int(job.get("memory_total", 0))
                self._context.reporter.figures(step, "post-copy", sample, total, fresh_round=False)

    def _agreement(self) -> tuple[Verdict, Side, Side]:
        """What both sides say, once they agree; what is under way is awaited as long as it makes progress."""
        step = self._move.step

        def watching(here: Side, there: Side) -> bool:
            self._look(step)
            return self._context.clock() < self._progress_at + PATIENCE_S and not self._context.is_stopping

        return guest_state.await_agreement(
            self._context.connections,
            step["guest"]["name"],
            step["guest"]["uuid"],
            self._context.hosts.endpoints(step),
            timeout_s=AGREE_S,
            clock=self._context.clock,
            sleep=self._context.sleep,
            watching=watching,
        )

    def _tell(self, words: str) -> None:
        if words != self._told:
            self._told = words
            self._move.log.tell("migration.decision", "post-copy", words, action="resume_postcopy", reason=words)


def _passes(error: str) -> bool:
    return any(part in error.lower() for part in PASSING)


def _may_resume(here: Side, there: Side) -> bool:
    """Whether another call may help: the source has its half, and the destination is not known to have lost the other.

    A destination that does not answer now may be restarting its daemon.
    """
    return here.reachable and here.active and (there.active or not there.reachable)
