# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: takes memory that a guest does not need by its balloon, and gives it back at once. That
# memory is all zeros then, on the host and in the guest, and zeros are not sent.

from __future__ import annotations

import dataclasses
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.ballooning import (
    BYTES_PER_S,
    Freeing,
    is_short_of_memory,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import taken_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records.taken_memory import SCHEMA, Taken
from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.memory_report import MemoryReport, report

POLL_S = 0.25
#: After this long without any change, the guest gives nothing more.
STANDSTILL_S = 3.0
#: Balloons work in whole pages of the guest, and some guests keep a few pages.
SLACK_KIB = 1024
#: A balloon may take so many times longer than expected, and at least the time below.
OVERDUE = 4.0
MIN_TIMEOUT_S = 5.0
#: After this long without any change, a guest that takes its memory back is not awaited. A stopped libvirtd is back by
#: then.
RETURN_TIMEOUT_S = 30.0
_KIB = 1024
#: What may come of giving back, after which no run has the guest's memory any more.
ENDED = ("returned", "gone", "restarted", "resized")

FindDomain = t.Callable[[], t.Any]


@dataclasses.dataclass(frozen=True)
class Freed:
    """What freeing memory has achieved.

    Attributes:
        bytes: of the host's memory that the guest holds no more.
        returned: the guest has its memory back.
        stopped: why it ended early, in words, or None.
        busy: another run is at its memory.
    """

    bytes: int
    returned: bool
    stopped: str | None = None
    busy: bool = False


class Balloon:
    """The balloon of one guest.

    Args:
        find: the guest, on a writable connection that lives; it is asked again after an error.
        state_dir: where this host keeps its records.
        interrupted: when set, no more is taken. What was taken is given back all the same.
    """

    def __init__(
        self,
        find: FindDomain,
        state_dir: str,
        interrupted: threading.Event,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._find = find
        self._state_dir = state_dir
        self._interrupted = interrupted
        self._clock = clock
        self._sleep = sleep

    def free(self, freeing: Freeing) -> Freed:
        """Take what the guest does not need, and give it back.

        Raises:
            OSError: what is to be taken could not be put on record; nothing was taken.
            libvirtError: the guest could not be asked; nothing was taken.
        """
        domain = self._find()
        uuid = domain.UUIDString()
        with taken_memory.locked(self._state_dir, uuid) as alone:
            if not alone:
                return Freed(0, returned=False, stopped="another run is at its memory", busy=True)
            if taken_memory.read(self._state_dir, uuid) is not None:
                # Its size now is not its own size. To record this size would lose the rest for good.
                return Freed(0, returned=False, stopped="it has not got back the memory that an earlier run has taken")
            before = report(domain, None)
            taken = _taken(domain, before, freeing)
            if not 0 < taken["target_kib"] < taken["before_kib"]:
                return Freed(0, returned=True, stopped="somebody has resized it meanwhile")
            # On disk before it is done: after a crash, the next run knows what to give back.
            taken_memory.store(self._state_dir, taken)
            try:
                stopped = self._take(domain, taken, freeing, before)
                rss = report(domain, None).memory.rss_bytes
            except virt.libvirt.libvirtError as error:
                stopped, rss = f"libvirt says: {error}", None
            finally:
                returned = self.give_back(taken) != "not_returned"
        held_bytes = before.memory.rss_bytes
        freed = max(0, held_bytes - rss) if held_bytes is not None and rss is not None else 0
        return Freed(freed, returned, stopped)

    def give_back(self, taken: Taken) -> str:
        """Give a guest back what was taken, and wait until it has it. The caller has locked the guest's record.

        Returns: C(returned); C(gone) when it is off or no longer here; C(restarted) or C(resized) when its size is no
            more of our making, and was left as it is; C(not_returned) when that took too long.
        """
        started, wanted, asked = self._clock(), taken["before_kib"], False
        most, grew_at = 0, started
        while True:
            size = most
            try:
                domain = self._find()
                if not asked:
                    others = _of_others(taken, domain)
                    if others:
                        return self._done(taken, others)
                    _resize(domain, wanted)
                    asked = True
                size = _size_kib(domain)
            except (virt.libvirt.libvirtError, virt.VirtError) as error:
                if _is_off(self._find, error):
                    return self._done(taken, "gone")
            if size >= wanted - SLACK_KIB:
                return self._done(taken, "returned")
            now = self._clock()
            if size > most:
                most, grew_at = size, now
            if now >= min(grew_at + RETURN_TIMEOUT_S, started + self._return_within_s(taken)):
                return "not_returned"
            self._sleep(POLL_S)

    def _return_within_s(self, taken: Taken) -> float:
        """How long a guest may take until it has its memory back. After an interrupt it goes on alone."""
        if self._interrupted.is_set():
            return RETURN_TIMEOUT_S
        expected_s = (taken["before_kib"] - taken["target_kib"]) * _KIB / BYTES_PER_S
        return max(RETURN_TIMEOUT_S, OVERDUE * expected_s)

    def _done(self, taken: Taken, outcome: str) -> str:
        taken_memory.remove(self._state_dir, taken["uuid"])
        return outcome

    def _take(self, domain: t.Any, taken: Taken, freeing: Freeing, before: MemoryReport) -> str | None:
        """Take the memory; returns why that ended early, or None."""
        started = self._clock()
        end = started + max(MIN_TIMEOUT_S, OVERDUE * (freeing.costs_s or 0))
        least, moved_at = taken["before_kib"], started
        _resize(domain, taken["target_kib"])
        while True:
            seen, now = report(domain, None), self._clock()
            size = (seen.memory.current_bytes or 0) // _KIB
            if seen.at_s > before.at_s and is_short_of_memory(seen.since(before)):
                return "the guest came under pressure"
            if size <= taken["target_kib"] + SLACK_KIB:
                return None
            if self._interrupted.is_set():
                return "it was interrupted"
            if size < least:
                least, moved_at = size, now
            if now >= moved_at + STANDSTILL_S or now >= end:
                return f"the guest gave {human_bytes((taken['before_kib'] - least) * _KIB)} and no more"
            self._sleep(POLL_S)


def _of_others(taken: Taken, domain: t.Any) -> str | None:
    """Why the size of a guest is not what was taken of it: C(restarted), C(resized), or None.

    Another QEMU has the size that it was started with. A balloon that was set beyond our two sizes was set by others.
    A record of an older version names no QEMU; then only the sizes tell.
    """
    boot, now = taken.get("boot_id"), boot_id()
    if boot and now and domain.isActive() and (boot, taken.get("domain_id")) != (now, domain.ID()):
        return "restarted"
    size = _size_kib(domain)
    ours = taken["target_kib"] - SLACK_KIB <= size <= taken["before_kib"] + SLACK_KIB
    return None if ours else "resized"


def _taken(domain: t.Any, before: MemoryReport, freeing: Freeing) -> Taken:
    return {
        "schema": SCHEMA,
        "name": domain.name(),
        "uuid": domain.UUIDString(),
        "before_kib": (before.memory.current_bytes or 0) // _KIB,
        "target_kib": (freeing.target_bytes or 0) // _KIB,
        "boot_id": boot_id(),
        "domain_id": domain.ID(),
    }


def _resize(domain: t.Any, kib: int) -> None:
    domain.setMemoryFlags(kib, virt.libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _size_kib(domain: t.Any) -> int:
    return int(domain.memoryStats()["actual"])


def _is_off(find: FindDomain, error: Exception) -> bool:
    """Whether the guest has ended, or is not here. Then none of its memory is taken any more."""
    lib = virt.libvirt
    if isinstance(error, lib.libvirtError) and error.get_error_code() == lib.VIR_ERR_NO_DOMAIN:
        return True
    try:
        return not find().isActive()
    except (lib.libvirtError, virt.VirtError):
        return False
