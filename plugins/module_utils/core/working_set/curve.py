# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""W(t) at any t, with a lower and an upper value: from the fit where it holds, otherwise from the points."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve_fit import Fit
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.monotone_curve import monotone_concave
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import Point

#: A fit with a larger misfit (chi-square per point) is no description of the guest: the points speak for themselves.
MISFIT = 3.0


@dataclasses.dataclass(frozen=True)
class Curve:
    """W(t) with its band.

    Attributes:
        windows, values: points of a concave curve in seconds and bytes.
        sds: their standard deviations.
        touched_bytes: no window dirties more than this.
        fit: the two populations, or None.
    """

    windows: tuple[float, ...]
    values: tuple[float, ...]
    sds: tuple[float, ...]
    touched_bytes: float
    fit: Fit | None = None

    def value(self, window_s: float) -> float:
        """The most likely W in bytes."""
        if window_s <= 0:
            return 0.0
        if not self.windows:
            return self._capped(window_s, self.touched_bytes / 2)
        if self.fit is not None and self.fit.misfit <= MISFIT:
            return self._capped(window_s, self.fit.value(window_s))
        before = self._proportional(window_s)
        # Beyond the last point a concave curve lies between flat and that slope; the middle errs least.
        middle = (self._within(window_s) + self._beyond(window_s)) / 2
        return self._capped(window_s, middle if before is None else before)

    def low(self, window_s: float) -> float:
        """As little as it may be (one standard deviation): by concavity, a straight line from the origin to the first
        point, and nothing new after the last."""
        if window_s <= 0 or not self.windows:
            return 0.0
        before = self._proportional(window_s)
        least = self._within(window_s) if before is None else before
        return max(0.0, min(self.value(window_s), self._capped(window_s, least - self._sd(window_s))))

    def high(self, window_s: float) -> float:
        """As much as it may be: by concavity, the line through the first two points towards 0 (the worst case of
        Gudkov's prediction: a jump at 0), and the last slope going on."""
        if window_s <= 0:
            return 0.0
        if not self.windows:
            return self.touched_bytes
        most = self._jump(window_s) if window_s < self.windows[0] else self._beyond(window_s)
        return max(self.value(window_s), self._capped(window_s, most + self._sd(window_s)))

    def _capped(self, window_s: float, value: float) -> float:
        return max(0.0, min(value, self.touched_bytes))

    def _proportional(self, window_s: float) -> float | None:
        """On the line from the origin to the first point, or None beyond that point."""
        if window_s >= self.windows[0]:
            return None
        return self.values[0] * window_s / self.windows[0]

    def _jump(self, window_s: float) -> float:
        if len(self.windows) < 2:
            return self.values[0]
        return self.values[0] - self._slope(1) * (self.windows[0] - window_s)

    def _slope(self, index: int) -> float:
        """Of the stretch that ends at a point."""
        if index == 0:
            return self.values[0] / self.windows[0]
        return (self.values[index] - self.values[index - 1]) / (self.windows[index] - self.windows[index - 1])

    def _within(self, window_s: float) -> float:
        """Between points; flat after the last."""
        for index in range(1, len(self.windows)):
            if window_s < self.windows[index]:
                return self.values[index - 1] + self._slope(index) * (window_s - self.windows[index - 1])
        return self.values[-1]

    def _beyond(self, window_s: float) -> float:
        """Between points; the last slope goes on after the last."""
        if window_s <= self.windows[-1]:
            return self._within(window_s)
        return self.values[-1] + self._slope(len(self.windows) - 1) * (window_s - self.windows[-1])

    def _sd(self, window_s: float) -> float:
        """Error in bytes: that of the nearest point, growing with the window beyond the ends no faster than W can."""
        if window_s <= self.windows[0]:
            return self.sds[0] * window_s / self.windows[0]
        for index in range(1, len(self.windows)):
            if window_s < self.windows[index]:
                share = (window_s - self.windows[index - 1]) / (self.windows[index] - self.windows[index - 1])
                return self.sds[index - 1] * (1 - share) + self.sds[index] * share
        return self.sds[-1]


def curve(points: t.Sequence[Point], touched_bytes: float, fitted: Fit | None = None) -> Curve:
    """A curve from measured points, made concave first. No points: nothing is known but what is touched."""
    ordered = sorted(points, key=lambda point: point.window_s)
    windows = [point.window_s for point in ordered]
    sds = [point.sd_bytes for point in ordered]
    values = monotone_concave(windows, [point.dirtied_bytes for point in ordered], sds)
    return Curve(tuple(windows), tuple(values), tuple(sds), float(touched_bytes), fitted)
