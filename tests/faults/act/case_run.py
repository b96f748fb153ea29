# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of one case: begin a drain, wait for the phase, strike, look, mend, do what was printed, look again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.judge import check
from faults.judge.deaths import Struck, holders, lateness, may_be_dead
from faults.judge.remedies import Remedy, remedies
from faults.judge.state import Found
from faults.plan.cases import Case
from faults.plan.faults import INTERRUPTED, Expect
from faults.results.record import Result
from harness import actual_state
from harness.ansible import Outcome
from harness.operator import Operator
from harness.tidy import mend, tidy
from lab import Lab, LabError

from . import storage
from .look import end_moves, journal, look, moving
from .scene import Scene
from .shells import Shells, Watcher
from .strikes import ARRANGE, STRIKES

FAST_MBIT = 1000
#: What a hypervisor sends over a megabit per second, as the inventory of the lab has it.
MIB_S_OF_A_MEGABIT = 1e6 / 8 * 0.956 / 2**20
#: What comes before the list of a playbook that has moved all guests, and left something to be done.
TO_DO = "To do:"
#: A host that says nothing is given up after this, so that a case does not take minutes.
SILENT_S = 45
#: Ends of waiting, for a machine with much other work.
REACH_S = 900.0
FINISH_S = 1300.0
#: So often is done what was printed, and the same playbook run again.
MOST_REMEDIES = 4


def now() -> str:
    """The time as the journal writes it. All hosts of the lab share this machine's clock."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def variables() -> dict[str, Any]:
    """What the inventories of Alice and Bob say. Guests are not measured, so that each is moved by plain pre-copy."""
    return {"kvmops_cluster_silent_s": SILENT_S, "drain_host_measure_s": 0, "restore_host_measure_s": 0}


class CaseRun:
    """One run of one case.

    Args:
        lab: with all guests at home.
        case: the case.
        number: of the run.
        folder: for what is printed.
    """

    def __init__(self, lab: Lab, case: Case, number: int, folder: Path) -> None:
        self.lab, self.case, self.number = lab, case, number
        self.folder = folder
        self.complaints: list[str] = []
        self.done: list[str] = []
        self.texts: list[str] = []
        self.scene: Scene | None = None
        self.late: str | None = None
        self.status: int | None = None

    def stage(self, words: str) -> None:
        """Note when a part of the case begins, among what is printed."""
        self.texts.append(f"==== {now()} {words}")

    def printed(self) -> str:
        """All that was printed, also by a run that was not waited for."""
        texts = list(self.texts)
        if self.scene and self.scene.drain and self.scene.drain.text not in texts:
            texts.append(self.scene.drain.text)
        return "\n".join(texts)

    def run(self) -> Result:
        """Run it."""
        began, at = time.monotonic(), now()
        with self._scene() as scene:
            verdict = self._play(scene)
        return Result(
            case=self.case.name,
            number=self.number,
            verdict=verdict,
            complaints=self.complaints,
            at=at,
            seconds=round(time.monotonic() - began, 1),
            status=self.status,
            remedies=self.done,
            note=self.late or "",
        )

    # ---- before ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _scene(self) -> Iterator[Scene]:
        source = self.case.phase.source
        guest = self.case.phase.guest or "mover"
        struck = Struck(guest=guest, waiting="", source=source, destination="any")
        alice = Operator(self.lab, self._place("alice"), user="alice", variables=variables())
        bob = Operator(self.lab, self._place("bob"), user="bob", variables=variables())
        shells = Shells(self.lab)
        scene = self.scene = Scene(self.lab, alice, bob, shells, struck)
        try:
            yield scene
        finally:
            with contextlib.suppress(LabError):
                scene.mend_all()
            alice.leave()
            bob.leave()
            scene.shells.end()
            if self.case.fault.name in ARRANGE:
                storage.unmount(scene)

    def _place(self, who: str) -> Path:
        place = self.folder / who
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _before(self) -> Found:
        """Let all guests start with their hosts, and look at all of it."""
        for guest in self.lab.guests.values():
            self.lab.host(guest.home).ssh(f"virsh -q autostart {guest.name}", check=True)
            # The lab has brought it home by hand, so to a run what it left is a file that nobody knows.
            for name in self.lab.hosts:
                if name != guest.home:
                    self.lab.host(name).ssh(
                        f"rm -f /var/lib/libvirt/images/{guest.name}.*; virsh -q pool-refresh images"
                    )
        return look(self.lab)

    def _begin(self, scene: Scene) -> None:
        phase = self.case.phase
        if self.case.fault.name in ARRANGE:
            ARRANGE[self.case.fault.name](scene)
        if phase.link_mbit:
            self.lab.fault.slow_link(phase.source, phase.link_mbit, both=True)
        scene.variables = {"drain_host_name": phase.source, "drain_host_intent": dict(phase.intent)}
        if phase.link_mbit:
            scene.variables["kvmops_cluster_bandwidth_mib_s"] = round(phase.link_mbit * MIB_S_OF_A_MEGABIT, 2)

    # ---- the play ----------------------------------------------------------------------------------------------------

    def _play(self, scene: Scene) -> str:
        before = self._before()
        self._begin(scene)
        if self.case.phase.begins is None:
            STRIKES[self.case.fault.name](scene) if self.case.phase.name == "before" else None
            scene.struck = dataclasses.replace(scene.struck, at=now(), reached_at=now())
            scene.drain = scene.operator.start("drain_host", **scene.variables)
            if self.case.phase.name != "before":
                STRIKES[self.case.fault.name](scene)
        elif not self._strike_in_phase(scene):
            return "missed"
        self.stage("the run goes on")
        outcome = self._finish(scene)
        self.stage("it is over; looking")
        self._judge_run(scene, before, outcome)
        self.stage("mending")
        scene.mend_all()
        self._mend_network()
        self.stage("doing what was printed")
        self._do_remedies(scene, outcome)
        self.stage("looking at the end")
        if self._is_split():
            return "failed" if self.complaints else "passed"
        self._judge_end(scene, before)
        return "failed" if self.complaints else "passed"

    def _strike_in_phase(self, scene: Scene) -> bool:
        """Wait until the phase has begun, and strike; whether that was in time."""
        phase = self.case.phase
        wanted = {**(phase.begins.wanted() if phase.begins else {}), "hold": phase.hold}
        if phase.guest:
            wanted["guest"] = phase.guest
        watcher = Watcher(self.lab.host(phase.source), wanted)
        try:
            self.stage("starting the drain")
            scene.drain = scene.operator.start("drain_host", **scene.variables)
            reached = self._await(scene, watcher)
            if reached is None:
                self.late = "the phase did not come"
                self.texts.append(scene.running.text)
                return False
            scene.struck = self._struck(scene, reached)
            self.stage(f"striking {scene.struck}; {reached['why']}")
            STRIKES[self.case.fault.name](scene)
            watcher.let_go()
        finally:
            watcher.end()
        self._mend_rate()
        over = list(phase.over)
        self.late = lateness(journal(self.lab, phase.source), scene.struck.guest, over, scene.struck)
        return self.late is None

    def _await(self, scene: Scene, watcher: Watcher) -> dict[str, Any] | None:
        ends = time.monotonic() + REACH_S
        while time.monotonic() < ends:
            reached = watcher.reached(0.5)
            if reached or not scene.running.is_at_work():
                return reached
        return None

    def _struck(self, scene: Scene, reached: dict[str, Any]) -> Struck:
        guest = reached["guest"]
        there = [one.name for one in self.lab.guests.values() if one.home == scene.source and one.name != guest]
        return Struck(
            guest=guest,
            waiting=there[0] if there else "",
            source=scene.source,
            destination=reached["destination"] or next(name for name in self.lab.hosts if name != scene.source),
            reached_at=reached["at"],
            at=now(),
            job=reached["job"],
        )

    def _mend_rate(self) -> None:
        for name in self.lab.hosts:
            self.lab.fault.slow_link(name, FAST_MBIT)

    def _mend_network(self) -> None:
        for name in self.lab.hosts:
            self.lab.fault.mend(name)

    # ---- the end of the run ------------------------------------------------------------------------------------------

    def _finish(self, scene: Scene) -> Outcome | None:
        fault = self.case.fault
        if fault.lasts_s:
            ends = time.monotonic() + fault.lasts_s
            while time.monotonic() < ends:
                time.sleep(0.2)
            scene.mend_all()
        if not fault.told:
            self._await_job(scene)
            self.texts.append(scene.running.text)
            return None
        outcome = scene.running.finish(FINISH_S)
        self.status = outcome.status
        self.texts.append(outcome.text)
        self._await_job(scene)
        if scene.second:
            self._judge_second(scene, scene.second.finish(FINISH_S), self.case.expect)
        return outcome

    def _await_job(self, scene: Scene) -> None:
        """Wait until no run is at work on the source, and no guest is under way, as far as that can be seen."""

        def quiet() -> bool:
            found = look(self.lab, guests=False)
            at_work = any(host.at_work for host in found.hosts.values() if host)
            return not at_work and not any(moving(host) for host in found.hosts.values() if host)

        with contextlib.suppress(AssertionError):
            actual_state.wait_until("the job has ended", quiet, FINISH_S, 2.0)

    def _judge_second(self, scene: Scene, outcome: Outcome, expect: Expect) -> None:
        self.texts.append("---- the second run\n" + outcome.text)
        if expect.second_status and outcome.status not in expect.second_status:
            self.complaints.append(f"the second run ended with {outcome.status}, not {expect.second_status}")
        told = check.of_words(expect.second_says, outcome.words, scene.struck)
        self.complaints += [f"the second run: {one}" for one in told]

    def _dead(self, scene: Scene) -> set[str]:
        fault, homes = self.case.fault, {name: guest.home for name, guest in self.lab.guests.items()}
        held = holders(self.case.phase.name, scene.struck, homes, journal(self.lab, scene.source))
        return may_be_dead(fault.killed(self.case.phase.name), fault.end, scene.struck, held) | self._owned(scene)

    def _owned(self, scene: Scene) -> set[str]:
        """Return the guest whose owner acts."""
        return self._named(scene, self.case.fault.owner)

    def _named(self, scene: Scene, which: str) -> set[str]:
        guest = {"moving": scene.struck.guest, "waiting": scene.struck.waiting}.get(which)
        return {guest} if guest else set()

    def _judge_run(self, scene: Scene, before: Found, outcome: Outcome | None) -> None:
        found = look(self.lab)
        self.dead = self._dead(scene)
        words = outcome.words if outcome else None
        expect = self.case.expect
        told = check.after_run(
            before, found, dead=self.dead, reborn=self._owned(scene), words=words, split=expect.split
        )
        self.complaints += [f"after the run: {one}" for one in told]
        if outcome is None or words is None:
            return
        missing = {guest for guest in before.boots if not found.active(guest)} - self._owned(scene)
        told = check.of_status(outcome.status, words, found, scene.source, expected=expect.status, missing=missing)
        told += check.of_words(expect.says, words, scene.struck)
        self.complaints += [f"what it said: {one}" for one in told]

    # ---- remedies ----------------------------------------------------------------------------------------------------

    def _do_remedies(self, scene: Scene, outcome: Outcome | None) -> None:
        """Do what was printed, and run the same playbook again, until it says that all is done."""
        words = outcome.words if outcome else "run the same again"
        status = outcome.status if outcome else 1
        before: list[Remedy] | None = None
        for _number in range(MOST_REMEDIES):
            todo = remedies(words)
            if not todo and status == INTERRUPTED:
                # Ansible itself says only that it was interrupted. Whoever did that knows.
                todo = [Remedy("again")]
            if (status == 0 and TO_DO not in words) or not todo or self._is_split():
                return
            if todo == before and [one.kind for one in todo] == ["again"]:
                self.complaints.append("the printed remedy, to run it again, does not help")
                return
            before = todo
            for remedy in todo:
                self._do(remedy)
            if any(one.kind == "recover" for one in todo):
                self._recover(scene)
            force = {"drain_host_force": True} if any(one.kind == "force" for one in todo) else {}
            again = scene.operator.run("drain_host", **scene.variables, **force)
            self.done.append(f"again: {again.status}")
            self.texts.append("---- again\n" + again.text)
            words, status = again.words, again.status
        if status:
            self.complaints.append(f"after all printed remedies it still ends with {status}")

    def _recover(self, scene: Scene) -> None:
        """Run the playbook that the remedy names, and do what that prints."""
        recover = scene.operator.run("recover")
        self.done.append(f"recover: {recover.status}")
        self.texts.append("---- recover\n" + recover.text)
        for remedy in remedies(recover.words):
            self._do(remedy)

    def _do(self, remedy: Remedy) -> None:
        if remedy.kind not in ("command", "lost"):
            return
        if remedy.kind == "command" and remedy.command.startswith("virsh start") and self._runs(remedy.guest):
            return
        done = self.lab.host(remedy.host).ssh(remedy.command)
        self.done.append(f"{remedy.command} on {remedy.host}: {done.returncode}")
        if done.returncode:
            error = " ".join(done.stderr.split())
            self.complaints.append(f"the printed remedy {remedy.command} on {remedy.host} fails: {error}")
        if remedy.kind == "lost":
            self._start_anew(remedy)

    def _start_anew(self, remedy: Remedy) -> None:
        """Start a guest whose memory is lost, on one host that has a definition of it."""
        where = look(self.lab, guests=False).where(remedy.guest)
        host = next((name for name, one in where.items() if one.persistent), None)
        if host is None:
            self.complaints.append(f"{remedy.guest} is lost, and no host has a definition of it to start it anew from")
            return
        done = self.lab.host(host).ssh(f"virsh start {remedy.guest}")
        self.done.append(f"virsh start {remedy.guest} on {host}: {done.returncode}")

    def _runs(self, guest: str) -> bool:
        return bool(look(self.lab, guests=False).active(guest))

    def _is_split(self) -> bool:
        if not self.case.expect.split:
            return False
        found = look(self.lab, guests=False)
        return any("post-copy" in one.reason for name in self.lab.guests for one in found.active(name).values())

    def _judge_end(self, scene: Scene, before: Found) -> None:
        off = self._owned(scene)
        self._await_guests(self.dead)
        found = look(self.lab)
        told = check.at_end(
            before,
            found,
            scene.source,
            off=off,
            reborn=self.dead,
            undefined=self._named(scene, self.case.fault.undefines),
        )
        self.complaints += [f"at the end: {one}" for one in told]

    def _await_guests(self, names: set[str]) -> None:
        """A guest that was started anew needs its time until it answers."""

        def answers() -> bool:
            awake = [name for name in names if self._runs(name)]
            return "no answer" not in actual_state.boot_ids(self.lab, awake).values()

        with contextlib.suppress(AssertionError):
            actual_state.wait_until("all guests answer", answers, 60.0, 1.0)


def run_case(lab: Lab, case: Case, number: int, folder: Path) -> Result:
    """Run a case in a lab that is put in order first; a lab that breaks is a result, too."""
    began, at = time.monotonic(), now()
    name = re.sub(r"[^A-Za-z0-9]+", "-", case.name).strip("-")
    place = folder / f"{name}-{number}"
    running: CaseRun | None = None
    try:
        mend(lab)
        end_moves(lab)
        running = CaseRun(tidy(lab), case, number, place)
        return running.run()
    except (LabError, AssertionError, OSError) as error:
        told = " ".join(str(error).split())[:600]
        seconds = round(time.monotonic() - began, 1)
        status = running.status if running else None
        verdict = "failed" if isinstance(error, AssertionError) else "broken"
        complaints = [*(running.complaints if running else []), told]
        return Result(case.name, number, verdict, complaints, at, seconds, status, running.done if running else [], "")
    finally:
        if running:
            place.mkdir(parents=True, exist_ok=True)
            (place / "printed.txt").write_text(running.printed(), encoding="utf-8")
