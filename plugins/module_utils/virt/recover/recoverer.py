# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: finishes moves that broke off, one call a guest, where that is provably safe.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.broken_move import Diagnosis
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step, step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import known_bugs
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import (
    DEFINITION_FLAGS,
    LIVE_FLAGS,
    Decision,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    UnansweredError,
    within,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_instance import (
    QemuInstance,
    limits_before,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import LinkSignals
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.definitions import complete
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.method_choice import MethodChoice
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.mover import STAYS, GuestMover
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.parts import Parts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import nothing_to_move
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import (
    Destination,
    PathRequest,
    version_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.paths import paths
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import LinkTurn
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.source_settings import (
    SourceSettings,
    on_record,
    settings_of_sent,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.recover.finding import Finder, Found
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.recover.postcopy_resume import PostcopyResume

#: Seconds that one check of the link may take.
PATH_TIMEOUT_S = 30.0
#: What is taken of the flags on record. A resume has those of its migration, and libvirt changes nothing by them.
SAME_FLAGS = (
    *LIVE_FLAGS,
    *DEFINITION_FLAGS,
    "COMPRESSED",
    "AUTO_CONVERGE",
    "TLS",
    "NON_SHARED_DISK",
    "NON_SHARED_INC",
    "NON_SHARED_SYNCHRONOUS_WRITES",
)
RESUME_FLAGS = ("POSTCOPY", "POSTCOPY_RESUME")
#: Of the parameters, only those that lead to the destination.
SAME_PARAMETERS = ("migrate_uri", "tls.destination")


def _nothing() -> None:
    pass


class Recoverer:
    """Finishes moves that broke off.

    Args:
        context: of the run; with read-only connections for C(check) alone.
        finder: looks at all hosts once more before anything is done.
    """

    def __init__(self, context: MoveContext, finder: Finder) -> None:
        self._context = context
        self._finder = finder
        self._parts = Parts(context)
        self._mover = GuestMover(context)
        self._choice = MethodChoice(context.settings)

    def check(self, step: Step, found: Found) -> Result:
        """What would be done about a guest. Changes nothing."""
        move = self._begin(step)
        try:
            if found.diagnosis.kind == "resume":
                why = self._refusal(step, self._flags(step, found))
                return step_result(step, "refused", refusals=[why]) if why else step_result(step, "would_move")
            if found.diagnosis.kind == "resume_source":
                verdict, dummy, dummy = self._parts.verification.judge_paused(move)
                if verdict.kind != "resume_source":
                    return step_result(step, "refused", refusals=[_left_paused(verdict.reason, verdict.remedy)])
            return step_result(step, "would_move")
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return move.log.refuse_for(error)

    def move(
        self,
        step: Step,
        transferred: t.Callable[[], None] = _nothing,
        take_link_slot: t.Callable[[], bool] = lambda: True,
        nearly_transferred: t.Callable[[], None] = _nothing,
        step_aside: t.Callable[[], bool] = lambda: True,
    ) -> Result:
        """Finish the move of a guest; the result says what became of it, judged from both sides."""
        move = self._begin(step, LinkSignals(transferred, nearly_transferred), LinkTurn(step_aside, take_link_slot))
        try:
            move.log.tell("step.started", "setup", "looking at both sides", level=1)
            if not move.take_link_slot():
                return self._context.stopped(move)
            found = self._finder.look_again(step["guest"])
            if found is None:
                return self._over(move)
            if found.diagnosis.kind != "resume":
                return self._settle(move, found)
            if found.diagnosis.destination != step["destination"]:
                return move.log.refuse([_changed(found.diagnosis)])
            flags = self._flags(step, found)
            why = self._refusal(step, flags)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return move.log.refuse_for(error)
        return move.log.refuse([why]) if why else self._resume(move, found, flags)

    def _begin(self, step: Step, signals: LinkSignals | None = None, turn: LinkTurn | None = None) -> Move:
        signals = signals or LinkSignals(_nothing, _nothing)
        return self._context.begin(step, signals, turn or LinkTurn(lambda: True, lambda: True))

    def _settle(self, move: Move, found: Found) -> Result:
        if found.diagnosis.kind in ("close", "resume_source"):
            return self._mover.settle(move)
        return move.log.refuse([_changed(found.diagnosis)])

    def _over(self, move: Move) -> Result:
        """Somebody else has finished it meanwhile, such as libvirt itself."""
        known = nothing_to_move(move.step, *self._context.hosts.sides(move.step))
        if known and known["outcome"] == "already_there":
            return self._mover.settle(move)
        name, source = move.step["guest"]["name"], move.step["source"]
        return move.log.refuse([refusal(STAYS, f"{name} needs nothing any more on {source}", "see where it runs now")])

    # ---- a post-copy that broke off

    def _flags(self, step: Step, found: Found) -> tuple[str, ...]:
        """The flags of the migration that broke off, and those that resume it.

        Where nobody has put them on record, they are those of a plain move. QEMU keeps its own settings, such as its
        encryption.
        """
        told = (found.record or {}).get("flags")
        same = tuple(flag for flag in SAME_FLAGS if flag in told) if isinstance(told, list) else ()
        if not same:
            persistent = bool(self._context.hosts.domain(step).isPersistent())
            same = (*LIVE_FLAGS, *(DEFINITION_FLAGS if persistent else ()))
        return (*dict.fromkeys((*LIVE_FLAGS, *same)), *RESUME_FLAGS)

    def _refusal(self, step: Step, flags: t.Collection[str]) -> Refusal | None:
        """Why a post-copy must not be resumed now, or None."""
        here, there = self._context.hosts.links(step)
        of_source, of_target = (version_of(link.connection.getLibVersion()) for link in (here, there))
        bug = known_bugs.resume_refusal(step["source"], of_source, step["destination"], of_target)
        return bug or self._link_fault(step, flags)

    def _link_fault(self, step: Step, flags: t.Collection[str]) -> Refusal | None:
        """Why the link between both hosts does not work now, or None."""
        source, target = self._context.hosts.endpoints(step)
        address = self._context.settings.destinations[target.host].get("migration_address")
        encryption = "required" if "TLS" in flags else "off"
        request = PathRequest(source.host, source.uri, encryption, PATH_TIMEOUT_S, check_guests=False, read_only=True)
        (path,) = paths(request, [Destination(target.host, target.uri, address or None)])
        fault = next((check for check in path["checks"] if not check["ok"]), None)
        if fault is None:
            return None
        return refusal(
            fault["code"],
            f"the way from {source.host} to {target.host} does not work: {fault['reason']}",
            f"{fault['remedy']}; then run it again, and until then destroy neither half",
        )

    def _resume(self, move: Move, found: Found, flags: tuple[str, ...]) -> Result:
        step = move.step
        settings = self._settings_of(step)
        decision = self._decision(step, flags)
        move.log.begin(decision, self._instance(step, found), autostart=settings.autostart)
        ended = PostcopyResume(self._context, move, decision, lambda: self._link_fault(step, flags)).run()
        ending = MigrationEnding(error=ended.error, postcopy=True, maybe_postcopy=True, elapsed_s=ended.elapsed_s)
        if ended.verdict.kind == "moved":
            # Whatever libvirt has answered, both sides say that it is whole.
            ending.error = None
        move.log.ended(ending)
        move.log.tell("step.verified", "verify", ended.verdict.reason, level=1, verdict=ended.verdict.kind)
        if ended.verdict.kind != "moved":
            return move.log.not_moved(ending, ended.verdict)
        move.signals.transferred()
        corrections = complete(self._context, step, ended.here, ended.there, settings)
        return self._mover.with_left_copies(move, move.log.moved(ending, corrections))

    def _decision(self, step: Step, flags: tuple[str, ...]) -> Decision:
        """The call that resumes it. Addresses come from the inventory, and not from a record."""
        decision = self._choice.decide_adopted(step, persistent="PERSIST_DEST" in flags)
        parameters = {key: decision.parameters[key] for key in SAME_PARAMETERS if key in decision.parameters}
        reason = "the post-copy that broke off is resumed"
        return dataclasses.replace(decision, name="post-copy", reason=reason, flags=flags, parameters=parameters)

    def _instance(self, step: Step, found: Found) -> QemuInstance:
        """The QEMU of the source, with the limits that it had before the move began.

        Of a guest in the middle of a post-copy libvirt does not tell its limits.
        """
        number = self._context.hosts.domain(step).ID()
        return QemuInstance(self._context.settings.boot_id, number, limits_before(found.record or {}))

    def _settings_of(self, step: Step) -> SourceSettings:
        """What the source is about to forget of the guest."""
        state_dir = self._context.settings.state_dir
        try:
            settings = within(
                ANSWER_TIMEOUT_S, lambda: settings_of_sent(state_dir, step, self._context.hosts.domain(step))
            )
        except (virt.libvirt.libvirtError, virt.VirtError, UnansweredError):
            return on_record(state_dir, step) or SourceSettings()
        return t.cast(SourceSettings, settings)


def step_of(found: Found, number: int) -> Step:
    """A step that finishes the move of a guest.

    Args:
        found: a guest of which source and destination are known.
        number: of the step, from 1 on.
    """
    told = (found.record or {}).get("flags")
    encrypted = isinstance(told, list) and "TLS" in told
    return {
        "id": f"recover-{number}",
        "guest": dict(found.guest),
        "source": found.diagnosis.source,
        "destination": found.diagnosis.destination,
        "memory_bytes": 0,
        "intent": intents.normalise({"allow_postcopy": True, "encryption": "required" if encrypted else "off"}),
        "reason": found.diagnosis.reason,
        "strategy": None,
        "forecast": None,
        "after": [],
    }


def _changed(diagnosis: Diagnosis) -> Refusal:
    """Why nothing was done about a guest that is not as it was found."""
    return refusal(diagnosis.kind, diagnosis.reason, diagnosis.remedy or "run it again")


def _left_paused(reason: str, remedy: str) -> Refusal:
    return refusal("left_paused", reason, remedy)
