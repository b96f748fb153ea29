# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Limits of a guest's own: of the memory that its QEMU may take, and of its CPU time.

A definition has some (``<memtune>``, ``<cputune>``). The guest's control group may have lower ones.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.libvirt_units import amount
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import whole_number

Number = t.TypeVar("Number", int, float)

#: libvirt and the kernel write "unlimited" as numbers near 2^63.
UNLIMITED_BYTES = 1 << 60
#: More CPUs than any host has: libvirt writes its highest quota, 2^44 microseconds, for "no limit".
UNLIMITED_CPUS = 1e6
#: libvirt's default period, in microseconds.
PERIOD_US = 100000


class Limits(t.NamedTuple):
    """None: no limit.

    Attributes:
        memory_bytes: of QEMU, the guest's ordinary memory included.
        cpus: of QEMU as a whole.
        emulator_cpus: of QEMU without the vCPUs; the threads that send and compress memory are among these.
        vcpu_cpus: of each vCPU.
    """

    memory_bytes: int | None = None
    cpus: float | None = None
    emulator_cpus: float | None = None
    vcpu_cpus: float | None = None

    def tightened(self, other: Limits) -> Limits:
        """The lower one of each."""
        return Limits(
            memory_bytes=_lower(self.memory_bytes, other.memory_bytes),
            cpus=_lower(self.cpus, other.cpus),
            emulator_cpus=_lower(self.emulator_cpus, other.emulator_cpus),
            vcpu_cpus=_lower(self.vcpu_cpus, other.vcpu_cpus),
        )


def defined(root: ET.Element) -> Limits:
    """The limits of a definition."""
    return Limits(
        memory_bytes=_bytes(amount(root.find("memtune/hard_limit"))),
        cpus=_cpus(root, "global_quota", "global_period"),
        emulator_cpus=_cpus(root, "emulator_quota", "emulator_period"),
        vcpu_cpus=_cpus(root, "quota", "period"),
    )


def from_document(told: t.Mapping[str, t.Any] | None) -> Limits:
    """The limits in a snapshot; none where it has no such part."""
    return Limits(**{name: (told or {}).get(name) for name in Limits._fields})


def memory_limit(text: str | None) -> int | None:
    """Bytes in memory.max or memory.limit_in_bytes of a control group.

    >>> memory_limit("9126805504"), memory_limit("max"), memory_limit("9223372036854771712"), memory_limit(None)
    (9126805504, None, None, None)
    """
    return _bytes(whole_number(text))


def cpu_limit(quota: str | None, period: str | None) -> float | None:
    """CPUs, from quota and period in microseconds.

    >>> cpu_limit("50000", "100000"), cpu_limit("max", "100000"), cpu_limit("-1", "100000"), cpu_limit("50000", None)
    (0.5, None, None, 0.5)
    """
    time = whole_number(quota)
    return None if time is None else round(time / (whole_number(period) or PERIOD_US), 3)


def _cpus(root: ET.Element, quota: str, period: str) -> float | None:
    found = cpu_limit(root.findtext(f"cputune/{quota}"), root.findtext(f"cputune/{period}"))
    # 0 is "no limit", too.
    return found if found and found < UNLIMITED_CPUS else None


def _bytes(count: int | None) -> int | None:
    return count if count is not None and 0 < count < UNLIMITED_BYTES else None


def _lower(mine: Number | None, others: Number | None) -> Number | None:
    known = [value for value in (mine, others) if value is not None]
    return min(known, default=None)
