# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: waits for other hosts: for a slot at a destination, and for guests that others send.

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import RECOVER, Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds, listed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import Move, MoveContext, StoppedError

#: The other hosts are asked this often. After this long the step is refused.
POLL_S = 1.0
#: So many guests are named that a destination takes in.
NAMES_TOLD = 3
WAIT_TIMEOUT_S = 1800.0
#: Time from asking a destination for a slot until a guest is seen coming in: measured 0.5 to 1.1 s. A source waits so
#: long for each source that comes before it, to see whether that one takes the slot.
SLOT_CLAIM_S = 1.5
#: A source waits for so many others at most. If two take the slot at once, only their forecasts become wrong.
MAX_SLOT_CLAIMS = 4


class HostWaits:
    """Waits for other hosts on behalf of a step.

    Args:
        context: of the run. When it is stopped, nobody waits any longer.
    """

    def __init__(self, context: MoveContext) -> None:
        self._context = context
        self._hosts = context.hosts
        self._clock = context.clock
        self._sleep = context.sleep
        #: by destination, the guests that one step has waited for in vain
        self._in_vain: dict[str, frozenset[str]] = {}

    def for_slot(self, move: Move) -> list[Refusal]:
        """Wait until the destination has a free slot; returns why the step is refused if it never has.

        Raises: StoppedError when the run was stopped meanwhile.
        """
        target, limit = move.step["destination"], self._context.settings.incoming_limit
        end, told = self._clock() + WAIT_TIMEOUT_S, ""
        first = SLOT_CLAIM_S * min(self._context.settings.ranks.get(target, 0), MAX_SLOT_CLAIMS)
        free_since: float | None = None
        while True:
            coming = self._hosts.incoming(move.step)
            others = listed(coming, NAMES_TOLD)
            if len(coming) < limit:
                free_since = self._clock() if free_since is None else free_since
                if self._clock() >= free_since + first:
                    return []
            else:
                free_since = None
            self._must_go_on()
            # What one guest has waited for in vain, the next one need not wait for as long.
            in_vain = len(coming) >= limit and self._in_vain.get(target) == frozenset(coming)
            if in_vain or self._clock() >= end:
                self._in_vain[target] = frozenset(coming)
                return [_busy(target, others, limit)]
            if len(coming) >= limit and told != others:
                told = others
                move.log.tell(
                    "step.waiting",
                    "waiting",
                    f"waiting for {target}, which is taking in {others}, for up to {_left(end - self._clock())}",
                    incoming=len(coming),
                )
            self._sleep(POLL_S)

    def for_arrivals(self, move: Move) -> list[Refusal]:
        """Wait until guests that other sources send have arrived; returns why the step is refused if one does not.

        Raises: StoppedError when the run was stopped meanwhile.
        """
        for other in move.step.get("awaits") or ():
            end, told = self._clock() + WAIT_TIMEOUT_S, False
            name, target = other["guest"]["name"], ", or on to ".join(other["arrivals"])
            while not self._has_arrived(other):
                self._must_go_on()
                if self._clock() >= end:
                    return [
                        refusal(
                            "after_failed",
                            f"it may move only after {name} has come to {target}, and {name} is not there",
                            f"see what became of {name}, then make a new plan",
                        )
                    ]
                if not told:
                    told = True
                    words = f"waiting for {name} to come to {target}, for up to {human_seconds(WAIT_TIMEOUT_S)}"
                    move.log.tell("step.waiting", "waiting", words, after=other["id"])
                self._sleep(POLL_S)
        return []

    def _must_go_on(self) -> None:
        if self._context.stopping.is_set():
            raise StoppedError

    def _has_arrived(self, other: t.Mapping[str, t.Any]) -> bool:
        return any(self._runs_at(host, other["guest"]["uuid"]) for host in other["arrivals"])

    def _runs_at(self, host: str, uuid: str) -> bool:
        try:
            domain = self._hosts.domain_at(host, uuid)
            return bool(domain.state()[0] == virt.libvirt.VIR_DOMAIN_RUNNING)
        except (virt.libvirt.libvirtError, virt.VirtError):
            # It is not there yet, or that host does not answer now. Either may change in a moment.
            return False


def _busy(target: str, others: str, limit: int) -> Refusal:
    """Why a guest is not sent to a destination that has been taking in others for too long."""
    return refusal(
        "destination_busy",
        f"{target} is taking in {others} since {human_seconds(WAIT_TIMEOUT_S)} or longer, and {limit} at once is the"
        " limit",
        f"see on {target} whether they still come in (virsh domjobinfo); if their moves broke off: {RECOVER}. Then run"
        " it again, or raise incoming_limit",
    )


def _left(seconds: float) -> str:
    """What is left of a wait, to the minute where it is long."""
    return human_seconds(60 * math.ceil(seconds / 60) if seconds >= 60 else seconds)
