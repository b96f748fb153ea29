# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: lets the first guest go to each destination alone, and no further one where guests cannot
# be reached.

from __future__ import annotations

import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import HOOK_STOPS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step

#: Whether the run is being stopped is checked this often.
POLL_S = 0.5


class DestinationGate:
    """One gate for each destination. It opens when a guest has moved there and all its hooks have run.

    Args:
        stopping: when set, nobody waits any longer.
    """

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping
        self._changed = threading.Condition()
        self._begun: dict[str, list[str]] = {}
        self._open: set[str] = set()
        self._closed: dict[str, Refusal] = {}

    def begin(self, step: Step) -> None:
        """Take part. Call this in the order of the steps: with any other, two could wait for each other."""
        with self._changed:
            self._begun.setdefault(step["destination"], []).append(step["id"])

    def enter(self, step: Step) -> None:
        """Wait until a guest has moved to this destination, or until all that were begun before have not."""
        target = step["destination"]
        with self._changed:
            while not self._stopping.is_set() and not self._may_enter(target, step["id"]):
                self._changed.wait(POLL_S)

    def _may_enter(self, target: str, step_id: str) -> bool:
        if target in self._open or target in self._closed:
            return True
        return self._begun[target][0] == step_id

    def refusal(self, step: Step) -> Refusal | None:
        """Why no further guest goes to this destination, or None."""
        with self._changed:
            return self._closed.get(step["destination"])

    def step_back(self, step: Step) -> None:
        """Take part no longer, until the next call of begin. The next one may be the first."""
        with self._changed:
            self._remove(step)

    def leave(self, step: Step, result: Result) -> None:
        """Take what became of a guest. One that did not move says nothing of its destination: the next is the first."""
        target = step["destination"]
        failed = [fault for fault in result.get("faults") or () if fault["code"] == HOOK_STOPS]
        with self._changed:
            if failed:
                self._closed.setdefault(target, _stopped(step, failed[0]))
            elif result["outcome"] == "moved":
                self._open.add(target)
            self._remove(step)

    def _remove(self, step: Step) -> None:
        if step["id"] in self._begun.get(step["destination"], ()):
            self._begun[step["destination"]].remove(step["id"])
        self._changed.notify_all()


def _stopped(step: Step, fault: t.Mapping[str, t.Any]) -> Refusal:
    guest, target = step["guest"]["name"], step["destination"]
    return refusal(
        "destination_stopped",
        f"no further guest goes to {target} in this run, because of {guest}, which moved there: {fault['reason']}",
        f"see whether {guest} can be reached on {target}, then make a new plan",
    )
