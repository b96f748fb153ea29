# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Decide whether to free memory of a guest before it moves, and how much."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB, human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import FRESH_S, RSS_OVERHEAD_BYTES

#: What a guest is left beyond its need: a quarter of it, and never less than this. How low a guest can go before it
#: kills a program was not explored, so both are chosen wide: a guest in need of 30 MiB held at 96.
LEAST_MARGIN_BYTES = 64 * MIB
MARGIN_SHARE = 0.25
#: A guest that can give less of its memory than this share is short of it.
LOW_USABLE_SHARE = 0.1
#: Memory taken and given back again: 416 MiB in 2.3 s by an emulated guest on an idle host, 360 MiB in 6.3 s on one
#: with six times as many tasks as cores. The mean of both rates (geometric).
BYTES_PER_S = 100 * MIB
FIXED_S = 0.5
#: What it is to save must be so many times what it costs, as both are estimates.
CLEARLY = 1.5


@dataclasses.dataclass(frozen=True)
class Memory:
    """A guest's memory at one moment; None is what nobody knows.

    Attributes:
        current_bytes: what the balloon leaves the guest.
        usable_bytes: of it, what programs could have without swapping: free, or cache that can go.
        unused_bytes: of it, what is free.
        rss_bytes: of the host's memory, what the hypervisor's process holds.
        age_s: seconds since the guest said so.
        swapped_bytes: what the guest has written to its swap since the report before.
        hugepage_bytes: the pages that back it, where they are huge.
    """

    current_bytes: int | None
    usable_bytes: int | None = None
    unused_bytes: int | None = None
    rss_bytes: int | None = None
    age_s: float | None = None
    swapped_bytes: int | None = None
    hugepage_bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class Freeing:
    """What to do, and why.

    Attributes:
        target_bytes: the size to which the guest is taken for a moment; None to leave it alone.
        code: C(pays), or why not: C(huge_pages), C(must_not_slow), C(no_statistics), C(stale), C(swapping),
            C(short_of_memory), C(little_to_free), C(rate_unknown), C(does_not_pay).
        reason: the same as a sentence.
        freed_bytes: resident memory that need not travel then.
        saves_s, costs_s: seconds of transfer that it spares, and seconds that it takes; None where nobody knows.
    """

    target_bytes: int | None
    code: str
    reason: str
    freed_bytes: int = 0
    saves_s: float | None = None
    costs_s: float | None = None


def decide(memory: Memory, intent: t.Mapping[str, t.Any], bytes_per_s: float | None) -> Freeing:
    """Decide whether to free a guest's memory before its move.

    Args:
        memory: as the guest reports it.
        intent: of the move: C(bandwidth_mib_s) bounds the rate, and a guest that must not slow down is left alone.
        bytes_per_s: what the link gives, or None.

    The size is the guest's need (current less usable) and a margin. What it frees is what the hypervisor holds beyond
    that, less the hypervisor's own memory. Of the margin all counts as sent, so that rather too little is promised
    (154 MiB where 212 MiB came true).
    """
    kept = _why_not(memory, intent)
    if kept:
        return Freeing(None, *kept)
    target = least_bytes(memory)
    current, resident = memory.current_bytes or 0, memory.rss_bytes or 0
    freed = max(0, min(current, resident - RSS_OVERHEAD_BYTES) - target)
    rate = _rate(intent, bytes_per_s)
    if not freed:
        return Freeing(None, "little_to_free", "it needs nearly all the memory that it holds on the host")
    if rate is None:
        return Freeing(None, "rate_unknown", "the speed of the link is not known yet, so it may not pay", freed)
    saves, costs = freed / rate, FIXED_S + (current - target) / BYTES_PER_S
    about = f"{human_bytes(freed)} less to send save {human_seconds(saves)}, and take {human_seconds(costs)} to free"
    if saves < CLEARLY * costs:
        return Freeing(None, "does_not_pay", about, freed, saves, costs)
    return Freeing(target, "pays", about, freed, saves, costs)


def least_bytes(memory: Memory) -> int:
    """Return the guest's need and a margin. It is never taken below that.

    >>> least_bytes(Memory(512 * MIB, usable_bytes=448 * MIB)) // MIB
    128
    """
    current = memory.current_bytes or 0
    need = current - _usable(memory)
    return int(need + max(LEAST_MARGIN_BYTES, need * MARGIN_SHARE))


def is_short_of_memory(memory: Memory) -> bool:
    """Return whether the guest swaps, or has nearly nothing left of the margin."""
    usable = memory.usable_bytes if memory.usable_bytes is not None else memory.unused_bytes
    return bool(memory.swapped_bytes) or (usable is not None and usable < LEAST_MARGIN_BYTES // 4)


def _usable(memory: Memory) -> int:
    # Old drivers do not tell what is usable; what is free is less than that.
    usable = memory.usable_bytes if memory.usable_bytes is not None else memory.unused_bytes
    return usable or 0


def _rate(intent: t.Mapping[str, t.Any], bytes_per_s: float | None) -> float | None:
    cap = intent.get("bandwidth_mib_s")
    known = [rate for rate in (bytes_per_s, cap * MIB if cap else None) if rate]
    # A cap alone says enough: the link gives no more than that, and so it spares at least so many seconds.
    return min(known, default=None)


def _why_not(memory: Memory, intent: t.Mapping[str, t.Any]) -> tuple[str, str] | None:
    """Why the guest is left alone whatever it would save, as code and sentence."""
    if memory.hugepage_bytes:
        return "huge_pages", "its memory is in huge pages, and a balloon gives none of them back"
    if intent.get("max_slowdown_pct") == 0:
        return "must_not_slow", "its intent permits no slowdown"
    return _not_known(memory) or _in_need(memory)


def _not_known(memory: Memory) -> tuple[str, str] | None:
    current = memory.current_bytes
    if not current or memory.rss_bytes is None or (memory.usable_bytes is None and memory.unused_bytes is None):
        return "no_statistics", "it reports no memory statistics (is its balloon driver loaded?)"
    if memory.age_s is None or memory.age_s > FRESH_S:
        return "stale", "its memory statistics are too old: set a period with virsh dommemstat --period 5 --live"
    if memory.swapped_bytes is None:
        return "stale", "it reported its memory only once, so it is not known whether it swaps"
    return None


def _in_need(memory: Memory) -> tuple[str, str] | None:
    current, usable = memory.current_bytes or 0, _usable(memory)
    if memory.swapped_bytes:
        return "swapping", f"it swaps ({human_bytes(memory.swapped_bytes)} since its previous report)"
    if usable < LOW_USABLE_SHARE * current:
        return "short_of_memory", f"it is short of memory: {human_bytes(usable)} of {human_bytes(current)} are usable"
    if least_bytes(memory) >= current:
        return "little_to_free", "it needs all the memory that it has, with a margin"
    return None
