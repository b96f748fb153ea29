# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the samples of one migration teach for later ones: rate, time to the first byte, bytes of the first pass."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample

#: A rate over less than this says more about the moments of sampling than about the link.
LEAST_SPAN_S = 0.8


class Observation:
    """Fed with every sample of a migration, in order.

    Attributes:
        first_pass_bytes: sent when the second round began, or None when it never did.
        last_bytes: what remained when the last round seen began, or None.
    """

    def __init__(self) -> None:
        self._first: Sample | None = None
        self._first_of_disks: Sample | None = None
        self._latest_of_disks: Sample | None = None
        self._latest: Sample | None = None
        self._iteration = 0
        self.first_pass_bytes: int | None = None
        self.last_bytes: int | None = None

    def add(self, sample: Sample) -> None:
        """One more sample; those of disks that are still being mirrored say nothing about memory."""
        if sample.processed_bytes <= 0:
            if sample.disk_sent_bytes > 0:
                self._first_of_disks = self._first_of_disks or sample
                self._latest_of_disks = sample
            return
        if self._first is None:
            self._first = sample
        if self._iteration < 2 <= sample.iteration:
            self.first_pass_bytes = sample.processed_bytes
        if sample.iteration > self._iteration:
            self._iteration = sample.iteration
            self.last_bytes = sample.remaining_bytes
        self._latest = sample

    @property
    def bytes_per_s(self) -> float | None:
        """The rate of all memory that was sent while it was watched, or None when that was too short."""
        return _rate(self._first, self._latest, lambda sample: sample.processed_bytes)

    @property
    def first_byte_s(self) -> float | None:
        """Seconds from the start of the call to the first byte of disks or memory, or None when none was seen.

        Where no rate is known, when the first bytes were seen: a quarter of a second too late at most.
        """
        if self._first_of_disks:
            return _began_s(self._first_of_disks, self._latest_of_disks, lambda sample: sample.disk_sent_bytes)
        return _began_s(self._first, self._latest, lambda sample: sample.processed_bytes)


def _rate(first: Sample | None, latest: Sample | None, sent: t.Callable[[Sample], int]) -> float | None:
    if first is None or latest is None:
        return None
    span_s = latest.at_s - first.at_s
    return (sent(latest) - sent(first)) / span_s if span_s >= LEAST_SPAN_S else None


def _began_s(first: Sample | None, latest: Sample | None, sent: t.Callable[[Sample], int]) -> float | None:
    rate = _rate(first, latest, sent)
    if first is None or rate == 0:
        return None
    return max(0.0, first.at_s - (sent(first) / rate if rate else 0.0))
