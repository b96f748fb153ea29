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
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB, human_bytes, listed

#: QEMU's own heap, stacks and device models.
OVERHEAD_BYTES = 64 * MIB
#: Each vCPU's thread, its KVM state and its share of the device queues.
OVERHEAD_PER_VCPU_BYTES = 8 * MIB
#: Page tables: 8 bytes for each 4 KiB page in the host's and again in the nested tables.
PAGE_TABLES_SHARE = 256


class FreeMemory(t.NamedTuple):
    """What one host can still give.

    Attributes:
        memory_bytes: ordinary memory; None if the host could not tell.
        huge_pages: free huge pages by size.
        cells: the same by NUMA cell.
    """

    memory_bytes: int | None
    huge_pages: t.Mapping[int, int]
    cells: t.Mapping[int, t.Mapping[int, int]] = {}


def overhead_bytes(domain: Domain) -> int:
    """What QEMU needs beside the guest's memory."""
    memory = int(domain["memory_bytes"])
    return OVERHEAD_BYTES + int(domain.get("vcpus") or 1) * OVERHEAD_PER_VCPU_BYTES + memory // PAGE_TABLES_SHARE


def ordinary_bytes(domain: Domain) -> int:
    """The part of a guest's memory that is not on huge pages, nor in a file of its own."""
    return sum(int(part["bytes"]) for part in _parts(domain) if not part["page_bytes"])


def need_bytes(domain: Domain) -> int:
    """Ordinary memory a guest needs at its destination, with QEMU's overhead."""
    return ordinary_bytes(domain) + overhead_bytes(domain)


def need_pages(domain: Domain) -> dict[int, int]:
    """Huge pages a guest needs at its destination, by size."""
    found: dict[int, int] = {}
    for part in _parts(domain):
        if part["page_bytes"]:
            size = int(part["page_bytes"])
            found[size] = found.get(size, 0) + _count(part)
    return found


def free_memory(snapshot: Snapshot) -> FreeMemory:
    """Return what a host can still give, from its snapshot."""
    capacity = snapshot.get("capacity") or {}
    pages: dict[int, int] = {}
    cells: dict[int, dict[int, int]] = {}
    for cell in capacity.get("cells") or []:
        own = cells.setdefault(int(cell["id"]), {})
        for page in cell.get("pages") or []:
            size, free = page["size_bytes"], int(page.get("free") or 0)
            own[size] = free
            pages[size] = pages.get(size, 0) + free
    available = capacity.get("available_bytes")
    if available is None:
        return FreeMemory(None, pages, cells)
    running = [domain for domain in snapshot.get("domains") or [] if not is_off(domain)]
    return FreeMemory(int(available) - sum(_untouched_bytes(domain) for domain in running), pages, cells)


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
    short = {size: need for size, need in need_pages(domain).items() if free.huge_pages.get(size, 0) < need}
    refused += [_no_huge_pages(host, domain, size, need, free.huge_pages.get(size, 0)) for size, need in short.items()]
    return refused or cell_refusals(host, free, domain)


def is_bound_to_cells(domain: Domain) -> bool:
    """Whether huge pages of a guest must lie on some NUMA cells of its host."""
    return any(part.get("host_cells") and part["page_bytes"] for part in _parts(domain))


def can_never_have_pages(snapshot: Snapshot, domain: Domain) -> bool:
    """Whether the NUMA cells that a guest is bound to lack huge pages even if all other guests left this host."""
    others = [other for other in snapshot.get("domains") or [] if not is_off(other)]
    held: dict[int, int] = {}
    for other in others:
        for size, count in need_pages(other).items():
            held[size] = held.get(size, 0) + count
    free = free_memory(snapshot)
    cells = {cell: {size: n + held.get(size, 0) for size, n in pages.items()} for cell, pages in free.cells.items()}
    most = free._replace(cells=cells)
    return bool(cell_refusals("", most, domain))


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


def _no_huge_pages(host: str, domain: Domain, size: int, need: int, free: int) -> Refusal:
    return refusal(
        "huge_pages",
        f"{host} has {free} free huge pages of {human_bytes(size)}, but {domain['name']} needs {need}",
        f"reserve {need - free} more on {host} (/sys/kernel/mm/hugepages/hugepages-{size // 1024}kB/nr_hugepages)",
    )


def cell_refusals(host: str, free: FreeMemory, domain: Domain) -> list[Refusal]:
    """Return why NUMA cells of a host have too few huge pages for a guest that is bound to them."""
    return [refused for size in need_pages(domain) for refused in _no_pages_in_cells(host, free, domain, size)]


def _no_pages_in_cells(host: str, free: FreeMemory, domain: Domain, size: int) -> t.Iterator[Refusal]:
    bound = [part for part in _parts(domain) if part["page_bytes"] == size and part.get("host_cells")]
    for cells in dict.fromkeys(tuple(part["host_cells"]) for part in bound):
        if not set(cells) <= set(free.cells):
            # What the host does not tell, or a cell that it does not have: another check says that.
            continue
        need = sum(_count(part) for part in bound if set(part["host_cells"]) <= set(cells))
        has = sum(free.cells[cell].get(size, 0) for cell in cells)
        if has < need:
            numbers = listed([str(cell) for cell in cells])
            where = f"cell {numbers} of {host} has" if len(cells) == 1 else f"cells {numbers} of {host} have"
            yield refusal(
                "huge_pages_of_cell",
                f"NUMA {where} {has} free huge pages of {human_bytes(size)}, but {domain['name']} needs {need} there "
                "(numatune)",
                f"reserve {need - has} more there (/sys/devices/system/node/node{cells[0]}/hugepages/"
                f"hugepages-{size // 1024}kB/nr_hugepages)",
            )


def _parts(domain: Domain) -> t.Sequence[t.Mapping[str, t.Any]]:
    """The parts of a guest's memory; a snapshot of an earlier release knows one size of pages for all of it."""
    parts = domain.get("memory_parts")
    if parts:
        return t.cast("t.Sequence[t.Mapping[str, t.Any]]", parts)
    return ({"bytes": int(domain["memory_bytes"]), "page_bytes": domain.get("hugepage_bytes")},)


def _count(part: t.Mapping[str, t.Any]) -> int:
    return -(-int(part["bytes"]) // int(part["page_bytes"]))


def _untouched_bytes(domain: Domain) -> int:
    """Return memory promised to a running guest that its host still counts as available.

    For a guest that is just arriving, it is all of its memory if the host does not tell more. Huge pages are taken
    when a guest starts, and are not in the resident memory of its QEMU.
    """
    rss, promised = (domain.get("balloon") or {}).get("rss_bytes"), ordinary_bytes(domain)
    if rss is None:
        return promised if _arrives(domain) else 0
    return max(0, promised - int(rss))


def _arrives(domain: Domain) -> bool:
    return (domain.get("job") or {}).get("operation") == "migration_in"
