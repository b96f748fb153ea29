# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what is done to a guest around its move: memory is freed before it, hooks run before and
# after.

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import hooks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook, HookError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.free_memory import FreeMemory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.hook_runs import HookRuns, interrupted_refusal

Tell = t.Callable[..., None]


@dataclasses.dataclass(frozen=True)
class PreparationOptions:
    """What a run wants.

    Attributes:
        free_memory: C(auto) or C(never).
        hooks: for each guest.
        guest_hooks: whether the hooks in a guest's metadata are run as well.
    """

    free_memory: str = "never"
    hooks: tuple[Hook, ...] = ()
    guest_hooks: bool = False


class LinkTurn(t.NamedTuple):
    """The turn of a guest at the link.

    Attributes:
        step_aside: gives it up, so that other guests move meanwhile; waits while hooks of another guest run. False:
            nothing is to be begun any more.
        take: waits for it again. False: nothing is to be begun any more.
    """

    step_aside: t.Callable[[], bool] = lambda: True
    take: t.Callable[[], bool] = lambda: True


class PreparedGuest:
    """What the mover is told before a move, and tells after it.

    Attributes:
        refusals: reasons not to move the guest now.
        freed_bytes: of the host's memory that the guest holds no more, and that need not travel.
    """

    def __init__(self) -> None:
        self.refusals: list[Refusal] = []
        self.freed_bytes = 0
        #: other guests may have moved meanwhile, so what the hosts have said is old
        self.stepped_aside = False
        #: nothing is to be begun any more
        self.stopped = False
        #: from here on, the hooks after the move have something to undo
        self.begun = False
        self.outcome = "unclear"
        #: what failed after the move, known after the block
        self.faults: list[Refusal] = []
        #: what the operator should know of the move, in words
        self.notes: list[str] = []

    def ended(self, outcome: str) -> None:
        """Take the outcome of the move."""
        self.outcome = outcome


class Preparation:
    """What comes before and after each move of a run.

    Args:
        options: the run's.
        state_dir: where this host keeps its records.
        source: this host's name.
        interrupted: when set, nothing more is taken, run or waited for; what has to be undone is undone at once.
        domain_at: a guest on a host, by the host's name and the guest's UUID, on a writable connection that lives.
    """

    def __init__(
        self,
        options: PreparationOptions,
        state_dir: str,
        source: str,
        interrupted: threading.Event,
        domain_at: t.Callable[[str, str], t.Any],
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._options = options
        self._source = source
        self._interrupted = interrupted
        self._domain_at = domain_at
        self._memory = FreeMemory(self._domain, state_dir, interrupted, clock, sleep)
        self._hooks = HookRuns(source, interrupted, domain_at, clock, sleep)

    @contextlib.contextmanager
    def prepared(
        self,
        step: Step,
        guest: t.Mapping[str, t.Any],
        intent: t.Mapping[str, t.Any],
        tell: Tell,
        *,
        bytes_per_s: float | None,
        turn: LinkTurn = LinkTurn(),  # noqa: B008  (it has no state)
    ) -> t.Iterator[PreparedGuest]:
        """Get a guest ready; after the block, run what comes after its move.

        Args:
            step: of the plan.
            guest: the snapshot's description of it.
            intent: of this move, complete.
            tell: called with event, phase and message, C(level), and what else is known.
            bytes_per_s: what the link gives, or None.
            turn: this guest's at the link, which it has. A guest with hooks of its own gives it up while they run.
        """
        ready = PreparedGuest()
        wanted: tuple[Hook, ...] = ()
        try:
            own = self._hooks_of(step, ready)
            wanted = (*self._options.hooks, *own)
            ready.refusals += self._memory.give_back_left(step, tell)
            free = functools.partial(self._free, step, guest, intent, tell, ready, bytes_per_s)
            if any(hook.when == "before" or hook.check for hook in own):
                wanted = self._begin_aside(wanted, step, tell, ready, turn)
                # Memory that is freed fills up again, so this comes right before the move.
                free()
            else:
                free()
                wanted = self._begin(wanted, step, tell, ready)
        except HookError as error:
            ready.refusals.append(error.refusal)
        if not ready.refusals and self._interrupted.is_set():
            ready.refusals.append(interrupted_refusal())
        if ready.refusals:
            ready.outcome = "refused"
        try:
            yield ready
        finally:
            if ready.begun:
                ready.faults += self._hooks.run_after(wanted, step, ready.outcome, tell)

    def check_adopted(self, step: Step, outcome: str, tell: Tell) -> list[Refusal]:
        """Check whether a guest can be reached whose migration an earlier run began.

        Commands are not run: that run has begun with its own, and nobody knows how far it came.

        Args:
            step: of the plan.
            outcome: of the move.
            tell: called with event, phase and message, C(level), and what else is known.

        Returns: what failed.
        """
        return self._hooks.run_after([hook for hook in self._options.hooks if hook.check], step, outcome, tell)

    def _free(
        self,
        step: Step,
        guest: t.Mapping[str, t.Any],
        intent: t.Mapping[str, t.Any],
        tell: Tell,
        ready: PreparedGuest,
        bytes_per_s: float | None,
    ) -> None:
        wanted = self._options.free_memory == "auto" and guest["state"] == "running"
        if wanted and not ready.refusals and not ready.stopped:
            ready.freed_bytes, refusals = self._memory.free(step, guest, intent, tell, bytes_per_s)
            ready.refusals += refusals

    def _begin(self, wanted: tuple[Hook, ...], step: Step, tell: Tell, ready: PreparedGuest) -> tuple[Hook, ...]:
        """Run what comes before the move; returns the hooks without those that say nothing after it."""
        if ready.refusals:
            return wanted
        wanted = self._without_failing(wanted, step, tell, ready)
        ready.begun = True
        ready.refusals += self._hooks.run_before(wanted, step, tell)
        return wanted

    def _begin_aside(
        self, wanted: tuple[Hook, ...], step: Step, tell: Tell, ready: PreparedGuest, turn: LinkTurn
    ) -> tuple[Hook, ...]:
        """Run what comes before the move while other guests move. The hooks of a guest hold up nobody but itself."""
        if ready.refusals:
            return wanted
        ready.stepped_aside = True
        words = "others go first while the hooks in its metadata run"
        tell("step.waiting", "waiting", words, level=1)
        if not turn.step_aside():
            ready.stopped = True
            return wanted
        wanted = self._begin(wanted, step, tell, ready)
        if not ready.refusals:
            ready.stopped = not turn.take()
        return wanted

    def _without_failing(
        self, wanted: tuple[Hook, ...], step: Step, tell: Tell, ready: PreparedGuest
    ) -> tuple[Hook, ...]:
        failing = self._hooks.failing(wanted, step, tell)
        ready.notes += [f"{hook.name} failed before the move already, so it was not made after it" for hook in failing]
        return tuple(hook for hook in wanted if hook not in failing)

    def _hooks_of(self, step: Step, ready: PreparedGuest) -> tuple[Hook, ...]:
        """The hooks in the guest's metadata that are run; notes those that are not."""
        try:
            root = guest_xml.parse(self._domain(step).XMLDesc(0))
        except (virt.libvirt.libvirtError, virt.VirtError):
            # The move itself will find out what is wrong.
            return ()
        if self._options.guest_hooks:
            return hooks.of_guest(root)
        count = hooks.count_of_guest(root)
        if count:
            what, were, them = ("1 hook", "was", "it") if count == 1 else (f"{count} hooks", "were", "them")
            words = f"has {what} in its metadata, which {were} not run: permit {them} with guest_hooks"
            ready.notes.append(f"{step['guest']['name']} {words}")
        return ()

    def _domain(self, step: Step) -> t.Any:
        return self._domain_at(self._source, step["guest"]["uuid"])
