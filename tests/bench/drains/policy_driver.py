# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves guests away from the host it runs on, as a policy says: by rules on what a migration shows of itself.

Sent to the source host and run there with the task as its argument, in JSON (see peers.task); prints what became of
each guest, in JSON. It imports nothing of the bench, since the host has nothing of it.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
import typing as t

#: How often an end is looked for; a policy looks at its own, slower pace.
TICK_S = 0.1
#: How long an aborted migration may take to end.
ABORT_S = 20.0

Seen = dict[str, float]
Rule = dict[str, t.Any]


def due(ladders: list[list[Rule]], seen: Seen) -> list[Rule]:
    """Take the rules that are due off their ladders: of each ladder the first, if what it watches is above its mark.

    Args:
        ladders: rules to be followed one after the other, one at a look: {"when", "above", "do", "value"}.
        seen: what a rule may watch: iteration, elapsed_s, stalled_s.
    """
    return [ladder.pop(0) for ladder in ladders if ladder and seen[ladder[0]["when"]] > ladder[0]["above"]]


class Lowest:
    """How long what remains has not been lower than ever before."""

    def __init__(self) -> None:
        self._lowest: float | None = None
        self._since = 0.0

    def stalled_s(self, remaining: float, now: float) -> float:
        """Take one more reading at a time in seconds."""
        if self._lowest is None or remaining < self._lowest:
            self._lowest, self._since = remaining, now
        return now - self._since


class Move:
    """One guest on its way: libvirt's call in a thread of its own, the policy's looks in the caller's."""

    def __init__(self, libvirt: t.Any, guest: str, task: dict[str, t.Any]) -> None:
        self._libvirt = libvirt
        self._guest, self._task = guest, task
        self._calling, self._watching = libvirt.open("qemu:///system"), libvirt.open("qemu:///system")
        self._completed: dict[str, t.Any] = {}
        self._last: dict[str, t.Any] = {}
        self._error: str | None = None
        self._did: list[dict[str, t.Any]] = []

    def run(self, overall_end: float) -> dict[str, t.Any]:
        """Move it, or abort it when a cap is reached; return what became of it. Times are of the monotonic clock."""
        domain = self._watching.lookupByName(self._guest)
        self._watching.domainEventRegisterAny(domain, self._libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, self._note, None)
        if self._task["downtime_ms"]:
            domain.migrateSetMaxDowntime(self._task["downtime_ms"], 0)
        began = time.monotonic_ns()
        caller = threading.Thread(target=self._call, daemon=True)
        caller.start()
        end = min(overall_end, time.monotonic() + self._task["guest_cap_s"])
        capped = self._follow(caller, domain, end)
        caller.join(ABORT_S)
        ended = time.monotonic_ns()
        time.sleep(TICK_S)
        stats = self._completed or self._last
        failed = "capped" if capped else "aborted"
        return {
            "guest": self._guest,
            "outcome": "unclear" if caller.is_alive() else failed if self._error else "moved",
            "error": self._error,
            "began_ns": began,
            "ended_ns": ended,
            "bytes": stats.get("data_processed"),
            "downtime_ms": None if self._error else stats.get("downtime"),
            "rounds": stats.get("memory_iteration"),
            "did": self._did,
        }

    def _note(self, connection: t.Any, domain: t.Any, stats: dict[str, t.Any], opaque: t.Any) -> None:
        self._completed = stats

    def _call(self) -> None:
        flags = 0
        for name in self._task["flags"]:
            flags |= getattr(self._libvirt, f"VIR_MIGRATE_{name}")
        try:
            domain = self._calling.lookupByName(self._guest)
            domain.migrateToURI3(self._task["uri"], self._task["parameters"], flags)
        except self._libvirt.libvirtError as error:
            self._error = str(error)

    def _follow(self, caller: threading.Thread, domain: t.Any, end: float) -> bool:
        """Look at it at the policy's pace until it ends; return whether a cap ended it."""
        began, lowest = time.monotonic(), Lowest()
        ladders = [list(ladder) for ladder in self._task["ladders"]]
        look = began + self._task["look_s"]
        while caller.is_alive():
            caller.join(TICK_S)
            now = time.monotonic()
            if now > end:
                self._act({"do": "abort", "value": None}, domain, now - began)
                return True
            if now < look:
                continue
            look += self._task["look_s"]
            stats = self._job(domain)
            if stats is None:
                continue
            self._last = stats
            seen = {
                "iteration": stats.get("memory_iteration", 0) - 1,
                "elapsed_s": now - began,
                "stalled_s": lowest.stalled_s(stats.get("data_remaining", 0), now),
            }
            if self._switched():
                # Nobody does anything to a guest that runs on both sides.
                continue
            for rule in due(ladders, seen):
                self._act(rule, domain, now - began)
        return False

    def _switched(self) -> bool:
        return any(done["do"] == "post-copy" and "error" not in done for done in self._did)

    def _job(self, domain: t.Any) -> dict[str, t.Any] | None:
        try:
            stats: dict[str, t.Any] = domain.jobStats()
        except self._libvirt.libvirtError:
            return None
        return stats if stats.get("data_processed") else None

    def _act(self, rule: Rule, domain: t.Any, at_s: float) -> None:
        done: dict[str, t.Any] = {"at_s": round(at_s, 1), "do": rule["do"], "value": rule.get("value")}
        try:
            if rule["do"] == "downtime":
                domain.migrateSetMaxDowntime(rule["value"], 0)
            elif rule["do"] == "post-copy":
                domain.migrateStartPostCopy(0)
            elif rule["do"] == "pause":
                domain.suspend()
            else:
                domain.abortJob()
        except self._libvirt.libvirtError as error:
            done["error"] = str(error)
        self._did.append(done)


def run(libvirt: t.Any, task: dict[str, t.Any]) -> dict[str, t.Any]:
    """Move all guests of the task, so many at once as its policy says, in their order."""
    waiting: queue.Queue[str] = queue.Queue()
    for guest in task["guests"]:
        waiting.put(guest)
    end = time.monotonic() + task["cap_s"]
    results: list[dict[str, t.Any]] = []

    def work() -> None:
        while time.monotonic() < end:
            try:
                guest = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                results.append(Move(libvirt, guest, task).run(end))
            except libvirt.libvirtError as error:
                # The others have their turn all the same.
                results.append(_not_begun(guest, str(error)))

    began = time.monotonic_ns()
    workers = [threading.Thread(target=work) for dummy in range(task["at_once"])]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return {"began_ns": began, "ended_ns": time.monotonic_ns(), "guests": results}


def _not_begun(guest: str, error: str) -> dict[str, t.Any]:
    nothing: dict[str, t.Any] = dict.fromkeys(("bytes", "downtime_ms", "rounds"))
    return {"guest": guest, "outcome": "failed", "error": error, "began_ns": 0, "ended_ns": 0, "did": [], **nothing}


def _deliver_events(libvirt: t.Any) -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def main() -> None:
    """Do the task given on the command line."""
    import libvirt

    # An error is told in the result; the library would print it too.
    libvirt.registerErrorHandler(lambda context, error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_deliver_events, args=(libvirt,), daemon=True).start()
    json.dump(run(libvirt, json.loads(sys.argv[1])), sys.stdout)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
