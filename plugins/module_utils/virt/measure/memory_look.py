# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reads samples of many guests' memory twice, in the pieces of time that there are for it.

from __future__ import annotations

import random
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    MAX_HANGING,
    NotAskedError,
    UnansweredError,
    each,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import memory_sample

#: So many pieces of 16 KiB are read of each guest's memory, at most. A piece takes 1 to 16 ms. With so many, the share
#: that compression leaves is wrong by 1 to 2 % of the memory, and so is the share of touched pages; with 16 pieces it
#: is wrong by 12 to 19 % (measured on six guests).
MOST_CHUNKS = 192
#: Fewer pieces tell nothing. Where there is no time for so many of each guest, not all guests are sampled.
MIN_CHUNKS = 16
#: So many guests are read at once. For a part of each call, everybody waits. So three give 1.5 times as much on two
#: busy cores (measured), and more where cores are idle. One call of each lane may hang.
LANES = MAX_HANGING - 1

Pieces = dict[int, bytes]


class MemoryLook:
    """Two readings of the same pieces of guests' memory.

    A guest that does not answer, or answers with an error, has no sample.
    """

    def __init__(self) -> None:
        self._hanging = 0
        self._failed: set[str] = set()
        self._domains: dict[str, t.Any] = {}
        self._places: dict[str, list[int]] = {}
        self._before: dict[str, Pieces] = {}
        self._after: dict[str, Pieces] = {}

    def first(self, domains: t.Sequence[t.Any], seconds: float) -> None:
        """Go on with the first reading of running guests for so long."""
        end = time.monotonic() + seconds
        # Where there is no time for all, each measurement samples others.
        for domain in random.sample(list(domains), len(domains)):
            self._domains[domain.UUIDString()] = domain
        new = [uuid for uuid in self._domains if uuid not in self._places and uuid not in self._failed]
        self._ask(new, lambda uuid: memory_sample.spread(self._domains[uuid], MOST_CHUNKS), self._places)
        # Those that have the least come first.
        order = sorted(self._places, key=lambda uuid: len(self._before.get(uuid, ())))
        self._read(order, self._places, self._before, end)

    def second(self, seconds: float) -> None:
        """Read again what was read, for so long."""
        self._read(list(self._before), self._before, self._after, time.monotonic() + seconds)

    def samples(self) -> dict[str, memory_sample.MemorySample]:
        """What the readings tell, by UUID, of the guests that were read."""
        return {uuid: memory_sample.compare(before, self._after.get(uuid, {})) for uuid, before in self._before.items()}

    def _read(
        self, order: t.Sequence[str], places: t.Mapping[str, t.Iterable[int]], found: dict[str, Pieces], end: float
    ) -> None:
        left = {uuid: [place for place in places[uuid] if place not in found.get(uuid, {})] for uuid in order}
        waiting = [uuid for uuid in order if left[uuid]]
        share = max(0.0, end - time.monotonic()) / max(1.0, len(waiting) / max(1, self._lanes))

        def read(uuid: str) -> Pieces:
            if time.monotonic() >= end:
                raise NotAskedError
            least = 0 if uuid in found else MIN_CHUNKS
            return memory_sample.read(self._domains[uuid], left[uuid], least=least, budget_s=share)

        read_now: dict[str, Pieces] = {}
        self._ask(waiting, read, read_now, timeout_s=ANSWER_TIMEOUT_S + share)
        for uuid, pieces in read_now.items():
            found[uuid] = {**found.get(uuid, {}), **pieces}

    def _ask(
        self,
        uuids: t.Sequence[str],
        call: t.Callable[[str], t.Any],
        answers: dict[str, t.Any],
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        """Call for each guest, and keep the answers. Guests that fail are not asked again."""
        lanes = [uuids[number :: self._lanes] for number in range(self._lanes)]
        given: dict[str, t.Any] = {}

        def ask(lane: t.Sequence[str]) -> None:
            given.update(zip(lane, each(lane, call, timeout_s=timeout_s, max_hanging=1)))

        threads = [threading.Thread(target=ask, args=[lane], daemon=True) for lane in lanes if lane]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for uuid, answer in given.items():
            self._keep(uuid, answer, answers)

    @property
    def _lanes(self) -> int:
        return LANES - self._hanging

    def _keep(self, uuid: str, answer: t.Any, answers: dict[str, t.Any]) -> None:
        if not isinstance(answer, Exception):
            answers[uuid] = answer
        elif not isinstance(answer, NotAskedError):
            self._hanging += isinstance(answer, UnansweredError)
            self._failed.add(uuid)
            for kept in (self._places, self._before, self._after):
                kept.pop(uuid, None)
