# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: measures the working sets of one host's guests at the same time, within a budget.

from __future__ import annotations

import dataclasses
import random
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import Reading
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.sampling_budget import (
    RepeatedWindow,
    first_windows,
    more_windows,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    NotAskedError,
    each,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import dirty_rate, memory_sample

#: So many pieces of 16 KiB are read of each guest's memory, in this share of the budget. A piece takes 1 to 8 ms. With
#: so many the share that compression leaves is wrong by 1 to 2 % of the memory, and so is the share of touched pages.
SAMPLE_CHUNKS = 192
SAMPLE_SHARE = 0.3
#: Fewer pieces tell nothing. Where there is no time for so many of each guest, not all guests are sampled.
MIN_CHUNKS = 16
#: Between the two readings of a guest's memory.
PAUSE_S = 0.5
#: The second reading takes as long as the first. One that takes longer than so many times of it is ended.
SECOND_READ_FACTOR = 1.5


@dataclasses.dataclass
class GuestMeasurement:
    """What was measured of one guest.

    Attributes:
        domain: the guest's ``virDomain``.
        readings: of the dirty-page sampling.
        sample: of its memory, or None.
        vcpu_utilisation: of all its vCPUs together, 0 to 1, or None.
        disk_write_bytes_per_s: or None.
        refused: why it could not be measured, or None.
    """

    domain: t.Any
    readings: list[Reading] = dataclasses.field(default_factory=list)
    sample: memory_sample.MemorySample | None = None
    vcpu_utilisation: float | None = None
    disk_write_bytes_per_s: float | None = None
    refused: Refusal | None = None


NeedsMore = t.Callable[[GuestMeasurement], bool]


def measure_all(
    connection: t.Any,
    domains: t.Sequence[t.Any],
    *,
    allow_monitor: bool,
    budget_s: float,
    sample_memory: bool,
    needs_more: NeedsMore,
) -> list[GuestMeasurement]:
    """Measure guests within a budget: all of them once, then again those whose forecast depends on more.

    Args:
        connection: a writable one; libvirt counts starting a measurement as a change.
        domains: running guests.
        allow_monitor: may talk to QEMU directly, which is finer and taints the guest.
        budget_s: seconds for the whole host.
        sample_memory: also read a sample of each guest's memory.
        needs_more: whether a guest needs more readings, given what is known of it.
    """
    budget = _Budget(budget_s)
    sampler: dirty_rate.Sampler = dirty_rate.LibvirtSampler()
    if allow_monitor and all(each(list(domains), dirty_rate.monitor_usable)):
        sampler = dirty_rate.MonitorSampler()
    fine = isinstance(sampler, dirty_rate.MonitorSampler)
    guests = [GuestMeasurement(domain) for domain in domains]
    before, begun = _counters(connection), time.monotonic()
    for number, window_s in enumerate(_windows(first_windows(fine=fine, budget_s=budget_s))):
        if number == 0 or budget.allows(window_s, len(guests)):
            _run(guests, sampler, window_s, budget)
    if sample_memory:
        _sample(guests, min(SAMPLE_SHARE * budget_s, budget.left_s))
    for window_s in _windows(more_windows(fine=fine)):
        doubtful = [guest for guest in guests if guest.refused is None and needs_more(guest)]
        if not doubtful or not budget.allows(window_s, len(doubtful)):
            break
        _run(doubtful, sampler, window_s, budget)
    _rates(guests, before, _counters(connection), time.monotonic() - begun)
    return guests


class _Budget:
    """The time left for a host. Its guests are measured at the same time, but each has to be asked by itself."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._asking_s = 0.0

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def allows(self, window_s: float, guests: int) -> bool:
        """Whether there is time to measure so many guests, if asking takes as long as the last time."""
        return window_s + self._asking_s * guests <= self.left_s

    def took(self, seconds: float, window_s: float, guests: int) -> None:
        """Take in how long a measurement of so many guests took."""
        self._asking_s = max(0.0, seconds - window_s) / max(1, guests)


def _windows(windows: t.Iterable[RepeatedWindow]) -> list[float]:
    return [window.window_s for window in windows for _repeat in range(window.repeats)]


def _run(guests: t.Sequence[GuestMeasurement], sampler: dirty_rate.Sampler, window_s: float, budget: _Budget) -> None:
    able = [guest for guest in guests if guest.refused is None]
    begun = time.monotonic()
    answers = dirty_rate.measure([guest.domain for guest in able], sampler, window_s)
    budget.took(time.monotonic() - begun, window_s, len(able))
    for guest, answer in zip(able, answers):
        if isinstance(answer, Reading):
            guest.readings.append(answer)
        else:
            guest.refused = answer


def _sample(guests: t.Sequence[GuestMeasurement], budget_s: float) -> None:
    """Read a sample of all guests' memory, wait once, and read it again."""
    able = [guest for guest in guests if guest.refused is None]
    # Where there is no time for all, each measurement samples others.
    random.shuffle(able)
    pause_s = min(PAUSE_S, budget_s / 3)
    look_s = (budget_s - pause_s) / 2
    places = each(able, lambda guest: memory_sample.spread(guest.domain, SAMPLE_CHUNKS))
    first = _read([(guest, place) for guest, place in zip(able, places) if isinstance(place, list)], look_s)
    time.sleep(pause_s)
    second = _read([(guest, list(before)) for guest, before in first], SECOND_READ_FACTOR * look_s)
    again = {id(guest): after for guest, after in second}
    for guest, before in first:
        # Without a sample the forecast is less exact, and says so. The guest can be moved all the same.
        after = again.get(id(guest))
        if after:
            guest.sample = memory_sample.compare([(before[place], after[place]) for place in after])


def _read(
    wanted: t.Sequence[tuple[GuestMeasurement, list[int]]], budget_s: float
) -> list[tuple[GuestMeasurement, dict[int, bytes]]]:
    """Read guests' memory one after the other, each for its share of the time; those that answered, while there was
    time.
    """
    share, end = budget_s / max(1, len(wanted)), time.monotonic() + budget_s

    def read(one: tuple[GuestMeasurement, list[int]]) -> dict[int, bytes]:
        if time.monotonic() >= end:
            raise NotAskedError
        return memory_sample.read(one[0].domain, one[1], least=MIN_CHUNKS, budget_s=share)

    answers = each(wanted, read, timeout_s=ANSWER_TIMEOUT_S + share)
    return [(guest, answer) for (guest, dummy), answer in zip(wanted, answers) if isinstance(answer, dict)]


Counters = dict[str, tuple[int, int, int]]


def _counters(connection: t.Any) -> Counters:
    """By guest: CPU nanoseconds used, vCPUs, bytes written to disks."""
    lib = virt.libvirt
    groups = lib.VIR_DOMAIN_STATS_CPU_TOTAL | lib.VIR_DOMAIN_STATS_VCPU | lib.VIR_DOMAIN_STATS_BLOCK
    found = {}
    for domain, stats in connection.getAllDomainStats(groups, lib.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT):
        vcpus = int(stats.get("vcpu.current", 1))
        used = sum(int(stats.get(f"vcpu.{number}.time", 0)) for number in range(vcpus))
        written = sum(
            int(stats.get(f"block.{number}.wr.bytes", 0)) for number in range(int(stats.get("block.count", 0)))
        )
        found[domain.UUIDString()] = (used or int(stats.get("cpu.time", 0)), vcpus, written)
    return found


def _rates(guests: t.Sequence[GuestMeasurement], before: Counters, after: Counters, seconds: float) -> None:
    for guest in guests:
        uuid = guest.domain.UUIDString()
        if uuid in before and uuid in after and seconds > 0:
            used = after[uuid][0] - before[uuid][0]
            guest.vcpu_utilisation = max(0.0, min(1.0, used / 1e9 / seconds / max(1, after[uuid][1])))
            guest.disk_write_bytes_per_s = max(0.0, (after[uuid][2] - before[uuid][2]) / seconds)
