# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The throughput of a migration, from its samples: smooth enough to decide by."""

from __future__ import annotations

import collections

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB

#: QEMU's estimate is taken anew every 100 ms and swings by some per cent; the mean of so many seconds is smooth.
WINDOW_S = 3.0
#: The send buffer takes the first 2 or 3 MB at once, so the first moments say nothing about the link.
SETTLING_S = 0.5
SETTLING_BYTES = 4 * MIB
#: The rate of the link is known after so many seconds of sending.
LEAST_S = 1.5
#: Where memory shrinks so much faster than it is sent, QEMU looks through zero pages, and the link may wait for that.
ZERO_BYTES_PER_S = 200 * MIB


class Throughput:
    """Fed with every sample of a migration, in order."""

    def __init__(self) -> None:
        self._samples: collections.deque[Sample] = collections.deque()
        self._first: Sample | None = None

    def add(self, sample: Sample) -> None:
        """One more sample; those without a byte of memory sent say nothing."""
        if sample.processed_bytes <= 0:
            return
        self._first = self._first or sample
        self._samples.append(sample)
        while self._samples[0].at_s < sample.at_s - WINDOW_S:
            self._samples.popleft()

    @property
    def bytes_per_s(self) -> float:
        """The mean rate of the last seconds, 0 when unknown."""
        rates = [sample.bytes_per_s for sample in self._samples if sample.bytes_per_s > 0]
        return sum(rates) / len(rates) if rates else 0.0

    @property
    def link_bytes_per_s(self) -> float | None:
        """What the link gives, by what was really sent in the last seconds; None while that cannot be said."""
        if self._first is None:
            return None
        settled = [
            sample
            for sample in self._samples
            if sample.at_s >= self._first.at_s + SETTLING_S and sample.processed_bytes >= SETTLING_BYTES
        ]
        pieces = [_piece(first, then) for first, then in zip(settled, settled[1:])]
        seconds, sent = (sum(one[index] for one in pieces) for index in (0, 1))
        return sent / seconds if seconds >= LEAST_S and sent > 0 else None


def _piece(first: Sample, then: Sample) -> tuple[float, float]:
    """Seconds and bytes between two samples; 0 where QEMU looked through zero pages."""
    seconds, sent = then.at_s - first.at_s, then.processed_bytes - first.processed_bytes
    zero = first.remaining_bytes - then.remaining_bytes - sent
    if first.iteration == then.iteration and zero > ZERO_BYTES_PER_S * seconds:
        return 0.0, 0.0
    return seconds, float(sent)
