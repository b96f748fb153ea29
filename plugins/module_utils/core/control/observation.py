# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the samples of one migration teach for later ones: rate, time to the first byte, bytes of the first pass."""

from __future__ import annotations

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
        self._latest: Sample | None = None
        self._iteration = 0
        self.first_pass_bytes: int | None = None
        self.last_bytes: int | None = None

    def add(self, sample: Sample) -> None:
        """One more sample; those of disks that are still being mirrored say nothing about memory."""
        if sample.processed_bytes <= 0:
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
        """The rate of all that was sent while it was watched, or None when that was too short."""
        if self._first is None or self._latest is None:
            return None
        span_s = self._latest.at_s - self._first.at_s
        if span_s < LEAST_SPAN_S:
            return None
        return (self._latest.processed_bytes - self._first.processed_bytes) / span_s

    @property
    def first_byte_s(self) -> float | None:
        """Seconds from the start of the call to the first byte, or None when none was seen.

        Where no rate is known, when the first bytes were seen: a quarter of a second too late at most.
        """
        rate = self.bytes_per_s
        if self._first is None or rate == 0:
            return None
        return max(0.0, self._first.at_s - (self._first.processed_bytes / rate if rate else 0.0))
