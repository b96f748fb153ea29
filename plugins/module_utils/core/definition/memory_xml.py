# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Of which pages a guest's memory is made, and on which NUMA cells of its host they must lie.

A guest may mix page sizes: by guest cell, and each memory device may have its own.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.libvirt_units import amount, amount_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import whole_number

#: What a host uses for ``<hugepages/>`` without a size, unless it says otherwise.
DEFAULT_HUGEPAGE_BYTES = 2 * 1024**2
#: The page of the host's kernel, unless it says otherwise. A "huge" page of this size is ordinary memory.
ORDINARY_PAGE_BYTES = 4096
#: Memory devices whose contents lie in a file of their own, not in the host's memory.
IN_FILES = ("nvdimm", "virtio-pmem")
#: Modes of ``<numatune>`` that leave no choice. The others are wishes.
BINDING_MODES = ("strict", "restrictive")


class Pages(t.NamedTuple):
    """The sizes of pages of a host: ``huge`` is its default for huge pages, ``ordinary`` that of its kernel."""

    huge: int = DEFAULT_HUGEPAGE_BYTES
    ordinary: int = ORDINARY_PAGE_BYTES


USUAL_PAGES = Pages()


def parts(root: ET.Element, pages: Pages = USUAL_PAGES) -> list[dict[str, t.Any]]:
    """The parts of a guest's memory, those of one kind together.

    Each has ``bytes``, ``page_bytes`` (of a huge page; None for ordinary memory) and ``host_cells`` (the NUMA cells of
    the host that it must lie on; None for any). What lies in a file is no part of it.
    """
    found: dict[tuple[int | None, tuple[int, ...] | None], int] = {}
    for size, page, cells in (*_cells(root, pages), *_devices(root, pages)):
        found[page, cells] = found.get((page, cells), 0) + size
    return [
        {"bytes": size, "page_bytes": page, "host_cells": None if cells is None else list(cells)}
        for (page, cells), size in found.items()
        if size > 0
    ]


def largest_page(root: ET.Element, pages: Pages = USUAL_PAGES) -> int | None:
    """The largest huge page that the guest's memory is made of; None for ordinary memory."""
    sizes = [size for size, dummy in _page_entries(root, pages)]
    sizes += [amount(element) or 0 for element in root.findall("devices/memory/source/pagesize")]
    return max((size for size in sizes if size > pages.ordinary), default=None)


def cell_numbers(text: str | None) -> tuple[int, ...]:
    """The numbers of a set as libvirt writes it.

    >>> cell_numbers("0-2,5,^1"), cell_numbers("x"), cell_numbers(None)
    ((0, 2, 5), (), ())
    """
    found: set[int] = set()
    for part in (text or "").split(","):
        first, dash, last = part.strip().lstrip("^").partition("-")
        start, end = whole_number(first), whole_number(last if dash else first)
        if start is None or end is None or end > 1 << 16:
            continue
        numbers = set(range(start, end + 1))
        found = found - numbers if part.strip().startswith("^") else found | numbers
    return tuple(sorted(found))


_Part = tuple[int, t.Optional[int], t.Optional[tuple[int, ...]]]


def _cells(root: ET.Element, pages: Pages) -> t.Iterator[_Part]:
    """The memory that the guest starts with, by its own cells where it has some."""
    cells = root.findall("cpu/numa/cell")
    for number, cell in enumerate(cells):
        own = whole_number(cell.get("id"))
        guest_cell = number if own is None else own
        size = amount_of(cell.get("memory"), cell.get("unit"))
        yield size or 0, _page_of_cell(root, guest_cell, pages), _bound(root, guest_cell)
    if not cells:
        devices = sum(_size(device) or 0 for device in root.findall("devices/memory"))
        entries = _page_entries(root, pages)
        # libvirt takes the first entry for a guest without cells, whatever its nodeset.
        page = _huge(entries[0][0], pages) if entries else None
        yield max(0, (amount(root.find("memory")) or 0) - devices), page, _bound(root, None)


def _devices(root: ET.Element, pages: Pages) -> t.Iterator[_Part]:
    """DIMMs and virtio-mem. libvirt asks for a device's own page size first, then for that of its guest cell."""
    for device in root.findall("devices/memory"):
        if device.get("model") in IN_FILES or device.get("model") == "sgx-epc":
            continue
        guest_cell = whole_number(device.findtext("target/node"))
        own = amount(device.find("source/pagesize"))
        page = _huge(own, pages) if own else _page_of_cell(root, guest_cell, pages)
        mask = device.findtext("source/nodemask")
        yield _in_use(device), page, cell_numbers(mask) if mask else _bound(root, guest_cell)


def _page_of_cell(root: ET.Element, guest_cell: int | None, pages: Pages) -> int | None:
    """The entry of the guest's cell goes before the one without cells."""
    general: int | None = None
    for size, cells in _page_entries(root, pages):
        if cells is None:
            general = size if general is None else general
        elif guest_cell in cells:
            return _huge(size, pages)
    return _huge(general, pages)


def _page_entries(root: ET.Element, pages: Pages) -> list[tuple[int, tuple[int, ...] | None]]:
    """Page size and guest cells of each entry of ``<hugepages>``; without any, the host's default for all cells."""
    huge = root.find("memoryBacking/hugepages")
    if huge is None:
        return []
    found = []
    for page in huge.findall("page"):
        cells = page.get("nodeset")
        size = amount_of(page.get("size"), page.get("unit")) or pages.huge
        found.append((size, cell_numbers(cells) if cells else None))
    return found or [(pages.huge, None)]


def _huge(size: int | None, pages: Pages) -> int | None:
    return size if size is not None and size > pages.ordinary else None


def _bound(root: ET.Element, guest_cell: int | None) -> tuple[int, ...] | None:
    """The host's cells that the memory of a guest's cell must lie on."""
    tune = root.find("numatune")
    if tune is None:
        return None
    own = next((one for one in tune.findall("memnode") if one.get("cellid") == str(guest_cell)), None)
    found = own if own is not None else tune.find("memory")
    if found is None or found.get("mode", "strict") not in BINDING_MODES:
        return None
    return cell_numbers(found.get("nodeset")) or None


def _size(device: ET.Element) -> int | None:
    return amount(device.find("target/size"))


def _in_use(device: ET.Element) -> int:
    """Bytes of a device. virtio-mem takes only what it was asked for, or what it still has."""
    wanted = [amount(device.find(f"target/{name}")) for name in ("requested", "current")]
    known = [size for size in wanted if size is not None]
    return max(known) if known else _size(device) or 0
