# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: decides what is to be done about a step, as both hosts are now. Changes nothing, but lets a
# guest go on that a migration has left paused.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step, step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Appraisal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.lost_connection import Answer, Patience
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext, StoppedError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.method_choice import MethodChoice
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import (
    Answers,
    Preconditions,
    nothing_to_move,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.step_log import refusal_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.verification import Verification
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.waiting import HostWaits

#: Answers of two hosts that are older than this are asked for again before a guest is sent.
STALE_S = 5.0


@dataclasses.dataclass(frozen=True)
class Close:
    """There is nothing to move.

    Attributes:
        result: of the step.
        here, there: the guest at its source and at its destination.
    """

    result: Result
    here: Side
    there: Side


@dataclasses.dataclass(frozen=True)
class Adopt:
    """A migration is under way that another run began.

    Attributes:
        there: the guest at its destination.
    """

    there: Side


@dataclasses.dataclass(frozen=True)
class Refuse:
    """The guest is not moved."""

    refusals: list[Refusal]


@dataclasses.dataclass(frozen=True)
class Proceed:
    """The guest is moved.

    Attributes:
        answers: of both hosts.
        appraised: what each method will cost, and the method that was chosen.
    """

    answers: Answers
    appraised: Appraisal


Admitted = t.Union[Close, Adopt, Refuse, Proceed]


class Admission:
    """Decides what is to be done about each step of a run.

    Args:
        context: of the run.
        preconditions: asks both hosts.
        choice: chooses the method.
        verification: resolves a guest that a migration has left paused.
    """

    def __init__(
        self,
        context: MoveContext,
        preconditions: Preconditions,
        choice: MethodChoice,
        verification: Verification,
    ) -> None:
        self._context = context
        self._hosts = context.hosts
        self._preconditions = preconditions
        self._choice = choice
        self._verification = verification
        self._waits = HostWaits(context)
        self._patience = Patience(context.clock, context.sleep, self._check_goes_on)

    def check(self, step: Step) -> Result:
        """What moving a guest would do. Changes nothing and needs no writable connection."""
        try:
            here, there = self._hosts.sides(step)
            known = nothing_to_move(step, here, there)
            if known:
                return known
            answers = self._preconditions.ask(step)
            if answers.refusals:
                return step_result(step, "refused", refusals=answers.refusals)
            choice = self._choice.appraise(step, answers).choice
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return step_result(step, "refused", refusals=[refusal_of(error)])
        if choice["refusal"]:
            return step_result(step, "refused", refusals=[choice["refusal"]])
        return step_result(step, "would_move", strategy=choice["method"], reason=choice["reason"], forecast=choice)

    def decide(self, move: Move) -> Admitted:
        """Decide what is to be done, and wait for other hosts where the step has to.

        Raises:
            StoppedError: nothing is to be begun any more.
            libvirtError, VirtError: a host cannot be asked.
        """
        step = move.step
        here, there = self._asked(step, lambda: self._hosts.sides(step))
        if here.state == "paused" and here.state_reason == "migration" and not here.migrating:
            here, there = self._verification.resolve_paused(move)
        known = nothing_to_move(step, here, there)
        if known:
            return Close(known, here, there)
        if here.migrating:
            # It uses the link already, with or without a slot.
            return Adopt(there)
        missing = self._waits.for_arrivals(move)
        if missing:
            return Refuse(missing)
        admitted = self._ask_and_wait(move)
        if isinstance(admitted, Proceed):
            self._context.check_may_begin(move)
        return admitted

    def renew(self, move: Move, freed_bytes: int, *, waiting: bool = False) -> Proceed:
        """Ask both hosts once more, because preparation may take long.

        Args:
            move: of a guest that may be moved.
            freed_bytes: of its memory. They need not travel; for the rest, the guest is as it was measured.
            waiting: wait for the link and for the destination once more. Others may have passed.

        Raises:
            StoppedError: nothing is to be begun any more.
            VirtError: for what the hosts now have against the move.
        """
        if waiting:
            self._context.check_may_begin(move)
            busy = self._asked(move.step, lambda: self._waits.for_slot(move))
            if busy:
                raise virt.VirtError(busy[0])
        answers = self._asked(move.step, lambda: self._preconditions.ask(move.step))
        if answers.refusals:
            raise virt.VirtError(answers.refusals[0])
        appraised = self._choice.appraise(move.step, answers, freed_bytes=freed_bytes)
        if appraised.choice["refusal"]:
            raise virt.VirtError(appraised.choice["refusal"])
        return Proceed(answers, appraised)

    def _asked(self, step: Step, question: t.Callable[[], Answer]) -> Answer:
        """The answer of both hosts, of which one may be restarting its daemon."""
        return self._patience.ask(step["destination"], question, lambda: self._hosts.drop_broken(step))

    def _check_goes_on(self) -> None:
        if self._context.is_stopping:
            raise StoppedError

    def _ask_and_wait(self, move: Move) -> Refuse | Proceed:
        """Ask both hosts and choose the method, then wait for the link and for the destination."""
        step, clock = move.step, self._context.clock
        answers = self._asked(step, lambda: self._preconditions.ask(step))
        asked_at = clock()
        appraised = None if answers.refusals else self._choice.appraise(step, answers)
        if not move.take_link_slot():
            raise StoppedError
        refusals = answers.refusals or self._asked(step, lambda: self._waits.for_slot(move))
        if not refusals and clock() >= asked_at + STALE_S:
            # Meanwhile other guests took memory there, or somebody cordoned the host. And their moves taught something.
            answers = self._asked(step, lambda: self._preconditions.ask(step))
            refusals = answers.refusals
            appraised = None if refusals else self._choice.appraise(step, answers)
        if appraised and appraised.choice["refusal"]:
            refusals = [appraised.choice["refusal"]]
        return Refuse(refusals) if refusals or not appraised else Proceed(answers, appraised)
