# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a step waits for that happens on other hosts, asked of their libvirtd.

from __future__ import annotations

import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import Preconditions, Settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.reporting import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.step_log import StepLog

#: What is waited for is asked for again this often, and given up after so long.
POLL_S = 1.0
WAIT_TIMEOUT_S = 1800.0
#: From asking a destination for a place until a guest is seen coming in there: measured 0.5 to 1.1 s. A source waits so
#: long for each that comes before it, to see whether that takes the place.
SLOT_CLAIM_S = 1.5
#: The last of many sources need not wait longer than for so many: two at once do no harm but to their forecasts.
MAX_SLOT_CLAIMS = 4


class StoppedError(Exception):
    """The run was stopped: it is to begin nothing more."""


class HostWaits:
    """Waits for other hosts on behalf of a step.

    Args:
        preconditions: asks them.
        settings: what is the same for all moves.
        stopping: when set, nobody waits any longer.
    """

    def __init__(
        self,
        preconditions: Preconditions,
        settings: Settings,
        stopping: threading.Event,
        clock: t.Callable[[], float],
        sleep: t.Callable[[float], None],
    ) -> None:
        self._preconditions = preconditions
        self._settings = settings
        self._stopping = stopping
        self._clock = clock
        self._sleep = sleep

    def slot(self, step: Step, log: StepLog) -> list[Refusal]:
        """Wait until the destination takes in few enough guests for one more; why not, if that never is.

        Raises: StoppedError when the run was stopped meanwhile.
        """
        target, limit = step["destination"], self._settings.incoming_limit
        end, told = self._clock() + WAIT_TIMEOUT_S, False
        first = SLOT_CLAIM_S * min(self._settings.ranks.get(target, 0), MAX_SLOT_CLAIMS)
        free_since: float | None = None
        while True:
            coming = self._preconditions.incoming(step)
            others = "another guest" if coming == 1 else f"{coming} other guests"
            if coming < limit:
                free_since = self._clock() if free_since is None else free_since
                if self._clock() >= free_since + first:
                    return []
            else:
                free_since = None
            self._must_go_on()
            if self._clock() >= end:
                return [
                    refusal(
                        "destination_busy",
                        f"{target} is taking in {others}, and {limit} at once is the limit",
                        "run it again later, or raise incoming_limit",
                    )
                ]
            if not told and coming >= limit:
                told = True
                log.tell(
                    "step.waiting",
                    "waiting",
                    f"waiting for {target}, which is taking in {others}",
                    incoming=coming,
                )
            self._sleep(POLL_S)

    def others(self, step: Step, log: StepLog) -> list[Refusal]:
        """Wait until guests that other sources send have arrived; why not, if one does not.

        Raises: StoppedError when the run was stopped meanwhile.
        """
        for other in step.get("awaits") or ():
            end, told = self._clock() + WAIT_TIMEOUT_S, False
            name, target = other["guest"]["name"], ", or on to ".join(other["arrivals"])
            while not self._has_arrived(other):
                self._must_go_on()
                if self._clock() >= end:
                    return [
                        refusal(
                            "after_failed",
                            f"it may only move after {name} has come to {target}, and that is not there",
                            f"see what became of {name}, then make a new plan",
                        )
                    ]
                if not told:
                    told = True
                    log.tell("step.waiting", "waiting", f"waiting for {name} to come to {target}", after=other["id"])
                self._sleep(POLL_S)
        return []

    def _must_go_on(self) -> None:
        if self._stopping.is_set():
            raise StoppedError

    def _has_arrived(self, other: t.Mapping[str, t.Any]) -> bool:
        return any(self._runs_at(host, other["guest"]["uuid"]) for host in other["arrivals"])

    def _runs_at(self, host: str, uuid: str) -> bool:
        try:
            domain = self._preconditions.domain_at(host, uuid)
            return bool(domain.state()[0] == virt.libvirt.VIR_DOMAIN_RUNNING)
        except (virt.libvirt.libvirtError, virt.VirtError):
            # Not there yet, or a destination that does not answer now; either may be over in a moment.
            return False
