# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen of one guest that moves: when it runs at the far end, when it is of use there, how long it is silent.

A guest is of use when it answers at the far end and has done a read or write of its disk there.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from lab import Guest, Lab, LabError, agent_protocol

PERIOD_S = 0.05
#: Prints when libvirt of a host shows a guest as running, on the clock that all hosts and the machine share.
AWAIT = 'until [ "$(virsh -q domstate {name} 2>/dev/null)" = running ]; do sleep 0.1; done; cat /proc/uptime'


@dataclass(frozen=True)
class Sight:
    """One answer of a guest."""

    at_s: float
    boot_id: int
    disk_ops: int
    disk_bad: int
    disk_errors: int


class MoveWatch:
    """Watches a guest on its way to a host, from entering to leaving the `with` block."""

    def __init__(self, lab: Lab, guest: str, destination: str) -> None:
        self._lab = lab
        self._guest: Guest = lab.guest(guest)
        self._destination = destination
        self._sights: list[Sight] = []
        self._stop = threading.Event()
        self._asker = threading.Thread(target=self._ask, daemon=True)
        self._waiter = threading.Thread(target=self._await_running, daemon=True)
        self._running_at: float | None = None
        self._began = 0.0
        self._line_before = (0, 0)

    def __enter__(self) -> MoveWatch:
        self._line_before = self._lab.line().bytes
        self._began = time.monotonic()
        self._asker.start()
        self._waiter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._asker.join()

    def _ask(self) -> None:
        while not self._stop.wait(PERIOD_S):
            reply = agent_protocol.ask(self._guest.address, timeout=1.0)
            if reply is not None:
                ops = reply.disk_verified + reply.disk_written
                self._sights.append(Sight(time.monotonic(), reply.boot_id, ops, reply.disk_bad, reply.disk_errors))

    def _await_running(self) -> None:
        command = AWAIT.format(name=self._guest.name)
        try:
            done = self._lab.host(self._destination).ssh(command, timeout=7200)
        except LabError:
            return
        if done.returncode == 0 and done.stdout:
            # The machine's clock since boot, which its monotonic clock follows when it does not sleep.
            self._running_at = (
                float(done.stdout.split()[0]) + time.monotonic() - time.clock_gettime(time.CLOCK_BOOTTIME)
            )

    def await_use(self, patience: float) -> None:
        """Wait until the guest is of use at the far end."""
        deadline = time.monotonic() + patience
        while self._useful_at() is None:
            if time.monotonic() > deadline:
                raise LabError(
                    f"{self._guest.name} is of no use on {self._destination} after {patience:g} s",
                    f"See virsh domstate and its console on {self._destination}.",
                )
            time.sleep(PERIOD_S)

    def _useful_at(self) -> float | None:
        if self._running_at is None:
            return None
        there = [sight for sight in list(self._sights) if sight.at_s >= self._running_at]
        before = [sight.disk_ops for sight in list(self._sights) if sight.at_s < self._running_at]
        least = max([*before[-1:], there[0].disk_ops]) if there else 0
        return next((sight.at_s for sight in there if sight.disk_ops > least), None)

    def found(self) -> dict[str, Any]:
        """Return what was seen until now: seconds since the start, bytes over the line there and back."""
        there, back = (now - before for now, before in zip(self._lab.line().bytes, self._line_before, strict=True))
        # A guest that is stopped at once has answered nobody before.
        times = [self._began, *(sight.at_s for sight in list(self._sights))]
        silent = max((late - early for early, late in itertools.pairwise(times)), default=None)
        useful = self._useful_at()
        return {
            "running_after_s": _since(self._began, self._running_at),
            "useful_after_s": _since(self._began, useful),
            "down_s": None if silent is None else round(silent, 2),
            "bytes_there": there,
            "bytes_back": back,
            "boots": len({sight.boot_id for sight in list(self._sights)}),
        }


def _since(began: float, moment: float | None) -> float | None:
    return None if moment is None else round(moment - began, 2)
