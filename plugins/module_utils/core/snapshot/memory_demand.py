# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How much memory a guest needs and how much a host can give, in ordinary memory and in huge pages.

A host can give what would be free *if each guest that it runs used all memory it was promised*. Memory that a guest has
not touched yet is not counted as free.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB, human_bytes

#: QEMU's own heap, stacks and device models.
OVERHEAD_BYTES = 64 * MIB
#: Each vCPU's thread, its KVM state and its share of the device queues.
OVERHEAD_PER_VCPU_BYTES = 8 * MIB
#: Page tables: 8 bytes for each 4 KiB page in the host's and again in the nested tables.
PAGE_TABLES_SHARE = 256


class FreeMemory(t.NamedTuple):
    """What one host can still give. ``memory_bytes`` is None if the host could not tell."""

    memory_bytes: int | None
    huge_pages: t.Mapping[int, int]


def overhead_bytes(domain: Domain) -> int:
    """What QEMU needs beside the guest's memory."""
    memory = int(domain["memory_bytes"])
    return OVERHEAD_BYTES + int(domain.get("vcpus") or 1) * OVERHEAD_PER_VCPU_BYTES + memory // PAGE_TABLES_SHARE


def need_bytes(domain: Domain) -> int:
    """Ordinary memory a guest needs at its destination; a guest on huge pages needs only the overhead there."""
    memory = 0 if domain.get("hugepage_bytes") else int(domain["memory_bytes"])
    return memory + overhead_bytes(domain)


def need_pages(domain: Domain) -> int:
    """Huge pages of its size a guest needs at its destination."""
    size = domain.get("hugepage_bytes")
    return -(-int(domain["memory_bytes"]) // int(size)) if size else 0


def free_memory(snapshot: Snapshot) -> FreeMemory:
    """Return what a host can still give, from its snapshot."""
    capacity = snapshot.get("capacity") or {}
    pages: dict[int, int] = {}
    for cell in capacity.get("cells") or []:
        for page in cell.get("pages") or []:
            pages[page["size_bytes"]] = pages.get(page["size_bytes"], 0) + int(page.get("free") or 0)
    available = capacity.get("available_bytes")
    if available is None:
        return FreeMemory(None, pages)
    running = [domain for domain in snapshot.get("domains") or [] if not is_off(domain)]
    return FreeMemory(int(available) - sum(_untouched_bytes(domain) for domain in running), pages)


def memory_refusals(host: str, free: FreeMemory, domain: Domain, reserve_bytes: int = 0) -> list[Refusal]:
    """Return why a guest does not fit into the free memory of a host; empty if it fits."""
    if free.memory_bytes is None:
        return [
            refusal(
                "memory_unknown",
                f"{host} did not report its available memory",
                f"take a new snapshot of {host}, and look at /proc/meminfo there if that does not help",
            )
        ]
    refused = []
    if free.memory_bytes - need_bytes(domain) < reserve_bytes:
        refused.append(_no_memory(host, free.memory_bytes, domain, reserve_bytes))
    size = domain.get("hugepage_bytes")
    if size and free.huge_pages.get(size, 0) < need_pages(domain):
        refused.append(_no_huge_pages(host, free.huge_pages.get(size, 0), domain, size))
    return refused


def _no_memory(host: str, has: int, domain: Domain, reserve_bytes: int) -> Refusal:
    need, reserve = need_bytes(domain), ""
    if reserve_bytes:
        reserve = f", and {human_bytes(reserve_bytes)} must stay free"
    return refusal(
        "memory",
        f"{host} has room for {human_bytes(max(has, 0))} of guests, but {domain['name']} needs {human_bytes(need)} "
        f"({human_bytes(overhead_bytes(domain))} of it for QEMU itself){reserve}",
        f"free {human_bytes(need + reserve_bytes - has)} on {host}, or add a host"
        + (", or lower the reserve" if 0 < need <= has else ""),
    )


def _no_huge_pages(host: str, free: int, domain: Domain, size: int) -> Refusal:
    need = need_pages(domain)
    return refusal(
        "huge_pages",
        f"{host} has {free} free huge pages of {human_bytes(size)}, but {domain['name']} needs {need}",
        f"reserve {need - free} more on {host} (/sys/kernel/mm/hugepages/hugepages-{size // 1024}kB/nr_hugepages)",
    )


def _untouched_bytes(domain: Domain) -> int:
    """Return memory promised to a running guest that its host still counts as available.

    For a guest that is just arriving, it is all of its memory if the host does not tell more.
    """
    rss = (domain.get("balloon") or {}).get("rss_bytes")
    if domain.get("hugepage_bytes"):
        return 0
    if rss is None:
        return int(domain["memory_bytes"]) if _arrives(domain) else 0
    return max(0, int(domain["memory_bytes"]) - int(rss))


def _arrives(domain: Domain) -> bool:
    return (domain.get("job") or {}).get("operation") == "migration_in"
