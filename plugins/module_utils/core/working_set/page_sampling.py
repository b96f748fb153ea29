# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Turn the answers of a page-sampling measurement into unbiased estimates with their errors.

QEMU hashes some random pages for each GiB at the start and at the end of a window, and counts those that changed. Its
answer times the window is not a rate of writes but W(window): the unique bytes dirtied in that window. The answer is
coarse for two reasons. Sampling: with the default of 512 pages for each GiB, 192 pages of a guest of 384 MiB are read.
Rounding: the rate is rounded down to whole MiB/s, so a window of 5 s has steps of 5 MiB.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import GIB, MIB

#: What libvirt's call samples; it has no parameter for it (QEMU: 128 to 16384).
LIBVIRT_SAMPLES_PER_GIB = 512
PAGE_BYTES = 4096


class MeasurementError(ValueError):
    """A measurement that cannot have happened; its text names what is wrong with it."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """One answer of the hypervisor.

    Attributes:
        window_s: how long it was asked to look.
        mib_per_s: its answer: whole MiB/s, cut down.
        samples_per_gib: pages sampled for each GiB of guest memory.
        took_s: how long it looked by its own account, where known (a few ms more than asked).
    """

    window_s: float
    mib_per_s: int
    samples_per_gib: int = LIBVIRT_SAMPLES_PER_GIB
    took_s: float | None = None


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of W(t).

    Attributes:
        window_s: t.
        dirtied_bytes: estimate of the unique bytes dirtied in t.
        sd_bytes: one standard deviation of that estimate.
        repeats: from how many readings.
    """

    window_s: float
    dirtied_bytes: float
    sd_bytes: float
    repeats: int


def points(readings: t.Sequence[Reading], memory_bytes: int) -> list[Point]:
    """All readings of a guest as points of W(t), one for each window, in order of the window."""
    windows = sorted({reading.window_s for reading in readings})
    return [point([one for one in readings if one.window_s == window], memory_bytes) for window in windows]


def point(readings: t.Sequence[Reading], memory_bytes: int) -> Point:
    """Readings of one window combined.

    They are weighted by the pages they sampled, not by their own errors: low readings have small binomial errors, and
    weighting by those would pull the mean down. The error is the larger of what sampling explains and what the
    readings' own scatter shows, because a guest also varies from one second to the next.
    """
    if not readings:
        raise MeasurementError("a point of W(t) needs at least one reading")
    if len({reading.window_s for reading in readings}) != 1:
        raise MeasurementError("readings of different windows cannot be combined")
    estimates = [_estimate(reading, memory_bytes) for reading in readings]
    weights = [sampled_pages(memory_bytes, reading.samples_per_gib) for reading in readings]
    total = sum(weights)
    mean = sum(weight * value for weight, (value, dummy) in zip(weights, estimates)) / total
    rounding = math.sqrt(sum((weight * sd) ** 2 for weight, (dummy, sd) in zip(weights, estimates))) / total
    explained = math.hypot(sampling_sd(mean, memory_bytes, total), rounding)
    return Point(readings[0].window_s, mean, max(explained, _scatter(estimates, weights, mean)), len(readings))


def sampled_pages(memory_bytes: int, samples_per_gib: int) -> int:
    """How many pages of a guest are looked at.

    >>> sampled_pages(384 * 1024 * 1024, 512)
    192
    """
    if memory_bytes <= 0:
        raise MeasurementError(f"a guest must have memory, not {memory_bytes} bytes")
    if samples_per_gib < 1:
        raise MeasurementError(f"at least one page must be sampled for each GiB, not {samples_per_gib}")
    return max(1, memory_bytes * samples_per_gib // GIB)


def sampling_sd(dirtied_bytes: float, memory_bytes: int, pages: int) -> float:
    """Standard deviation in bytes of W from so many random pages (binomial: sd of a share p is sqrt(p(1-p)/n)).

    The share is drawn a little towards one half (Agresti and Coull), so that "no page of 192 changed" is not taken for
    certainty.

    >>> round(sampling_sd(16 * 2**20, 384 * 2**20, 192) / 2**20, 1)
    5.7
    """
    share = min(1.0, max(0.0, dirtied_bytes / memory_bytes))
    drawn = (share * pages + 0.5) / (pages + 1)
    return memory_bytes * math.sqrt(drawn * (1 - drawn) / pages)


def _estimate(reading: Reading, memory_bytes: int) -> tuple[float, float]:
    """W in bytes without the bias of rounding down, and the standard deviation that the rounding leaves.

    Only whole pages can have changed, so the answer can only have come from a few counts: the mean of those is taken.
    Where no count fits (the window took longer than known), the middle of the step.
    """
    window = reading.took_s or reading.window_s
    if not (0 < window < math.inf) or reading.mib_per_s < 0:
        raise MeasurementError(f"{reading.mib_per_s} MiB/s over {window} s is no measurement")
    grain = memory_bytes / sampled_pages(memory_bytes, reading.samples_per_gib)
    step = window * MIB
    lowest, highest = reading.mib_per_s * step, (reading.mib_per_s + 1) * step
    first = math.ceil(lowest / grain - 1e-9)
    last = min(math.ceil(highest / grain - 1e-9) - 1, round(memory_bytes / grain))
    if last < first:
        return min((lowest + highest) / 2, float(memory_bytes)), step / math.sqrt(12)
    # The sd of a uniform choice among the counts that fit.
    return grain * (first + last) / 2, grain * math.sqrt(((last - first + 1) ** 2 - 1) / 12)


def _scatter(estimates: t.Sequence[tuple[float, float]], weights: t.Sequence[int], mean: float) -> float:
    """Standard error of the weighted mean from the scatter of the values, 0 with fewer than three of them."""
    if len(estimates) < 3:
        return 0.0
    total = sum(weights)
    square = sum((weight * (value - mean)) ** 2 for weight, (value, dummy) in zip(weights, estimates))
    return math.sqrt(square * len(estimates) / (len(estimates) - 1)) / total
