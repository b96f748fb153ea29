# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one guest from here to there, from the first look to the last.

from __future__ import annotations

import dataclasses
import pathlib
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.outcome import Side, Verdict, definition_faults
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal, sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.step_result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy import Decision, Path, choose
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import both_sides, cpu, destination, disk_copy, host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.both_sides import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connections import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import Ending, MigrationJob
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.telling import Telling

Step = dict[str, t.Any]
Result = dict[str, t.Any]

#: A destination that is busy with other guests is asked again this often, and given up after so long.
SLOT_LOOK_S = 1.0
SLOT_PATIENCE_S = 1800.0


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all moves of a run.

    Attributes:
        source: this host.
        state_dir: where this host keeps its records.
        destinations: by host name, C(connect_uri) and C(migration_address).
        reserve_bytes: what must stay free at a destination.
        incoming_limit: guests that may come in at a destination at once.
    """

    source: Endpoint
    state_dir: str
    destinations: t.Mapping[str, t.Mapping[str, t.Any]]
    reserve_bytes: int
    incoming_limit: int


@dataclasses.dataclass(frozen=True)
class _Answers:
    """What the two hosts say just before a move: this one's snapshot, the guest in it, and every reason not to."""

    source: dict[str, t.Any]
    guest: dict[str, t.Any]
    intent: dict[str, t.Any]
    refusals: list[Refusal]


class GuestMover:
    """Moves guests away from this host, one call a guest; calls may overlap.

    Args:
        connections: writable ones for moving, read-only ones for checking.
        settings: what is the same for all moves.
        telling: where it is told.
        interrupted: when set, what is in pre-copy is aborted.
        stopping: when set, nobody waits for a destination any longer.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        telling: Telling,
        interrupted: threading.Event,
        stopping: threading.Event,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._telling = telling
        self._interrupted = interrupted
        self._stopping = stopping
        self._clock = clock
        self._sleep = sleep

    def check(self, step: Step) -> Result:
        """What moving a guest would do. Changes nothing and needs no writable connection."""
        try:
            here, there = self._look(step)
            known = self._known_end(step, here, there)
            if known:
                return known
            answers = self._ask(step)
        except virt.VirtError as error:
            return step_result(step, "refused", refusals=[error.refusal])
        if answers.refusals:
            return step_result(step, "refused", refusals=answers.refusals)
        decision = self._decide(step, answers)
        return step_result(step, "would_move", strategy=decision.name, reason=decision.reason)

    def move(self, step: Step, transferred: t.Callable[[], None]) -> Result:
        """Move a guest; the result says what became of it, judged from both sides."""
        story = _Story(step, self._telling, self._clock)
        story.tell("step.started", "setup", "looking at both sides", level=1)
        try:
            here, there = self._look(step)
            known = self._known_end(step, here, there)
            if known:
                return story.close(known)
            if here.migrating:
                return self._adopt(step, story)
            answers = self._ask(step)
            refusals = answers.refusals or self._await_slot(step, story)
        except virt.VirtError as error:
            refusals = [error.refusal]
        if refusals:
            return story.refuse(refusals)
        return self._migrate(step, story, self._decide(step, answers), transferred)

    def _look(self, step: Step) -> tuple[Side, Side]:
        uuid = step["guest"]["uuid"]
        source, target = self._endpoints(step)
        here = both_sides.look_at(self._connections, source, uuid)
        if not here.reachable:
            # Says why in words that an operator can act on.
            self._connections.get(source.uri)
        there = both_sides.look_at(self._connections, target, uuid)
        if not there.reachable:
            self._connections.get(target.uri)
        return here, there

    def _endpoints(self, step: Step) -> tuple[Endpoint, Endpoint]:
        name = step["destination"]
        known = self._settings.destinations.get(name)
        if known is None:
            raise virt.VirtError(
                refusal("unknown_host", f"the plan does not say how to reach {name}", "make a new plan that names it")
            )
        return self._settings.source, Endpoint(name, known["connect_uri"])

    def _known_end(self, step: Step, here: Side, there: Side) -> Result | None:
        """The result where there is nothing to move: it is there already, or nowhere."""
        guest = step["guest"]["name"]
        if there.active and not here.active and not there.migrating and there.state == "running":
            return step_result(step, "already_there")
        if here.state == "absent" and there.state == "absent":
            why = refusal(
                "unknown_guest",
                f"there is no guest {guest} on {here.host}, nor on {there.host}",
                f"see what runs where (virsh list --all on {here.host}), or make a new plan",
            )
            return step_result(step, "refused", refusals=[why])
        return None

    def _ask(self, step: Step) -> _Answers:
        """Ask this host about the guest, and the destination about itself, as they are now."""
        source, target = self._endpoints(step)
        here = self._connections.get(source.uri).connection
        there = self._connections.get(target.uri).connection
        uuid = step["guest"]["uuid"]
        local = host.snapshot(here, name=source.host, state_dir=pathlib.Path(self._settings.state_dir), only=uuid)
        # Without the guest, which was there a moment ago, the caller's next call says that it is gone.
        guest = next(iter(local["domains"]), None)
        remote = destination.snapshot(there, target.host)
        intent = intents.normalise(step["intent"])
        if guest is None:
            return _Answers(local, {}, intent, [_vanished(step)])
        refusals = compatibility.refusals(guest, local, remote, intent, reserve_bytes=self._settings.reserve_bytes)
        if not refusals:
            refusals = cpu.refusals(there, guest, target.host) + disk_copy.refusals(there, guest, target.host)
        return _Answers(local, guest, intent, refusals)

    def _await_slot(self, step: Step, story: _Story) -> list[Refusal]:
        """Wait until the destination takes in few enough guests for one more."""
        _source, target = self._endpoints(step)
        limit = self._settings.incoming_limit
        end = self._clock() + SLOT_PATIENCE_S
        told = False
        while True:
            coming = destination.incoming(self._connections.get(target.uri).connection)
            if coming < limit:
                return []
            if self._stopping.is_set() or self._clock() >= end:
                return [
                    refusal(
                        "destination_busy",
                        f"{target.host} is taking in {coming} guests, and {limit} at once is the limit",
                        "run it again later, or raise incoming_limit",
                    )
                ]
            if not told:
                told = True
                story.tell(
                    "step.waiting", "waiting", f"{target.host} is taking in {coming} other guests", incoming=coming
                )
            self._sleep(SLOT_LOOK_S)

    def _decide(self, step: Step, answers: _Answers) -> Decision:
        known = self._settings.destinations[step["destination"]]
        path = Path(
            connect_uri=known["connect_uri"],
            migration_address=known.get("migration_address"),
            postcopy=bool(answers.source["migration"]["postcopy"]["usable"]),
        )
        disks = answers.guest["disks"] if answers.intent["allow_storage_copy"] else []
        return choose(
            answers.intent,
            path,
            persistent=bool(answers.guest["persistent"]),
            in_use_bytes=_in_use_bytes(answers.guest),
            disks_to_copy=[disk["target"] for disk in disks if disk_copy.is_copied(disk)],
        )

    def _migrate(self, step: Step, story: _Story, decision: Decision, transferred: t.Callable[[], None]) -> Result:
        source, target = self._endpoints(step)
        here, there = self._connections.get(source.uri), self._connections.get(target.uri)
        domain = here.connection.lookupByUUIDString(step["guest"]["uuid"])
        definition = _definition(domain)
        story.begin(decision)
        job = MigrationJob(domain, target.uri, decision, here.events, there.events, clock=self._clock)
        ending = job.run(Control(decision), story.watcher(decision, transferred), self._interrupted)
        story.ended(ending)
        return self._verify(step, story, ending, definition)

    def _verify(self, step: Step, story: _Story, ending: Ending, definition: str | None) -> Result:
        """Believe both sides, whatever the call said, and put right what can be put right safely."""
        guest, uuid = step["guest"]["name"], step["guest"]["uuid"]
        source, target = self._endpoints(step)
        verdict, here, there = both_sides.settle(
            self._connections, guest, uuid, source, target, suspended_by_us=ending.suspended
        )
        if verdict.kind == "resume_source":
            verdict, here, there = self._resume(step, story, ending)
        story.tell("step.verified", "verify", verdict.reason, level=1, verdict=verdict.kind)
        if verdict.kind == "moved":
            done = self._mend(step, here, there, definition)
            return story.moved(ending, done)
        return story.not_moved(ending, verdict)

    def _resume(self, step: Step, story: _Story, ending: Ending) -> tuple[Verdict, Side, Side]:
        source, target = self._endpoints(step)
        story.tell("migration.decision", "verify", f"letting the guest go on at {source.host}", action="resume_source")
        domain = self._connections.get(source.uri).connection.lookupByUUIDString(step["guest"]["uuid"])
        try:
            domain.resume()
        except virt.libvirt.libvirtError as error:
            story.tell("migration.decision", "failed", f"it cannot go on: {error}", action="resume_failed")
        return both_sides.settle(self._connections, step["guest"]["name"], step["guest"]["uuid"], source, target)

    def _mend(self, step: Step, here: Side, there: Side, definition: str | None) -> list[str]:
        guest = step["guest"]
        if not definition_faults(guest["name"], here, there, persistent_before=definition is not None):
            return []
        source, target = self._endpoints(step)
        return both_sides.mend_definitions(self._connections, source, target, guest["uuid"], definition)

    def _adopt(self, step: Step, story: _Story) -> Result:
        """A migration that somebody started, most likely an earlier run that died: wait for its end."""
        guest, uuid = step["guest"]["name"], step["guest"]["uuid"]
        source, target = self._endpoints(step)
        story.tell("run.attached", "pre-copy", "a migration is under way already; waiting for its end")
        domain = self._connections.get(source.uri).connection.lookupByUUIDString(uuid)
        definition = _definition(domain)
        watch = story.adopted(domain)
        verdict, here, there = both_sides.settle(
            self._connections, guest, uuid, source, target, watching=lambda _here, _there: watch()
        )
        if verdict.kind == "moved":
            return story.moved(Ending(elapsed_s=story.elapsed_s), self._mend(step, here, there, definition))
        if verdict.kind == "ended":
            why = "the migration that was under way took it elsewhere, or it was shut down meanwhile"
            verdict = dataclasses.replace(verdict, reason=f"{verdict.reason}; {why}")
        return story.not_moved(Ending(), verdict)


class _Story:
    """What happens to one step, told to the journal and to those who watch, and put together as its result."""

    def __init__(self, step: Step, telling: Telling, clock: t.Callable[[], float]) -> None:
        self._step = step
        self._telling = telling
        self._clock = clock
        self._started = clock()
        self._started_at = telling.now()
        self._decision: Decision | None = None

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._started

    def tell(self, event: str, phase: str, message: str, *, level: int = 0, **data: t.Any) -> None:
        self._telling.tell(self._step, event, phase, message, level=level, **data)

    def begin(self, decision: Decision) -> None:
        self._decision = decision
        # Nothing that was waited for before counts as part of the move.
        self._started, self._started_at = self._clock(), self._telling.now()
        self.tell(
            "migration.started",
            "setup",
            f"{decision.name} to {self._step['destination']}",
            destination=self._step["destination"],
            strategy=decision.name,
            reason=decision.reason,
            flags=list(decision.flags),
            downtime_ms=decision.downtime_ms,
        )

    def watcher(self, decision: Decision, transferred: t.Callable[[], None]) -> t.Any:
        return self._telling.watcher(self._step, decision, transferred)

    def adopted(self, domain: t.Any) -> t.Callable[[], None]:
        return self._telling.adopted(self._step, domain)

    def ended(self, ending: Ending) -> None:
        event = "migration.failed" if ending.error else "migration.completed"
        self.tell(
            event,
            "verify",
            ending.error or "libvirt reports success",
            level=1,
            code=ending.error_code,
            error=ending.error,
            statistics=ending.statistics,
            iterations=ending.iterations,
        )

    def moved(self, ending: Ending, mended: t.Sequence[str]) -> Result:
        result = self._result("moved", ending)
        figures = [f"{result['total_s']:.1f} s"]
        if result["downtime_ms"] is not None:
            figures.append(f"down {result['downtime_ms']} ms")
        if result["bytes"]:
            figures.append(f"{result['bytes'] / 1048576:.1f} MiB")
        self.tell("migration.decision", "done", ", ".join(["moved", *figures, *mended]), action="accept")
        return result

    def not_moved(self, ending: Ending, verdict: Verdict) -> Result:
        outcome = "failed" if verdict.kind == "stayed" else "unclear"
        text = _why(ending, verdict)
        self.tell("migration.decision", "failed", text, action="reject")
        return self._result(outcome, ending, error=text)

    def refuse(self, refusals: t.Sequence[Refusal]) -> Result:
        self.tell(
            "step.refused",
            "refused",
            "; ".join(sentence(one) for one in refusals),
            refusals=[dict(one) for one in refusals],
        )
        return step_result(self._step, "refused", refusals=refusals)

    def close(self, result: Result) -> Result:
        if result["outcome"] == "already_there":
            self.tell("step.verified", "done", "already there", verdict="already_there")
            return result
        return self.refuse(result["refusals"])

    def _result(self, outcome: str, ending: Ending, error: str | None = None) -> Result:
        decision = self._decision
        return step_result(
            self._step,
            outcome,
            error=error,
            strategy=("post-copy" if ending.postcopy else decision.name) if decision else None,
            reason=decision.reason if decision else None,
            started_at=self._started_at,
            finished_at=self._telling.now(),
            total_s=self.elapsed_s,
            bytes_sent=ending.bytes or None,
            downtime_ms=ending.downtime_ms if outcome == "moved" else None,
            iterations=ending.iterations or None,
        )


def _vanished(step: Step) -> Refusal:
    name, source = step["guest"]["name"], step["source"]
    return refusal("vanished", f"{name} has just gone from {source}", "see who stopped or moved it, and run again")


def _in_use_bytes(guest: t.Mapping[str, t.Any]) -> int:
    memory = int(guest["memory_bytes"] or 0)
    resident = (guest["balloon"] or {}).get("rss_bytes")
    return memory if resident is None else min(memory, int(resident))


def _why(ending: Ending, verdict: Verdict) -> str:
    if ending.given_up:
        text = f"given up: {ending.given_up.reason}; {ending.given_up.remedy}"
    else:
        text = ending.error or verdict.reason
    if verdict.kind == "stayed":
        return f"{text}. It still runs where it was."
    return (
        f"{text}. {verdict.reason}. What to do: {verdict.remedy}"
        if text != verdict.reason
        else f"{text}: {verdict.remedy}"
    )


def _definition(domain: t.Any) -> str | None:
    """The persistent definition, which a move must carry along, or None when there is none."""
    if not domain.isPersistent():
        return None
    libvirt = virt.libvirt
    return t.cast(str, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
