# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a guest's own limits leave for compression: its QEMU must not grow beyond them, nor starve the guest."""

from __future__ import annotations

import dataclasses
import shlex
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.guest_limits import Limits, from_document
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import memory_demand
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.xbzrle_cache import LEAST_CACHE_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes

#: xbzrle's cache needs an entry of 24 bytes for each page of 4096, and buffers.
CACHE_OVERHEAD = 1.02
#: The threads that compress keep a whole CPU busy each. With less than one between them they only delay the guest.
LEAST_CPUS = 1.0
#: No thread gets less than this share of a CPU: a forecast divides by it.
SMALLEST_SHARE = 0.02


#: What of a snapshot's C(limits) each kind of limit is.
KINDS: t.Mapping[str, tuple[str, ...]] = {
    "memory": ("memory_bytes",),
    "cpu": ("cpus", "emulator_cpus", "vcpu_cpus"),
}


class Bound(t.NamedTuple):
    """A limit that matters to a move: how it does, as a sentence about the guest, and the command that raises it."""

    reason: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class Allowance:
    """What the limits leave. None: they do not matter.

    Attributes:
        cache_bytes: for xbzrle's cache.
        cpus: for threads that compress.
        utilisation: the most that the guest can use of its CPU time, 0 to 1.
        ruled_out: methods that cannot be used inside the limits, each with the reason.
        bounds: limits that matter to a move, by kind (C(KINDS)).
    """

    cache_bytes: int | None
    cpus: float | None
    utilisation: float | None
    ruled_out: t.Mapping[str, str]
    bounds: t.Mapping[str, Bound]


def allowance(domain: Domain, utilisation: float | None) -> Allowance:
    """What is left to a guest.

    Args:
        domain: the guest in the source's snapshot.
        utilisation: share of its CPU time that the guest uses, or None.
    """
    limits, guest = from_document(domain.get("limits")), shlex.quote(domain.get("name") or "GUEST")
    ruled_out: dict[str, str] = {}
    bounds: dict[str, Bound] = {}
    cache = _cache_bytes(domain, limits.memory_bytes)
    if cache is not None:
        left = human_bytes(cache) if cache >= LEAST_CACHE_BYTES else "no room"
        reason = f"its memory limit of {human_bytes(limits.memory_bytes)} leaves {left} for a cache of xbzrle"
        bounds["memory"] = Bound(reason, f"raise its memory limit (virsh memtune {guest} --live --hard-limit …)")
        if cache < LEAST_CACHE_BYTES:
            ruled_out["xbzrle"] = reason
    most = _utilisation(domain, limits)
    cpus, quota, setting = _cpus(domain, limits, min(most, utilisation or 0.0))
    if cpus is not None:
        reason = f"its CPU quota of {quota:g} leaves {cpus:.2g} CPUs to compress with"
        bounds["cpu"] = Bound(reason, f"raise its CPU quota (virsh schedinfo {guest} --live --set {setting}=…)")
        if cpus < LEAST_CPUS:
            ruled_out["parallel-zstd"] = reason
        cpus = max(SMALLEST_SHARE, cpus)
    return Allowance(cache, cpus, most if most < 1 else None, ruled_out, bounds)


def _utilisation(domain: Domain, limits: Limits) -> float:
    vcpus = int(domain.get("vcpus") or 1)
    of_all = 1.0 if limits.cpus is None else limits.cpus / vcpus
    return min(1.0, of_all, 1.0 if limits.vcpu_cpus is None else limits.vcpu_cpus)


def _cpus(domain: Domain, limits: Limits, utilisation: float) -> tuple[float | None, float, str]:
    """CPUs that are left for compression, the quota that leaves the fewest, and its name in libvirt."""
    used = int(domain.get("vcpus") or 1) * utilisation
    found = []
    if limits.cpus is not None:
        found.append((max(0.0, limits.cpus - used), limits.cpus, "global_quota"))
    if limits.emulator_cpus is not None:
        found.append((limits.emulator_cpus, limits.emulator_cpus, "emulator_quota"))
    return min(found, default=(None, 0.0, ""))


def _cache_bytes(domain: Domain, limit: int | None) -> int | None:
    """What QEMU may still take when the guest has touched all of its memory. Huge pages do not count in the limit."""
    if limit is None:
        return None
    memory = memory_demand.ordinary_bytes(domain)
    rss = (domain.get("balloon") or {}).get("rss_bytes")
    own = max(memory_demand.overhead_bytes(domain), int(rss or 0) - memory)
    return int(max(0, limit - memory - own) / CACHE_OVERHEAD)
