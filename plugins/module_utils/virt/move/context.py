# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what all moves of a run share, and what belongs to one move under way.

from __future__ import annotations

import dataclasses
import functools
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step, step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.concurrency import SendingMoves
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import LinkSignals, MoveReporter
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.hosts import Hosts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.step_log import StepLog
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import LinkTurn


class StoppedError(Exception):
    """The run was stopped: it is to begin nothing more."""


@dataclasses.dataclass(frozen=True)
class Move:
    """One move under way.

    Attributes:
        step: of the plan.
        log: writes its events and makes its result.
        signals: who is to know how far it is.
        turn: its turn at the link.
    """

    step: Step
    log: StepLog
    signals: LinkSignals
    turn: LinkTurn

    def take_link_slot(self) -> bool:
        """Wait until the link is free for it; False when nothing is to be begun any more."""
        return self.turn.take()


@dataclasses.dataclass(frozen=True)
class MoveContext:
    """What all moves of a run share.

    Attributes:
        connections: writable ones for moving, read-only ones for checking.
        settings: of all moves.
        reporter: writes the journal and the progress lines.
        interrupted: when set, what is in pre-copy is aborted.
        stopping: when set, nobody waits for a destination any longer, and no guest is sent.
        clock: monotonic seconds.
        sleep: waits so many seconds.
        sending: the moves that send now.
    """

    connections: Connections
    settings: Settings
    reporter: MoveReporter
    interrupted: threading.Event
    stopping: threading.Event
    clock: t.Callable[[], float] = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep
    sending: SendingMoves = dataclasses.field(default_factory=SendingMoves)

    @functools.cached_property
    def hosts(self) -> Hosts:
        """Asks the hosts of a step."""
        return Hosts(self.connections, self.settings)

    def begin(self, step: Step, signals: LinkSignals, turn: LinkTurn) -> Move:
        """A new move, whose time starts now."""
        return Move(step, StepLog(step, self.reporter, self.clock), signals, turn)

    @property
    def is_stopping(self) -> bool:
        """Whether the run begins nothing more."""
        return self.stopping.is_set() or self.interrupted.is_set()

    def check_may_begin(self, move: Move) -> None:
        """Asked last before something is done to a guest, because what came before may have taken an hour.

        Raises: StoppedError when nothing is to be begun any more.
        """
        if self.is_stopping or not move.take_link_slot():
            raise StoppedError

    def stopped(self, move: Move) -> Result:
        """The result of a move that the run was stopped before."""
        if self.interrupted.is_set():
            why = refusal("interrupted", "it was interrupted before it began", "start it again when you are ready")
            return move.log.refuse([why])
        return step_result(move.step, "not_started", error="the run was stopped before its turn")
