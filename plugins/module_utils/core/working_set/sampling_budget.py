# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Spend the seconds for measuring: first few windows of all guests, then more of those that need it."""

from __future__ import annotations

import typing as t


class RepeatedWindow(t.NamedTuple):
    """So many measurements of one window, of all guests at once."""

    window_s: float
    repeats: int


#: libvirt's call knows whole seconds only. Two short windows and a longer one show whether the curve still rises.
COARSE = (RepeatedWindow(1, 2), RepeatedWindow(2, 1), RepeatedWindow(4, 1))
#: QEMU's own call sees what happens within a round of a fast link as well.
FINE = (RepeatedWindow(0.1, 2), RepeatedWindow(0.3, 2), RepeatedWindow(1, 1), RepeatedWindow(3, 1))
#: Closer looks at what is doubtful: repeats of what the verdict hangs on, the length of a round near convergence.
COARSE_MORE = (
    RepeatedWindow(1, 1),
    RepeatedWindow(2, 1),
    RepeatedWindow(1, 1),
    RepeatedWindow(1, 1),
    RepeatedWindow(2, 1),
    RepeatedWindow(1, 1),
)
FINE_MORE = (
    RepeatedWindow(0.3, 1),
    RepeatedWindow(1, 1),
    RepeatedWindow(0.5, 1),
    RepeatedWindow(0.3, 1),
    RepeatedWindow(2, 1),
    RepeatedWindow(1, 1),
)


def first_windows(*, fine: bool, budget_s: float) -> list[RepeatedWindow]:
    """The look at all guests: as much of it as two thirds of the budget take, and one measurement at the least.

    >>> first_windows(fine=False, budget_s=3)
    [RepeatedWindow(window_s=1, repeats=2)]
    >>> first_windows(fine=False, budget_s=1.5)
    [RepeatedWindow(window_s=1, repeats=1)]
    """
    left = budget_s * 2 / 3
    windows = FINE if fine else COARSE
    first = windows[0]
    chosen = [first._replace(repeats=max(1, min(first.repeats, int(left / first.window_s))))]
    for window in windows[1:]:
        left -= chosen[-1].window_s * chosen[-1].repeats
        if window.window_s * window.repeats > left:
            break
        chosen.append(window)
    return chosen


def more_windows(*, fine: bool) -> tuple[RepeatedWindow, ...]:
    """Closer looks, one after the other, for guests whose verdict hangs on them."""
    return FINE_MORE if fine else COARSE_MORE
