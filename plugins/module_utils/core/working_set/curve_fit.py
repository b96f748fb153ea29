# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A guest's writes as two populations of pages: a hot set, rewritten again and again, and a cold stream.

    W(t) = base * (1 - exp(-t / BASE_FILL_S)) + hot * shape(t / fill) + cold * t

The hot set and the cold stream are those of mVM (hot size, hot duration, cold rate). The shape says how the hot set
fills: C(linear) (a sweep that comes round: min(1, x)) or C(exponential) (pages at random: 1 - exp(-x)). The base is
what every running guest dirties at once, however short the window: its kernel's own few pages. It is small and decides
nearly convergent migrations: it kept a guest that dirties 86 % of the bandwidth from ever getting below 0.18 s of
remaining data. Being small, it drowns in the error of a busy guest's points; so what an idle guest showed goes in as
one more observation.

For a given shape and fill time the rest is linear, so the fill time is searched on a grid and the other three are found
by non-negative weighted least squares. Fill times that explain the points as well are averaged, because with windows
longer than the fill time anything below fits, and the extreme would be a bad guess. No library, no randomness: the same
points always give the same fit.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import Point

#: How fast the base fills. An assumption between two facts: at 0.1 s (the shortest window measured) it is there, and an
#: idle guest still gets below a limit of 10 ms, which it could not if it were there at once.
BASE_FILL_S = 0.03
SHAPES = ("linear", "exponential")
#: What the idle guest of the lab showed at 0.1 to 2 s with 4096 and 16384 samples a GiB, and how sure that is of
#: others.
USUAL_BASE_BYTES = 0.25 * MIB
USUAL_BASE_SD_BYTES = 0.15 * MIB
#: Fill times tried, from a tenth of the shortest window to three times the longest.
GRID = 60
#: What one more population must gain in chi-square to be believed (Akaike: 2 for each parameter).
WORTH = 2.0


@dataclasses.dataclass(frozen=True)
class Fit:
    """The two populations, each with one standard deviation.

    Attributes:
        hot_bytes: size of the hot set, 0 when there is none.
        fill_s: how long rewriting it takes.
        cold_bytes_per_s: new pages beyond it.
        base_bytes: dirtied at once in any window.
        shape: C(linear) or C(exponential).
        misfit: chi-square over the number of points: far above 1, the guest is not like this at all.
    """

    hot_bytes: float
    fill_s: float
    cold_bytes_per_s: float
    base_bytes: float
    shape: str
    hot_sd_bytes: float = 0.0
    fill_sd_s: float = 0.0
    cold_sd_bytes_per_s: float = 0.0
    misfit: float = 0.0

    def value(self, window_s: float) -> float:
        """W in bytes; nothing caps it here."""
        if window_s <= 0:
            return 0.0
        parts = _parts(window_s, self.shape, self.fill_s)
        return self.base_bytes * parts[0] + self.hot_bytes * parts[1] + self.cold_bytes_per_s * parts[2]


@dataclasses.dataclass(frozen=True)
class _Candidate:
    shape: str
    fill_s: float
    chi2: float
    score: float
    active: tuple[int, ...]
    amounts: tuple[float, float, float]
    sds: tuple[float, float, float]


def fit(points: t.Sequence[Point]) -> Fit | None:
    """The best fit to points of W(t), or None without at least two of them.

    With the same misfit the linear shape wins (it comes first), and fewer populations win over more.
    """
    if len({point.window_s for point in points}) < 2:
        return None
    candidates = [_best_amounts(points, shape, fill_s) for shape in SHAPES for fill_s in _grid(points)]
    best = min(candidates, key=lambda one: one.score)
    # Not over fits of other populations: between a knee and none lies a fill time that needs a cold stream to fit.
    fill_s, fill_sd_s = _average([one for one in candidates if one.shape == best.shape and one.active == best.active])
    best = _best_amounts(points, best.shape, fill_s)
    base, hot, cold = best.amounts
    return Fit(
        hot_bytes=hot,
        fill_s=best.fill_s if hot else 0.0,
        cold_bytes_per_s=cold,
        base_bytes=base,
        shape=best.shape,
        hot_sd_bytes=best.sds[1],
        fill_sd_s=fill_sd_s if hot else 0.0,
        cold_sd_bytes_per_s=best.sds[2],
        misfit=best.chi2 / len(points),
    )


def _average(candidates: t.Sequence[_Candidate]) -> tuple[float, float]:
    """Mean and standard deviation of the fill time over its likelihood (the grid is logarithmic, hence the factor)."""
    best = min(one.score for one in candidates)
    weights = [one.fill_s * math.exp((best - one.score) / 2) for one in candidates]
    total = sum(weights)
    mean = sum(weight * one.fill_s for weight, one in zip(weights, candidates)) / total
    square = sum(weight * (one.fill_s - mean) ** 2 for weight, one in zip(weights, candidates)) / total
    return mean, math.sqrt(square)


def _parts(window_s: float, shape: str, fill_s: float) -> tuple[float, float, float]:
    """How much of the base, of the hot set and of a byte a second of cold pages is dirtied in a window."""
    if fill_s <= 0:
        hot = 1.0
    elif shape == "linear":
        hot = min(1.0, window_s / fill_s)
    else:
        hot = -math.expm1(-window_s / fill_s)
    return (-math.expm1(-window_s / BASE_FILL_S), hot, window_s)


def _grid(points: t.Sequence[Point]) -> list[float]:
    """Fill times from a tenth of the shortest window to three times the longest, in equal ratios."""
    windows = [point.window_s for point in points]
    ratio = (30 * max(windows) / min(windows)) ** (1 / (GRID - 1))
    return [min(windows) / 10 * ratio**number for number in range(GRID)]


def _best_amounts(points: t.Sequence[Point], shape: str, fill_s: float) -> _Candidate:
    """Non-negative least squares for one shape and fill time: every subset of the three amounts, the best one kept."""
    rows = [_parts(point.window_s, shape, fill_s) for point in points]
    best = _Candidate(shape, fill_s, math.inf, math.inf, (), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    for active in _subsets():  # the empty one always solves
        solved = _solve(points, rows, active)
        if solved is None:
            continue
        amounts, sds = solved
        chi2 = (
            sum(
                ((sum(a * b for a, b in zip(amounts, row)) - point.dirtied_bytes) / _sd(point)) ** 2
                for point, row in zip(points, rows)
            )
            + ((amounts[0] - USUAL_BASE_BYTES) / USUAL_BASE_SD_BYTES) ** 2
        )
        # A hot set also costs its fill time; the base is always there.
        score = chi2 + WORTH * (2 * (1 in active) + (2 in active))
        if score < best.score - 1e-9:
            best = _Candidate(shape, fill_s, chi2, score, active, amounts, sds)
    return best


def _subsets() -> list[tuple[int, ...]]:
    return [chosen for size in range(4) for chosen in itertools.combinations(range(3), size)]


def _sd(point: Point) -> float:
    return max(point.sd_bytes, 1.0)


def _solve(
    points: t.Sequence[Point], rows: t.Sequence[tuple[float, float, float]], active: tuple[int, ...]
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Weighted least squares for the active amounts by the normal equations; None when singular or negative."""
    if len(active) > len(points):
        return None
    usual = 1 / USUAL_BASE_SD_BYTES**2
    matrix = [[sum(r[i] * r[j] / _sd(p) ** 2 for p, r in zip(points, rows)) for j in active] for i in active]
    right = [sum(r[i] * p.dirtied_bytes / _sd(p) ** 2 for p, r in zip(points, rows)) for i in active]
    if active[:1] == (0,):
        matrix[0][0] += usual
        right[0] += usual * USUAL_BASE_BYTES
    inverse = _inverse(matrix)
    if inverse is None:
        return None
    solution = [sum(a * b for a, b in zip(line, right)) for line in inverse]
    if any(value < 0 for value in solution):
        return None
    amounts, sds = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    for place, index in enumerate(active):
        amounts[index] = solution[place]
        sds[index] = math.sqrt(max(0.0, inverse[place][place]))
    return (amounts[0], amounts[1], amounts[2]), (sds[0], sds[1], sds[2])


def _inverse(matrix: list[list[float]]) -> list[list[float]] | None:
    """Gauss and Jordan with pivots, on a matrix scaled to a unit diagonal; None when it is (nearly) singular."""
    size = len(matrix)
    scale = [math.sqrt(matrix[i][i]) for i in range(size)]
    if any(value <= 0 for value in scale):
        return None
    work = [
        [matrix[i][j] / scale[i] / scale[j] for j in range(size)] + [1.0 if i == j else 0.0 for j in range(size)]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda line: abs(work[line][column]))
        if abs(work[pivot][column]) < 1e-9:
            return None
        work[column], work[pivot] = work[pivot], work[column]
        divisor = work[column][column]
        work[column] = [value / divisor for value in work[column]]
        for line in range(size):
            factor = work[line][column]
            if line != column and factor:
                work[line] = [a - factor * b for a, b in zip(work[line], work[column])]
    return [[work[i][size + j] / scale[i] / scale[j] for j in range(size)] for i in range(size)]
