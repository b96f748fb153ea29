# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The rounds of a running migration, from its samples: how long each took and what was dirtied in it."""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample


@dataclasses.dataclass(frozen=True)
class Sync:
    """The moment at which newly dirtied pages have been collected: one round is over and the next begins.

    Attributes:
        at_s: seconds since the job was started.
        iteration: number of the round that begins.
        left_bytes: what it has to send.
        bytes_per_s: the mean rate of the last seconds, 0 when unknown.
        seconds: length of the round that is over; the mean of several that went by unseen.
        new_bytes: what was dirtied in it. What it left over is not counted, as far as that is known.
        sent_bytes: by the whole migration so far, on the wire.
        page_bytes: guest memory that the round sent; None where that cannot be told (the first pass also sends zero
            pages, and rounds may go by unseen).
    """

    at_s: float
    iteration: int
    left_bytes: int
    bytes_per_s: float
    seconds: float
    new_bytes: float
    sent_bytes: int
    page_bytes: float | None = None


class Rounds:
    """Fed with every sample of a migration, in order."""

    def __init__(self) -> None:
        self._iteration = 0
        self._began_s: float | None = None
        self._before: Sample | None = None
        self._to_send: int | None = None

    def add(self, sample: Sample, bytes_per_s: float, limit_ms: float) -> Sync | None:
        """The sync that this sample shows, or None when the round is that of the last sample.

        Args:
            sample: the next one.
            bytes_per_s: the mean rate of the last seconds, 0 when unknown.
            limit_ms: the downtime limit in force: QEMU collects dirty pages once no more than it permits remains.
        """
        is_new = sample.iteration > self._iteration
        sync = self._sync(sample, bytes_per_s, limit_ms) if is_new and sample.iteration >= 2 else None
        if is_new:
            self._iteration, self._began_s = sample.iteration, sample.at_s
            self._to_send = sync.left_bytes if sync else None
        self._before = sample
        return sync

    def _sync(self, sample: Sample, bytes_per_s: float, limit_ms: float) -> Sync:
        passed = sample.iteration - max(1, self._iteration)
        if self._began_s is not None:
            seconds = sample.at_s - self._began_s
        else:
            seconds = sample.processed_bytes / bytes_per_s if bytes_per_s > 0 else sample.at_s
        left_over = self._left_over(sample, bytes_per_s, limit_ms)
        return Sync(
            at_s=sample.at_s,
            iteration=sample.iteration,
            left_bytes=sample.remaining_bytes,
            bytes_per_s=bytes_per_s,
            seconds=max(0.0, seconds) / max(1, passed),
            new_bytes=max(0.0, sample.remaining_bytes - left_over),
            sent_bytes=sample.processed_bytes,
            page_bytes=max(0.0, self._to_send - left_over) if self._to_send is not None and passed == 1 else None,
        )

    def _left_over(self, sample: Sample, bytes_per_s: float, limit_ms: float) -> float:
        """What the round before had still to send when dirty pages were collected."""
        most = bytes_per_s * limit_ms / 1000
        if self._before is None:
            return most
        sent = sample.processed_bytes - self._before.processed_bytes
        return min(most, max(0.0, float(self._before.remaining_bytes - sent)))


def rounds_in_words(count: int) -> str:
    """So many passes over what is dirty.

    >>> rounds_in_words(1), rounds_in_words(3)
    ('the first pass', '3 rounds')
    """
    return "the first pass" if count == 1 else f"{count} rounds"
