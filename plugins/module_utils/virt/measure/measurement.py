# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: measures the working sets of one host's guests at the same time, within a budget.

from __future__ import annotations

import dataclasses
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
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import dirty_rate, memory_sample
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure.memory_look import MemoryLook

#: Memory is read while the windows go by. The second reading comes after them, in this share of the budget at most.
SECOND_READING_SHARE = 0.2
#: For so long, and so often, libvirt is asked again for what it has counted of a guest that is asked something else.
COUNTERS_S = 1.0
COUNTERS_EVERY_S = 0.05


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
    look = MemoryLook()
    before = _counters(connection, guests)
    for number, window_s in enumerate(_windows(first_windows(fine=fine, budget_s=budget_s))):
        if number == 0 or budget.allows(window_s, len(guests)):
            _run(guests, sampler, window_s, budget, look.first if sample_memory else None)
    look.second(min(SECOND_READING_SHARE * budget_s, budget.left_s))
    samples = look.samples()
    for guest in guests:
        guest.sample = samples.get(guest.domain.UUIDString())
    for window_s in _windows(more_windows(fine=fine)):
        doubtful = [guest for guest in guests if guest.refused is None and needs_more(guest)]
        if not doubtful or not budget.allows(window_s, len(doubtful)):
            break
        _run(doubtful, sampler, window_s, budget)
    _rates(guests, before, _counters(connection, guests))
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


def _run(
    guests: t.Sequence[GuestMeasurement],
    sampler: dirty_rate.Sampler,
    window_s: float,
    budget: _Budget,
    meanwhile: dirty_rate.Meanwhile | None = None,
) -> None:
    able = [guest for guest in guests if guest.refused is None]
    begun = time.monotonic()
    answers = dirty_rate.measure([guest.domain for guest in able], sampler, window_s, meanwhile)
    budget.took(time.monotonic() - begun, window_s, len(able))
    for guest, answer in zip(able, answers):
        if isinstance(answer, Reading):
            guest.readings.append(answer)
        else:
            guest.refused = answer


class _Counters(t.NamedTuple):
    """What libvirt has counted of a guest.

    Attributes:
        at: when, on the monotonic clock.
        cpu_ns: CPU time used.
        vcpus: their number.
        written_bytes: to all disks; None where libvirt does not tell it.
    """

    at: float
    cpu_ns: int
    vcpus: int
    written_bytes: int | None


def _counters(connection: t.Any, guests: t.Sequence[GuestMeasurement]) -> dict[str, _Counters]:
    """Counters by guest.

    While something else is asked of a guest, such as its memory, libvirt leaves out what only QEMU knows. So it is
    asked again for a moment.
    """
    wanted, end = {guest.domain.UUIDString() for guest in guests}, time.monotonic() + COUNTERS_S
    found = _counters_now(connection)
    while any(found[uuid].written_bytes is None for uuid in wanted & set(found)) and time.monotonic() < end:
        time.sleep(COUNTERS_EVERY_S)
        now = _counters_now(connection)
        found.update({uuid: now[uuid] for uuid in wanted & set(found) & set(now) if found[uuid].written_bytes is None})
    return found


def _counters_now(connection: t.Any) -> dict[str, _Counters]:
    lib = virt.libvirt
    groups = lib.VIR_DOMAIN_STATS_CPU_TOTAL | lib.VIR_DOMAIN_STATS_VCPU | lib.VIR_DOMAIN_STATS_BLOCK
    found = {}
    for domain, stats in connection.getAllDomainStats(groups, lib.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT):
        vcpus = int(stats.get("vcpu.current", 1))
        used = sum(int(stats.get(f"vcpu.{number}.time", 0)) for number in range(vcpus))
        cpu_ns = used or int(stats.get("cpu.time", 0))
        found[domain.UUIDString()] = _Counters(time.monotonic(), cpu_ns, vcpus, _written(stats))
    return found


def _written(stats: t.Mapping[str, t.Any]) -> int | None:
    """Bytes written to all disks; None: libvirt does not say how many disks there are, or what any of them wrote."""
    if "block.count" not in stats:
        return None
    numbers = range(int(stats["block.count"]))
    told = [int(stats[key]) for key in (f"block.{number}.wr.bytes" for number in numbers) if key in stats]
    return sum(told) if told or not numbers else None


def _rates(
    guests: t.Sequence[GuestMeasurement], before: t.Mapping[str, _Counters], after: t.Mapping[str, _Counters]
) -> None:
    for guest in guests:
        first, last = (found.get(guest.domain.UUIDString()) for found in (before, after))
        if first is None or last is None or last.at <= first.at:
            continue
        seconds = last.at - first.at
        guest.vcpu_utilisation = max(0.0, min(1.0, (last.cpu_ns - first.cpu_ns) / 1e9 / seconds / max(1, last.vcpus)))
        if first.written_bytes is not None and last.written_bytes is not None:
            guest.disk_write_bytes_per_s = max(0.0, (last.written_bytes - first.written_bytes) / seconds)
