# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the axes of a chart: from figures to places, and round figures for their marks.

from __future__ import annotations

import dataclasses
import math
import typing as t

#: What a mark may be, in powers of ten.
_STEPS = (1, 2, 5, 10)
#: A clock has other round figures.
_CLOCK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_KIB = 1024.0


def ticks(most: float, count: int = 5) -> list[float]:
    """Round figures from 0 up to a value, about so many.

    >>> ticks(0.9), ticks(17)
    ([0.0, 0.2, 0.4, 0.6, 0.8], [0.0, 5.0, 10.0, 15.0])
    """
    if not math.isfinite(most) or most <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(most / count))
    step = next(power * one for one in _STEPS if power * one * count >= most * 0.999)
    return [round(number * step, 9) for number in range(int(most / step + 1e-9) + 1)]


def time_ticks(most_s: float, count: int = 6) -> list[float]:
    """Round times from 0 up to so many seconds.

    >>> time_ticks(200)
    [0.0, 60.0, 120.0, 180.0]
    """
    if most_s < count:
        return ticks(most_s, count)
    last = _CLOCK_STEPS[-1]
    step = next((one for one in _CLOCK_STEPS if one * count >= most_s), last * math.ceil(most_s / count / last))
    return [float(number * step) for number in range(int(most_s / step) + 1)]


def byte_ticks(most: float, count: int = 4) -> list[float]:
    """Round numbers of bytes, in the unit of the largest.

    >>> [tick / 1024 for tick in byte_ticks(90 * 1024)]
    [0.0, 50.0]
    """
    if most <= 0:
        return [0.0]
    unit = _KIB ** max(0, int(math.log(most, _KIB)))
    return [tick * unit for tick in ticks(most / unit, count)]


def log_ticks(least: float, most: float, unit: float = 1.0) -> list[float]:
    """Powers of ten of a unit within two values; with less than two of them, also twice and five times as much.

    >>> log_ticks(0.04, 12), log_ticks(0.4, 1.5)
    ([0.1, 1.0, 10.0], [0.5, 1.0])
    """
    first, last = (math.floor(math.log10(value / unit)) for value in (least, most))
    powers = [unit * 10.0**power for power in range(first, last + 1)]
    found = [power for power in powers if least <= power <= most]
    if len(found) < 2:
        found = [power * one for power in powers for one in (1, 2, 5) if least <= power * one <= most]
    return found


def log_byte_ticks(least: float, most: float) -> list[float]:
    """The same for bytes: 1, 10 and 100 of each unit.

    >>> log_byte_ticks(300 * 1024, 30 * 1024**2) == [1024**2, 10 * 1024**2]
    True
    """
    units = [_KIB**power for power in range(5)]
    found = [unit * one for unit in units for one in (1, 10, 100)]
    return [value for value in found if least <= value <= most]


@dataclasses.dataclass(frozen=True)
class Plane:
    """Where figures are in a drawing.

    Attributes:
        x_most, y_most: the largest figures.
        x_least, y_least: the smallest, of an axis on which each figure is as far from its double; 0: an even axis.
        left, top, right, bottom: edges of the plot, in units of the drawing.
    """

    x_most: float
    y_most: float
    x_least: float = 0
    y_least: float = 0
    left: float = 62
    top: float = 12
    right: float = 392
    bottom: float = 176

    def x(self, value: float) -> float:
        return round(self.left + (self.right - self.left) * _share(value, self.x_least, self.x_most), 1)

    def y(self, value: float) -> float:
        return round(self.bottom - (self.bottom - self.top) * _share(value, self.y_least, self.y_most), 1)

    def points(self, pairs: t.Iterable[tuple[float, float]]) -> str:
        """The points of a line, as SVG has them."""
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in pairs)


def _share(value: float, least: float, most: float) -> float:
    if most <= least or value <= least:
        return 0.0
    share = math.log(value / least) / math.log(most / least) if least > 0 else value / most
    return min(1.0, share)
