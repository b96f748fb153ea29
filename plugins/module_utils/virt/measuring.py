# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: measures the writable working sets of one host's guests, all at once, within a budget.

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.measuring_plan import Round, first_rounds, more_rounds
from ansible_collections.kvmops.cluster.plugins.module_utils.core.page_sampling import Reading
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import dirty_rate, memory_peek
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.patience import each

#: Pieces of 16 KiB looked at in each guest's memory, and the time for them all; a piece takes 1 to 8 ms. With so many
#: the share that compression leaves is off by 1 to 2 % of the memory, and so are the pages that hold something.
PEEK_CHUNKS = 192
PEEK_SHARE = 0.3
_KIB = 1024


@dataclasses.dataclass
class Measured:
    """What was learned of one guest.

    Attributes:
        domain: the guest's ``virDomain``.
        readings: of the dirty-page sampling.
        look: at a sample of its memory, or None.
        vcpu_utilisation: of all its vCPUs together, 0 to 1, or None.
        disk_write_bytes_per_s: or None.
        refused: why it could not be measured, or None.
    """

    domain: t.Any
    readings: list[Reading] = dataclasses.field(default_factory=list)
    look: memory_peek.Look | None = None
    vcpu_utilisation: float | None = None
    disk_write_bytes_per_s: float | None = None
    refused: Refusal | None = None


Undecided = t.Callable[[Measured], bool]


def measure_all(
    connection: t.Any,
    domains: t.Sequence[t.Any],
    *,
    allow_monitor: bool,
    budget_s: float,
    look_at_memory: bool,
    undecided: Undecided,
) -> list[Measured]:
    """Measure guests within a budget: a cheap look at all, then more for those whose forecast hangs on it.

    Args:
        connection: a writable one; libvirt counts starting a measurement as a change.
        domains: running guests.
        allow_monitor: may talk to QEMU directly, which is finer and taints the guest.
        budget_s: seconds for the whole host.
        look_at_memory: also look at a sample of each guest's memory.
        undecided: whether a guest needs a closer look, given what is known of it.
    """
    end = time.monotonic() + budget_s
    sampler: dirty_rate.Sampler = dirty_rate.LibvirtSampler()
    if allow_monitor and all(each(list(domains), dirty_rate.monitor_usable)):
        sampler = dirty_rate.MonitorSampler()
    fine = isinstance(sampler, dirty_rate.MonitorSampler)
    guests = [Measured(domain) for domain in domains]
    before, begun = _counters(connection), time.monotonic()
    _run(guests, sampler, first_rounds(fine=fine, budget_s=budget_s))
    if look_at_memory:
        _peek(guests, PEEK_SHARE * budget_s)
    for round_ in more_rounds(fine=fine):
        doubtful = [guest for guest in guests if guest.refused is None and undecided(guest)]
        if not doubtful or time.monotonic() + round_.window_s > end:
            break
        _run(doubtful, sampler, [round_])
    _rates(guests, before, _counters(connection), time.monotonic() - begun)
    return guests


def _run(guests: t.Sequence[Measured], sampler: dirty_rate.Sampler, rounds: t.Sequence[Round]) -> None:
    for round_ in rounds:
        for _repeat in range(round_.repeats):
            able = [guest for guest in guests if guest.refused is None]
            answers = dirty_rate.measure([guest.domain for guest in able], sampler, round_.window_s)
            for guest, answer in zip(able, answers):
                if isinstance(answer, Reading):
                    guest.readings.append(answer)
                else:
                    guest.refused = answer


def _peek(guests: t.Sequence[Measured], budget_s: float) -> None:
    able = [guest for guest in guests if guest.refused is None]
    if not able:
        return
    # Guests are looked at side by side, each of them twice.
    share = budget_s / 2
    looks = each(
        able,
        lambda guest: memory_peek.look(guest.domain, chunks=PEEK_CHUNKS, budget_s=share, pause_s=min(0.5, share)),
        patience_s=budget_s + 2,
    )
    for guest, look in zip(able, looks):
        # Without a look the forecast knows less, which it says; a guest that cannot be looked at can still be moved.
        if isinstance(look, memory_peek.Look):
            guest.look = look


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


def _rates(guests: t.Sequence[Measured], before: Counters, after: Counters, seconds: float) -> None:
    for guest in guests:
        uuid = guest.domain.UUIDString()
        if uuid in before and uuid in after and seconds > 0:
            used = after[uuid][0] - before[uuid][0]
            guest.vcpu_utilisation = max(0.0, min(1.0, used / 1e9 / seconds / max(1, after[uuid][1])))
            guest.disk_write_bytes_per_s = max(0.0, (after[uuid][2] - before[uuid][2]) / seconds)
