# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Correct noisy points of W(t) so that the curve never falls and becomes flatter.

The unique pages dirtied in a window can only grow with the window. They grow more slowly the longer it is, because a
page counts once. The nearest such curve (weighted least squares) is computed with Hildreth's method: project on one
constraint after the other, with a multiplier for each. It needs no library, and is exact enough after some hundred
sweeps.
"""

from __future__ import annotations

import typing as t

SWEEPS = 400
#: A sweep that moves no value by more than this changes nothing.
ENOUGH_BYTES = 1e-3

#: A constraint: index of a value and its factor; the sum must not be negative.
_Constraint = list[tuple[int, float]]


def monotone_concave(windows: t.Sequence[float], values: t.Sequence[float], sds: t.Sequence[float]) -> list[float]:
    """Return the values, changed as little as possible to be non-negative, non-decreasing and concave.

    Args:
        windows: strictly increasing, above 0.
        values: at those windows.
        sds: standard deviations; the less sure a value, the more it gives way.
    """
    if any(later <= earlier for earlier, later in zip([0.0, *windows], windows)):
        raise ValueError("windows must be above 0 and increasing")
    variances = [max(sd, 1e-9) ** 2 for sd in sds]
    result = [float(value) for value in values]
    constraints = _constraints(windows)
    multipliers = [0.0] * len(constraints)
    norms = [sum(factor**2 * variances[index] for index, factor in constraint) for constraint in constraints]
    for dummy in range(SWEEPS):
        largest = 0.0
        for number, constraint in enumerate(constraints):
            amount = sum(factor * result[index] for index, factor in constraint)
            change = max(-multipliers[number], -amount / norms[number])
            multipliers[number] += change
            for index, factor in constraint:
                result[index] += change * factor * variances[index]
                largest = max(largest, abs(change * factor) * variances[index])
        if largest < ENOUGH_BYTES:
            break
    return _tidied(windows, result)


def _constraints(windows: t.Sequence[float]) -> list[_Constraint]:
    """Not below 0, not falling, and each slope no steeper than the one before (the first one comes from the origin)."""
    constraints: list[_Constraint] = [
        [(index, 1.0), (index - 1, -1.0)] if index else [(index, 1.0)] for index in range(len(windows))
    ]
    spans = [later - earlier for earlier, later in zip([0.0, *windows], windows)]
    for index in range(1, len(windows)):
        before, after = 1 / spans[index - 1], 1 / spans[index]
        constraint = [(index - 1, before + after), (index, -after)]
        if index >= 2:
            constraint.append((index - 2, -before))
        constraints.append(constraint)
    return constraints


def _tidied(windows: t.Sequence[float], values: t.Sequence[float]) -> list[float]:
    """Take away the last traces of error that an iteration leaves, from left to right."""
    tidy: list[float] = []
    for index, value in enumerate(values):
        lowest = tidy[-1] if tidy else 0.0
        highest = float("inf")
        if index == 1:
            highest = tidy[0] * windows[1] / windows[0]
        elif index > 1:
            slope = (tidy[-1] - tidy[-2]) / (windows[index - 1] - windows[index - 2])
            highest = tidy[-1] + slope * (windows[index] - windows[index - 1])
        tidy.append(max(lowest, min(value, highest)))
    return tidy
