# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import memory_demand
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, MIB, domain, snapshot

PAGE = 2 * MIB


def mixed(**changes):
    """1 GiB in pages of 2 MiB, one page of 1 GiB, 3 GiB of ordinary memory."""
    told = [
        {"bytes": GIB, "page_bytes": PAGE, "host_cells": None},
        {"bytes": 3 * GIB, "page_bytes": None, "host_cells": None},
        {"bytes": GIB, "page_bytes": GIB, "host_cells": None},
    ]
    return domain(memory_bytes=5 * GIB, hugepage_bytes=GIB, memory_parts=told, **changes)


def host(free_bytes, *cells):
    made = snapshot("h2", free_bytes=free_bytes)
    made["capacity"]["cells"] = [
        {"id": number, "cpus": 8, "memory_bytes": 32 * GIB, "free_bytes": None,
         "pages": [{"size_bytes": 4096, "free": 10}, *({"size_bytes": size, "free": n} for size, n in pages.items())]}
        for number, pages in enumerate(cells)
    ]  # fmt: skip
    return made


def refused(guest, there):
    return [(one["code"], one["reason"]) for one in
            memory_demand.memory_refusals("h2", memory_demand.free_memory(there), guest)]  # fmt: skip


def test_each_kind_of_memory_is_asked_for_by_itself():
    guest = mixed()
    assert memory_demand.need_pages(guest) == {PAGE: 512, GIB: 1}
    assert memory_demand.need_bytes(guest) == 3 * GIB + memory_demand.overhead_bytes(guest)
    need = memory_demand.need_bytes(guest)
    assert refused(guest, host(need, {PAGE: 512, GIB: 1})) == []
    assert refused(guest, host(need, {PAGE: 300}, {PAGE: 212, GIB: 1})) == []
    assert [code for code, dummy in refused(guest, host(need - 1, {PAGE: 512, GIB: 1}))] == ["memory"]
    assert refused(guest, host(need, {PAGE: 511})) == [
        ("huge_pages", "h2 has 511 free huge pages of 2 MiB, but web1 needs 512"),
        ("huge_pages", "h2 has 0 free huge pages of 1 GiB, but web1 needs 1"),
    ]


def test_pages_must_be_free_on_the_cells_that_the_guest_is_bound_to():
    told = [{"bytes": GIB, "page_bytes": PAGE, "host_cells": [1]}]
    guest = domain(memory_bytes=GIB, hugepage_bytes=PAGE, memory_parts=told)
    assert refused(guest, host(8 * GIB, {PAGE: 0}, {PAGE: 512})) == []
    assert refused(guest, host(8 * GIB, {PAGE: 900}, {PAGE: 511})) == [
        (
            "huge_pages_of_cell",
            "NUMA cell 1 of h2 has 511 free huge pages of 2 MiB, but web1 needs 512 there (numatune)",
        )
    ]
    told[0]["host_cells"] = [0, 1]
    assert refused(guest, host(8 * GIB, {PAGE: 1}, {PAGE: 511}, {PAGE: 600})) == []
    assert refused(guest, host(8 * GIB, {PAGE: 0}, {PAGE: 511}, {PAGE: 600})) == [
        (
            "huge_pages_of_cell",
            "NUMA cells 0 and 1 of h2 have 511 free huge pages of 2 MiB, but web1 needs 512 there (numatune)",
        )
    ]


def test_a_host_that_does_not_tell_its_cells_is_not_refused_for_them():
    told = [{"bytes": GIB, "page_bytes": PAGE, "host_cells": [5]}]
    guest = domain(memory_bytes=GIB, hugepage_bytes=PAGE, memory_parts=told)
    assert refused(guest, host(8 * GIB, {PAGE: 512})) == []


def test_a_cell_that_can_never_have_enough_pages():
    """Guests that are there now may leave, and nobody knows on which cells their pages are."""
    told = [{"bytes": GIB, "page_bytes": PAGE, "host_cells": [1]}]
    guest = domain(memory_bytes=GIB, hugepage_bytes=PAGE, memory_parts=told)
    there = host(8 * GIB, {PAGE: 900}, {PAGE: 100})
    assert memory_demand.can_never_have_pages(there, guest)
    there["domains"] = [domain("other", memory_bytes=GIB, hugepage_bytes=PAGE)]
    assert not memory_demand.can_never_have_pages(there, guest)
    there["domains"][0]["state"] = "shutoff"
    assert memory_demand.can_never_have_pages(there, guest)
    assert not memory_demand.can_never_have_pages(there, domain(memory_bytes=GIB, hugepage_bytes=PAGE))


def test_only_ordinary_memory_can_be_promised_and_untouched():
    lazy = mixed(balloon={"rss_bytes": GIB})
    there = snapshot("h2", lazy, free_bytes=10 * GIB)
    assert memory_demand.free_memory(there).memory_bytes == 8 * GIB


def test_a_snapshot_of_an_earlier_release_has_one_size_of_pages():
    old = domain(memory_bytes=GIB, hugepage_bytes=PAGE)
    assert memory_demand.need_pages(old) == {PAGE: 512}
    assert memory_demand.ordinary_bytes(old) == 0
    assert memory_demand.ordinary_bytes(domain(memory_bytes=GIB)) == GIB
