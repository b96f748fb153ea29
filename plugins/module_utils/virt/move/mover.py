# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one guest from here to there, from the first look to the last.

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import reforecast_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, Verdict
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import to_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy import available_methods
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Appraisal, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision, Path, decide
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import explained
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import fallback, migration_socket, past_moves
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.concurrency import SendingMoves
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.control_loop import ControlLoop
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.job import MigrationEnding, MigrationJob
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import (
    Answers,
    Preconditions,
    Result,
    Settings,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preparation import (
    Preparation,
    PreparationOptions,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.reporting import LinkSignals, MoveReporter, Step
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.step_log import StepLog
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.verification import (
    DestinationEvidence,
    Verification,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.waiting import HostWaits, StoppedError

#: What two hosts said longer ago than this is asked again before a guest is sent.
STALE_S = 5.0
ENDED_ELSEWHERE = "the migration that was under way took it elsewhere, or it was shut down meanwhile"


@dataclasses.dataclass(frozen=True)
class _Attempt:
    """One try to move a guest: what was asked, what it is to cost, and how it is done."""

    step: Step
    log: StepLog
    answers: Answers
    appraised: Appraisal
    decision: Decision
    definition: str | None
    signals: LinkSignals
    take_link_slot: t.Callable[[], bool]
    may_restart: bool = True


@contextlib.contextmanager
def _only_told(log: StepLog) -> t.Iterator[None]:
    """Tell of a mistake in what is made of a move's figures; it must not put in doubt where the guest is."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
        log.note(f"nothing was learned from this move ({type(error).__name__}: {error})")


class GuestMover:
    """Moves guests away from this host, one call a guest; calls may overlap.

    Args:
        connections: writable ones for moving, read-only ones for checking.
        settings: what is the same for all moves.
        reporter: writes the journal and the progress lines.
        interrupted: when set, what is in pre-copy is aborted.
        stopping: when set, nobody waits for a destination any longer, and no guest is sent.
        preparation: what is done to each guest around its move.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        reporter: MoveReporter,
        interrupted: threading.Event,
        stopping: threading.Event,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
        *,
        preparation: PreparationOptions | None = None,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._reporter = reporter
        self._interrupted = interrupted
        self._stopping = stopping
        self._clock = clock
        self._sleep = sleep
        self._preconditions = Preconditions(connections, settings)
        self._verification = Verification(connections, settings, self._preconditions, clock, sleep)
        self._sending_moves = SendingMoves()
        self._host_waits = HostWaits(self._preconditions, settings, stopping, clock, sleep)
        self._preparation = Preparation(
            preparation or PreparationOptions(),
            settings.state_dir,
            settings.source.host,
            interrupted,
            self._preconditions.domain_at,
            clock,
            sleep,
        )

    def check(self, step: Step) -> Result:
        """What moving a guest would do. Changes nothing and needs no writable connection."""
        try:
            here, there = self._preconditions.look(step)
            known = self._preconditions.known_end(step, here, there)
            if known:
                return known
            answers = self._preconditions.ask(step)
            if answers.refusals:
                return step_result(step, "refused", refusals=answers.refusals)
            choice = self._appraise(step, answers).choice
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return step_result(step, "refused", refusals=[_why_not(error)])
        if choice["refusal"]:
            return step_result(step, "refused", refusals=[choice["refusal"]])
        return step_result(step, "would_move", strategy=choice["method"], reason=choice["reason"], forecast=choice)

    def move(
        self,
        step: Step,
        transferred: t.Callable[[], None],
        take_link_slot: t.Callable[[], bool] = lambda: True,
        nearly_transferred: t.Callable[[], None] = lambda: None,
    ) -> Result:
        """Move a guest; the result says what became of it, judged from both sides.

        Args:
            step: of a plan.
            transferred: called once its memory is over and the link is free.
            take_link_slot: waits until the link is free for this guest; False when nothing is to be begun any more. It
                is asked again right before the guest is sent, each time.
            nearly_transferred: called when its memory will be over in a moment.
        """
        signals = LinkSignals(transferred, nearly_transferred)
        log = StepLog(step, self._reporter, self._clock)
        try:
            log.tell("step.started", "setup", "looking at both sides", level=1)
            self._verification.restore_limits(step, log)
            go_on = self._before(step, log, signals, take_link_slot)
        except StoppedError:
            return self._stopped(step, log)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return log.refuse([_why_not(error)])
        return go_on()

    def _stopped(self, step: Step, log: StepLog) -> Result:
        """The result of a step that the run was stopped before."""
        if self._interrupted.is_set():
            why = refusal("interrupted", "it was interrupted before it began", "start it again when you are ready")
            return log.refuse([why])
        return step_result(step, "not_started", error="the run was stopped before its turn")

    def _must_go_on(self, take_link_slot: t.Callable[[], bool]) -> None:
        """Asked last before anything is done to a guest, as what came before may have taken an hour.

        Raises: StoppedError when nothing is to be begun any more.
        """
        if self._interrupted.is_set() or self._stopping.is_set() or not take_link_slot():
            raise StoppedError

    def _before(
        self, step: Step, log: StepLog, signals: LinkSignals, take_link_slot: t.Callable[[], bool]
    ) -> t.Callable[[], Result]:
        """All that comes before something is done to the guest; returns what is to be done."""
        here, there = self._preconditions.look(step)
        if here.state == "paused" and here.state_reason == "migration" and not here.migrating:
            here, there = self._verification.resolve_paused(step, log)
        known = self._preconditions.known_end(step, here, there)
        if known:
            return lambda: self._close(step, log, known, here, there)
        if here.migrating:
            # It is using the link already, whoever's turn it is.
            return lambda: self._adopt(step, log, there)
        missing = self._host_waits.others(step, log)
        if missing:
            return lambda: log.refuse(missing)
        answers, asked_at = self._preconditions.ask(step), self._clock()
        appraised = None if answers.refusals else self._appraise(step, answers)
        if not take_link_slot():
            raise StoppedError
        refusals = answers.refusals or self._host_waits.slot(step, log)
        if not refusals and self._clock() >= asked_at + STALE_S:
            # While it waited, other guests took memory there, or somebody closed the host; and those taught something.
            answers = self._preconditions.ask(step)
            refusals = answers.refusals
            appraised = None if refusals else self._appraise(step, answers)
        if appraised and appraised.choice["refusal"]:
            refusals = [appraised.choice["refusal"]]
        if refusals or not appraised:
            return lambda: log.refuse(refusals)
        self._must_go_on(take_link_slot)
        return lambda: self._with_care(step, log, answers, appraised, signals, take_link_slot)

    def _with_care(
        self,
        step: Step,
        log: StepLog,
        answers: Answers,
        appraised: Appraisal,
        signals: LinkSignals,
        take_link_slot: t.Callable[[], bool],
    ) -> Result:
        """Move the guest, with what has to be done to it before and after."""
        asked_at, rate = self._clock(), appraised.link.bandwidth_bytes_per_s if appraised.link else None
        with self._preparation.prepared(step, answers.guest, answers.intent, log.tell, bytes_per_s=rate) as ready:
            if ready.refusals:
                return log.refuse(ready.refusals)
            try:
                if ready.freed_bytes or self._clock() >= asked_at + STALE_S:
                    answers, appraised = self._anew(step, ready.freed_bytes)
                attempt, job = self._begin(step, log, answers, appraised, signals, take_link_slot)
            except StoppedError:
                result = self._stopped(step, log)
                ready.ended(result["outcome"])
                return result
            except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
                ready.ended("refused")
                return log.refuse([_why_not(error)])
            result = self._migrate(attempt, job)
            ready.ended(result["outcome"])
            return result

    def _anew(self, step: Step, freed_bytes: int) -> tuple[Answers, Appraisal]:
        """Ask both hosts once more, as getting ready may take long; VirtError for what they now have against the move.

        What was freed need not travel; for the rest, the guest is as it was measured.
        """
        answers = self._preconditions.ask(step)
        if answers.refusals:
            raise virt.VirtError(answers.refusals[0])
        appraised = self._appraise(step, answers, freed_bytes=freed_bytes)
        if appraised.choice["refusal"]:
            raise virt.VirtError(appraised.choice["refusal"])
        return answers, appraised

    def _begin(
        self,
        step: Step,
        log: StepLog,
        answers: Answers,
        appraised: Appraisal,
        signals: LinkSignals,
        take_link_slot: t.Callable[[], bool],
    ) -> tuple[_Attempt, MigrationJob]:
        """The last that comes before libvirt is asked to move the guest."""
        decision = self._decide(step, answers, appraised)
        definition = _definition(self._preconditions.domain(step))
        attempt = _Attempt(step, log, answers, appraised, decision, definition, signals, take_link_slot)
        job = self._job(attempt)
        before = self._verification.qemu_instance_of(step)
        self._must_go_on(take_link_slot)
        log.begin(decision, before)
        return attempt, job

    def _appraise(
        self, step: Step, answers: Answers, tried: fallback.FallbackHistory | None = None, *, freed_bytes: int = 0
    ) -> Appraisal:
        known = past_moves.load(self._settings, step, freed_bytes=freed_bytes)
        if tried:
            known = tried.applied_to(known)
        return appraise(
            answers.guest,
            answers.source,
            answers.destination,
            answers.intent,
            known,
            disks=[disk for disk in to_copy(answers.guest, answers.intent) if disk["copy_bytes"]],
            without=tried.methods if tried else (),
        )

    def _decide(self, step: Step, answers: Answers, appraised: Appraisal) -> Decision:
        known = self._settings.destinations[step["destination"]]
        path = Path(
            connect_uri=known["connect_uri"],
            migration_address=known.get("migration_address"),
            postcopy=available_methods.cannot_send_postcopy(answers.source) is None,
        )
        return decide(
            answers.intent,
            path,
            appraised.choice,
            persistent=bool(answers.guest["persistent"]),
            in_use_bytes=int(appraised.working_set["touched_bytes"]),
            disks_to_copy=[disk["target"] for disk in to_copy(answers.guest, answers.intent)],
            link=appraised.link,
        )

    def _job(self, attempt: _Attempt) -> MigrationJob:
        source, target = self._preconditions.endpoints(attempt.step)
        here, there = self._connections.get(source.uri), self._connections.get(target.uri)
        domain = here.connection.lookupByUUIDString(attempt.step["guest"]["uuid"])
        return MigrationJob(domain, target.uri, attempt.decision, here.events, there.events, clock=self._clock)

    def _migrate(self, attempt: _Attempt, job: MigrationJob) -> Result:
        """Move the guest, and where the way that was chosen does not do, by the next best one."""
        tried = fallback.FallbackHistory()
        while True:
            verdict, here, there, ending = self._try(attempt, job)
            if verdict.kind == "moved":
                mended, fault = self._verification.repair_definitions(attempt.step, here, there, attempt.definition)
                self._learn(attempt, ending)
                return attempt.log.moved(ending, mended, fault)
            again = self._another_way(attempt, tried, verdict, ending)
            if again is None:
                return attempt.log.not_moved(ending, verdict)
            attempt, job = again

    def _learn(self, attempt: _Attempt, ending: MigrationEnding) -> None:
        with _only_told(attempt.log):
            past_moves.calibrate(self._settings, attempt.step, attempt.appraised, attempt.decision, ending)

    def _learn_set_up(self, attempt: _Attempt, job: MigrationJob) -> None:
        with _only_told(attempt.log):
            past_moves.calibrate_set_up(
                self._settings, attempt.step, attempt.appraised, attempt.decision, job.observation
            )

    def _another_way(
        self, attempt: _Attempt, tried: fallback.FallbackHistory, verdict: Verdict, ending: MigrationEnding
    ) -> tuple[_Attempt, MigrationJob] | None:
        """The next try, or None where there is none: the guest runs where it was, and another way may do."""
        told_to_end = self._stopping.is_set() or self._interrupted.is_set()
        if verdict.kind != "stayed" or told_to_end or not tried.add(attempt.decision, ending):
            return None
        step, log = attempt.step, attempt.log
        try:
            # The first try may have taken long, and the hosts are others by now.
            answers = _with_time_left(self._preconditions.ask(step), log.elapsed_s)
            if answers is None:
                return None
            if answers.refusals:
                raise virt.VirtError(answers.refusals[0])
            appraised = self._appraise(step, answers, tried)
            if appraised.choice["method"] is None:
                return None
            decision = self._decide(step, answers, appraised)
            if not tried.is_new(decision):
                return None
            anew = dataclasses.replace(
                attempt, answers=answers, appraised=appraised, decision=decision, may_restart=False
            )
            job = self._job(anew)
            before = self._verification.qemu_instance_of(step)
            self._must_go_on(attempt.take_link_slot)
            log.again(decision, tried.reason, before)
        except StoppedError:
            log.note("no other way is tried: this run is to begin nothing more")
            return None
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            # Nothing was begun, and what became of the first try is told by its own ending.
            log.note(f"no other way is tried: {error}")
            return None
        return anew, job

    def _try(self, attempt: _Attempt, job: MigrationJob) -> tuple[Verdict, Side, Side, MigrationEnding]:
        """One call of libvirt's, and what both sides say of it."""
        step, log, found = attempt.step, attempt.log, attempt.appraised
        control = Control(
            attempt.decision,
            reforecast_of(found.working_set, found.link, attempt.decision, guest_factor=found.guest_factor),
            may_restart=attempt.may_restart,
            rate_rule=_rate_rule(attempt.answers.intent),
        )

        def nearly_transferred() -> None:
            self._learn_set_up(attempt, job)
            attempt.signals.nearly_transferred()

        def transferred() -> None:
            sending.end()
            attempt.signals.transferred()

        others = self._others_come_in(step)
        with self._sending_moves.sending() as sending:
            watcher = log.watcher(LinkSignals(transferred, nearly_transferred))
            try:
                with migration_socket.limited_send_buffer(step["guest"]["name"], found.unsent_limit, log.note):
                    ending = job.run(control, watcher, self._interrupted)
            except virt.libvirt.libvirtError as error:
                # It did not even start; both sides will say so.
                ending = MigrationEnding(error=str(error), error_code=error.get_error_code())
        ending.shared_link = sending.shared_link or others
        log.ended(ending)
        control_loop = self._control_loop(step, log, control, ending.elapsed_s)
        control_loop.maybe_postcopy, control_loop.abort_reaction = ending.maybe_postcopy, ending.abort_reaction
        ran, kept = ending.switchover.resumed_at is not None, "PERSIST_DEST" in attempt.decision.flags
        evidence = DestinationEvidence(ending.reached, ran, kept, watch=job.destination_events)
        verdict, here, there = self._verify(step, log, ending, control_loop, evidence)
        return verdict, here, there, ending

    def _others_come_in(self, step: Step) -> bool:
        """Whether the destination takes in guests of other hosts now; it does so only where it may take in several."""
        if self._settings.incoming_limit > 1:
            with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
                return self._preconditions.incoming(step) > 0
        return False

    def _verify(
        self,
        step: Step,
        log: StepLog,
        ending: MigrationEnding,
        control_loop: ControlLoop,
        evidence: DestinationEvidence,
        *,
        ended: str = "",
    ) -> tuple[Verdict, Side, Side]:
        """Believe both sides, whatever the call said, and let the guest go on where that is safe."""
        verdict, here, there = self._verification.await_agreement(
            step, control_loop, evidence, suspended=ending.suspended
        )
        if verdict.kind == "ended" and ended:
            verdict = dataclasses.replace(verdict, reason=f"{verdict.reason}; {ended}")
        ending.abort_reaction = ending.abort_reaction or control_loop.abort_reaction
        ending.memory_bytes = max(ending.memory_bytes, control_loop.memory_bytes)
        if verdict.kind == "resume_source":
            verdict = self._verification.confirm_resume(step, verdict, evidence)
        if verdict.kind == "resume_source":
            verdict, here, there = self._verification.resume(step, log)
        log.tell("step.verified", "verify", verdict.reason, level=1, verdict=verdict.kind)
        return verdict, here, there

    def _control_loop(self, step: Step, log: StepLog, control: Control, elapsed_s: float) -> ControlLoop:
        started = self._clock() - elapsed_s
        watcher = log.watcher(LinkSignals(lambda: None, lambda: None))
        return ControlLoop(
            lambda: self._preconditions.domain(step), control, watcher, self._interrupted, started, self._clock
        )

    def _close(self, step: Step, log: StepLog, known: Result, here: Side, there: Side) -> Result:
        """Nothing to move. A run that died just after a move may have left the definition behind."""
        if known["outcome"] == "already_there" and here.persistent and here.state_reason == "migrated":
            with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
                definition = _definition(self._preconditions.domain(step))
                _done, known["error"] = self._verification.repair_definitions(step, here, there, definition)
        return log.close(known)

    def _adopt(self, step: Step, log: StepLog, there: Side) -> Result:
        """A migration that somebody started, most likely an earlier run that died: steer it and wait for its end."""
        log.tell("run.attached", "pre-copy", "a migration is under way already; waiting for its end")
        definition, elapsed_s = None, 0.0
        # It may end at any moment, and then both sides say what became of it.
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
            domain = self._preconditions.domain(step)
            definition = _definition(domain)
            elapsed_s = domain.jobStats().get("time_elapsed", 0) / 1000
        known = self._settings.destinations[step["destination"]]
        # Whether it may switch to post-copy, only libvirt knows; it refuses where it may not.
        path = Path(known["connect_uri"], known.get("migration_address"), postcopy=True)
        decision = decide(intents.normalise(step["intent"]), path, None, persistent=definition is not None)
        control_loop = self._control_loop(step, log, Control(decision), elapsed_s)
        ending, evidence = (
            MigrationEnding(elapsed_s=elapsed_s),
            DestinationEvidence(watch=self._verification.watch(step)),
        )
        evidence.add(there)
        with self._sending_moves.sending():
            verdict, here, there = self._verify(step, log, ending, control_loop, evidence, ended=ENDED_ELSEWHERE)
        if verdict.kind == "moved":
            return log.moved(ending, *self._verification.repair_definitions(step, here, there, definition))
        return log.not_moved(ending, verdict)


def _with_time_left(answers: Answers, elapsed_s: float) -> Answers | None:
    """The same answers with what is left of the deadline, which is one for all tries; None when nothing is."""
    deadline_s = answers.intent["deadline_s"]
    if deadline_s is None:
        return answers
    left_s = int(deadline_s - elapsed_s)
    return dataclasses.replace(answers, intent={**answers.intent, "deadline_s": left_s}) if left_s >= 1 else None


def _rate_rule(intent: t.Mapping[str, t.Any]) -> tuple[int, int] | None:
    """Floor and ceiling of each round's rate in MiB/s, or None where every round goes as fast as it may."""
    floor = intent["bandwidth_floor_mib_s"]
    if floor is None:
        return None
    return floor, max(floor, intent["bandwidth_mib_s"] or intents.MAX_BANDWIDTH_MIB_S)


def _why_not(error: Exception) -> Refusal:
    """Why nothing was begun; a mistake of ours goes on as the exception it is."""
    why = explained(error)
    if why is None:
        raise error
    return why


def _definition(domain: t.Any) -> str | None:
    """The persistent definition, which a move must carry along, or None when there is none."""
    if not domain.isPersistent():
        return None
    libvirt = virt.libvirt
    return t.cast(str, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
