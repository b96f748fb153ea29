# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one guest from here to there, from the first look to the last.

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control import Control
from ansible_collections.kvmops.cluster.plugins.module_utils.core.outcome import Side, Verdict, definition_faults, shown
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.step_result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy import Decision, Path, choose
from ansible_collections.kvmops.cluster.plugins.module_utils.run import records
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import both_sides, cpu, destination, disk_copy, host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.both_sides import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connections import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import Ending, MigrationJob
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.module import explained
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.steering import Steering
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.story import Result, Step, Story
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.telling import Telling

#: A destination that is busy with other guests is asked again this often, and given up after so long.
SLOT_LOOK_S = 1.0
SLOT_PATIENCE_S = 1800.0
#: What two hosts said longer ago than this is asked again before a guest is sent.
STALE_S = 5.0
ENDED_ELSEWHERE = "the migration that was under way took it elsewhere, or it was shut down meanwhile"


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


@dataclasses.dataclass
class _Trail:
    """Where a guest under way was seen. What may be elsewhere than at our destination is not ours to let go on here.

    Attributes:
        reached: it was seen coming in at the destination.
        ran: it was seen to run there, so it may have gone on from there.
    """

    reached: bool = False
    ran: bool = False

    def add(self, there: Side) -> None:
        """One more look at the destination."""
        self.reached = self.reached or there.active
        self.ran = self.ran or there.state == "running"


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
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return step_result(step, "refused", refusals=[_why_not(error)])
        if answers.refusals:
            return step_result(step, "refused", refusals=answers.refusals)
        decision = self._decide(step, answers)
        return step_result(step, "would_move", strategy=decision.name, reason=decision.reason)

    def move(self, step: Step, transferred: t.Callable[[], None]) -> Result:
        """Move a guest; the result says what became of it, judged from both sides."""
        story = Story(step, self._telling, self._clock)
        try:
            story.tell("step.started", "setup", "looking at both sides", level=1)
            go_on = self._before(step, story, transferred)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return story.refuse([_why_not(error)])
        return go_on()

    def _before(self, step: Step, story: Story, transferred: t.Callable[[], None]) -> t.Callable[[], Result]:
        """All that comes before something is done to the guest; returns what is to be done."""
        here, there = self._look(step)
        if here.state == "paused" and here.state_reason == "migration" and not here.migrating:
            here, there = self._left_behind(step, story)
        known = self._known_end(step, here, there)
        if known:
            return lambda: self._close(step, story, known, here, there)
        if here.migrating:
            return lambda: self._adopt(step, story, there)
        answers, asked_at = self._ask(step), self._clock()
        refusals = answers.refusals or self._await_slot(step, story)
        if not refusals and self._clock() >= asked_at + STALE_S:
            # While it waited, other guests took memory there, or somebody closed the host.
            answers = self._ask(step)
            refusals = answers.refusals
        if not refusals and self._interrupted.is_set():
            refusals = [
                refusal("interrupted", "it was interrupted before it began", "start it again when you are ready")
            ]
        if refusals:
            return lambda: story.refuse(refusals)
        decision = self._decide(step, answers)
        source, target = self._endpoints(step)
        here_link, there_link = self._connections.get(source.uri), self._connections.get(target.uri)
        domain = here_link.connection.lookupByUUIDString(step["guest"]["uuid"])
        definition = _definition(domain)
        job = MigrationJob(domain, target.uri, decision, here_link.events, there_link.events, clock=self._clock)
        story.begin(decision)
        return lambda: self._migrate(step, story, job, decision, definition, transferred)

    def _look(self, step: Step) -> tuple[Side, Side]:
        here, there = (
            both_sides.look_at(self._connections, endpoint, step["guest"]["uuid"]) for endpoint in self._endpoints(step)
        )
        for side, endpoint in zip((here, there), self._endpoints(step)):
            if not side.reachable:
                # Says why in words that an operator can act on.
                self._connections.get(endpoint.uri)
                raise virt.VirtError(
                    refusal(
                        "not_answering",
                        f"{side.host} does not say how {step['guest']['name']} is: {side.error}",
                        f"see what it is busy with on {side.host}: virsh domjobinfo {shown(step['guest']['name'])}",
                    )
                )
        return here, there

    def _endpoints(self, step: Step) -> tuple[Endpoint, Endpoint]:
        name = step["destination"]
        known = self._settings.destinations.get(name)
        # Without a URI libvirt would open the hypervisor of this very host.
        if known is None or not known.get("connect_uri"):
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
        if here.state == "absent":
            why = refusal(
                "not_here",
                f"{guest} is not on {here.host}: it is {there.words()}",
                f"see why it does not run there: virsh domstate --reason {shown(guest)} on {there.host}",
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

    def _await_slot(self, step: Step, story: Story) -> list[Refusal]:
        """Wait until the destination takes in few enough guests for one more."""
        _source, target = self._endpoints(step)
        limit = self._settings.incoming_limit
        end = self._clock() + SLOT_PATIENCE_S
        told = False
        while True:
            coming = destination.incoming(self._connections.get(target.uri).connection)
            others = "another guest" if coming == 1 else f"{coming} other guests"
            if coming < limit:
                return []
            if self._stopping.is_set() or self._clock() >= end:
                return [
                    refusal(
                        "destination_busy",
                        f"{target.host} is taking in {others}, and {limit} at once is the limit",
                        "run it again later, or raise incoming_limit",
                    )
                ]
            if not told:
                told = True
                story.tell(
                    "step.waiting",
                    "waiting",
                    f"waiting for {target.host}, which is taking in {others}",
                    incoming=coming,
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

    def _migrate(
        self,
        step: Step,
        story: Story,
        job: MigrationJob,
        decision: Decision,
        definition: str | None,
        transferred: t.Callable[[], None],
    ) -> Result:
        control = Control(decision)
        try:
            ending = job.run(control, story.watcher(transferred), self._interrupted)
        except virt.libvirt.libvirtError as error:
            # It did not even start; both sides will say so.
            ending = Ending(error=str(error), error_code=error.get_error_code())
        story.ended(ending)
        steering = self._steering(step, story, control, ending.elapsed_s)
        steering.no_way_back, steering.given_up = ending.no_way_back, ending.given_up
        trail = _Trail(ending.reached, ran=ending.switchover.resumed_at is not None)
        return self._verify(step, story, ending, steering, trail, definition)

    def _verify(
        self,
        step: Step,
        story: Story,
        ending: Ending,
        steering: Steering,
        trail: _Trail,
        definition: str | None,
        *,
        ended: str = "",
    ) -> Result:
        """Believe both sides, whatever the call said, and put right what can be put right safely."""
        verdict, here, there = self._settle(step, steering, trail, suspended=ending.suspended)
        if verdict.kind == "ended" and ended:
            verdict = dataclasses.replace(verdict, reason=f"{verdict.reason}; {ended}")
        ending.given_up = ending.given_up or steering.given_up
        ending.memory_bytes = max(ending.memory_bytes, steering.memory_bytes)
        if verdict.kind == "resume_source" and trail.reached and not trail.ran:
            verdict, here, there = self._resume(step, story)
        elif verdict.kind == "resume_source":
            verdict = _may_be_elsewhere(step, verdict)
        story.tell("step.verified", "verify", verdict.reason, level=1, verdict=verdict.kind)
        if verdict.kind == "moved":
            return story.moved(ending, *self._mend(step, here, there, definition))
        return story.not_moved(ending, verdict)

    def _settle(
        self, step: Step, steering: Steering | None = None, trail: _Trail | None = None, *, suspended: bool = False
    ) -> tuple[Verdict, Side, Side]:
        source, target = self._endpoints(step)

        def watching(here: Side, there: Side) -> bool:
            if steering is None or trail is None:
                return False
            trail.add(there)
            steering.no_way_back = steering.no_way_back or "postcopy" in here.state_reason
            # A migration to somewhere else is not ours to steer.
            if trail.reached:
                steering.look()
            return not steering.is_ending

        return both_sides.settle(
            self._connections,
            step["guest"]["name"],
            step["guest"]["uuid"],
            source,
            target,
            suspended_by_us=suspended,
            clock=self._clock,
            sleep=self._sleep,
            watching=watching,
        )

    def _steering(self, step: Step, story: Story, control: Control, elapsed_s: float) -> Steering:
        started = self._clock() - elapsed_s
        watcher = story.watcher(lambda: None)
        return Steering(lambda: self._domain(step), control, watcher, self._interrupted, started, self._clock)

    def _domain(self, step: Step) -> t.Any:
        source, _target = self._endpoints(step)
        return self._connections.get(source.uri).connection.lookupByUUIDString(step["guest"]["uuid"])

    def _left_behind(self, step: Step, story: Story) -> tuple[Side, Side]:
        """A guest that a migration left paused.

        It goes on if a run that died was sending it to this very destination, and no other host of the plan has it.
        """
        verdict, here, there = self._settle(step)
        if verdict.kind == "resume_source":
            sent_to = records.under_way(self._settings.state_dir, step["guest"]["uuid"])
            if sent_to == step["destination"] and not self._seen_elsewhere(step):
                verdict, here, there = self._resume(step, story)
            else:
                verdict = _may_be_elsewhere(step, verdict)
        if verdict.kind == "unclear":
            raise virt.VirtError(refusal("left_paused", verdict.reason, verdict.remedy))
        return here, there

    def _seen_elsewhere(self, step: Step) -> bool:
        """Whether a third host has the guest, or cannot be asked."""
        for name, known in self._settings.destinations.items():
            if name in (self._settings.source.host, step["destination"]):
                continue
            if not known.get("connect_uri"):
                return True
            side = both_sides.look_at(self._connections, Endpoint(name, known["connect_uri"]), step["guest"]["uuid"])
            if side.active or not side.reachable:
                return True
        return False

    def _resume(self, step: Step, story: Story) -> tuple[Verdict, Side, Side]:
        source, target = self._endpoints(step)
        story.tell("migration.decision", "verify", f"letting the guest go on at {source.host}", action="resume_source")
        try:
            self._domain(step).resume()
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            story.tell("migration.decision", "failed", f"it cannot go on: {error}", action="resume_failed")
        verdict, here, there = self._settle(step)
        if verdict.kind == "resume_source":
            by_hand = f"let it go on by hand (virsh resume {shown(step['guest']['name'])} on {source.host})"
            verdict = Verdict("unclear", verdict.reason, f"{by_hand}; {target.host} has nothing of it")
        return verdict, here, there

    def _mend(self, step: Step, here: Side, there: Side, definition: str | None) -> tuple[list[str], str | None]:
        """Returns what was put right, and what could not be."""
        guest = step["guest"]
        faults = definition_faults(guest["name"], here, there, persistent_before=definition is not None)
        if not faults:
            return [], None
        source, target = self._endpoints(step)
        try:
            return both_sides.mend_definitions(self._connections, source, target, guest["uuid"], definition), None
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            # It runs where it should; nothing of this is worth calling the move anything but done.
            return [], f"it has moved, but {' and '.join(faults)}, and that could not be put right: {error}"

    def _close(self, step: Step, story: Story, known: Result, here: Side, there: Side) -> Result:
        """Nothing to move. A run that died just after a move may have left the definition behind."""
        if known["outcome"] == "already_there" and here.persistent and here.state_reason == "migrated":
            with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
                _done, known["error"] = self._mend(step, here, there, _definition(self._domain(step)))
        return story.close(known)

    def _adopt(self, step: Step, story: Story, there: Side) -> Result:
        """A migration that somebody started, most likely an earlier run that died: steer it and wait for its end."""
        story.tell("run.attached", "pre-copy", "a migration is under way already; waiting for its end")
        definition, elapsed_s = None, 0.0
        # It may end at any moment, and then both sides say what became of it.
        with contextlib.suppress(virt.libvirt.libvirtError, virt.VirtError):
            domain = self._domain(step)
            definition = _definition(domain)
            elapsed_s = domain.jobStats().get("time_elapsed", 0) / 1000
        known = self._settings.destinations[step["destination"]]
        # Whether it may switch to post-copy, only libvirt knows; it refuses where it may not.
        path = Path(known["connect_uri"], known.get("migration_address"), postcopy=True)
        decision = choose(intents.normalise(step["intent"]), path, persistent=definition is not None)
        steering = self._steering(step, story, Control(decision), elapsed_s)
        ending, trail = Ending(elapsed_s=elapsed_s), _Trail()
        trail.add(there)
        return self._verify(step, story, ending, steering, trail, definition, ended=ENDED_ELSEWHERE)


def _may_be_elsewhere(step: Step, verdict: Verdict) -> Verdict:
    guest, source = step["guest"]["name"], step["source"]
    return Verdict(
        "unclear",
        f"{verdict.reason}, and it may have been on its way to another host, or have gone on from there",
        f"see where it went (/var/log/libvirt/qemu/{guest}.log on {source}); only if it runs on no host, let it go on:"
        f" virsh resume {shown(guest)} on {source}",
    )


def _vanished(step: Step) -> Refusal:
    name, source = step["guest"]["name"], step["source"]
    return refusal("vanished", f"{name} has just gone from {source}", "see who stopped or moved it, and run again")


def _in_use_bytes(guest: t.Mapping[str, t.Any]) -> int:
    memory = int(guest["memory_bytes"] or 0)
    resident = (guest["balloon"] or {}).get("rss_bytes")
    return memory if resident is None else min(memory, int(resident))


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
