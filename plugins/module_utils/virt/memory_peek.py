# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: looks at a sample of a guest's memory, to see whether it compresses and how it changes.

from __future__ import annotations

import dataclasses
import random
import time
import typing as t
import zlib

from ansible_collections.kvmops.cluster.plugins.module_utils.virt import connection as virt

PAGE = 4096
#: libvirt hands out 64 KiB at a time.
CHUNK = 65536
#: Guests of PCs have their memory in one piece from here on up to the hole below 4 GiB.
LOWEST = 1 << 20
HOLE = 2 << 30


@dataclasses.dataclass(frozen=True)
class Look:
    """What a sample of a guest's memory tells.

    Attributes:
        pages: pages looked at.
        zero_share: of them, those that hold nothing but zeros.
        compressed_share: bytes after by before, of the pages that hold something, each compressed by itself as QEMU
            does it; None when there were none.
        changed_pages: pages that differed at the second look.
        changed_share: of the bytes of those pages, the ones that differed; None when there were none. Small means that
            sending differences (xbzrle) pays.
    """

    pages: int
    zero_share: float
    compressed_share: float | None
    changed_pages: int
    changed_share: float | None


def look(domain: t.Any, *, chunks: int, budget_s: float, pause_s: float = 0.5) -> Look:
    """Look twice at random pieces of a guest's memory; reading does not stop the guest.

    Args:
        domain: a running guest, on a writable connection (libvirt asks for that).
        chunks: pieces of 64 KiB to look at, at most.
        budget_s: seconds for the first look; the second takes as long.
        pause_s: time between the looks at one piece.
    """
    size = min(int(domain.info()[1]) * 1024, HOLE)
    places = list(range(LOWEST, max(LOWEST + CHUNK, size - CHUNK), CHUNK))
    random.shuffle(places)
    first: dict[int, bytes] = {}
    end = time.monotonic() + budget_s
    for place in places[:chunks]:
        first[place] = domain.memoryPeek(place, CHUNK, virt.libvirt.VIR_MEMORY_PHYSICAL)
        if time.monotonic() >= end:
            break
    time.sleep(pause_s)
    second = {place: domain.memoryPeek(place, CHUNK, virt.libvirt.VIR_MEMORY_PHYSICAL) for place in first}
    return compare([(first[place], second[place]) for place in first])


def compare(pairs: t.Sequence[tuple[bytes, bytes]]) -> Look:
    """Judge pieces of memory seen twice. Pure."""
    pages = zero = raw = packed = changed = changed_bytes = 0
    for before, after in pairs:
        for start in range(0, len(before), PAGE):
            old, new = before[start : start + PAGE], after[start : start + PAGE]
            pages += 1
            if not any(old):
                zero += 1
            else:
                raw += len(old)
                packed += min(len(old), len(zlib.compress(old, 1)))
            if old != new:
                changed += 1
                changed_bytes += sum(1 for one, other in zip(old, new) if one != other)
    return Look(
        pages=pages,
        zero_share=zero / pages if pages else 0.0,
        compressed_share=packed / raw if raw else None,
        changed_pages=changed,
        changed_share=changed_bytes / (changed * PAGE) if changed else None,
    )
