# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What pre-copy can do for a guest: rho, the least downtime, the lowest limit, the bandwidth that is needed."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import methods
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.precopy import stretch_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.scenario import EDGE_ABOVE, Known, Scenario

#: Below this limit QEMU may never stop even an idle guest (measured: 5 ms with a small send buffer).
LOWEST_LIMIT_S = 0.030
#: Downtimes of guests that dirty memory were 1.11 to 1.27 of a limit of 300 ms (nine runs), of idle ones 0.7 to 1.1.
OVERRUN = 1.25
#: Bounds of what is searched: downtimes in seconds (QEMU accepts 2000 s at most), bandwidth as a factor of what there
#: is.
LOWEST_S, HIGHEST_S = 0.001, 2000.0
LOWEST_FACTOR, HIGHEST_FACTOR = 1e-3, 1e4
BISECTIONS = 14
FLOOR_ROUNDS = 500


def rho(scenario: Scenario, limit_s: float) -> float:
    """New pages a second over bandwidth, in windows about as long as the limit: below 0.8 pre-copy converges, above 1.1
    it does not.

    That is dW/dt / B, over one stretch of sending.
    """
    step = stretch_s(scenario.send_rate())
    new = scenario.window(limit_s + step) - scenario.window(limit_s)
    return new / step / scenario.send_rate().page_bytes_per_s


def floor_s(scenario: Scenario) -> float:
    """The least downtime that pre-copy can come to: that of sending the largest fixed point of V = W(V/B)."""
    rate = scenario.send_rate().page_bytes_per_s
    left = scenario.touched_bytes
    for dummy in range(FLOOR_ROUNDS):
        following = scenario.window(left / rate)
        if following >= left * 0.999:
            break
        left = following
    return scenario.link.switchover_s(scenario.wire(left))


def lowest_limit_s(scenario: Scenario) -> float | None:
    """The lowest limit at which pre-copy converges, or None when none does."""
    return _least(lambda limit_s: methods.precopy(scenario, limit_s) is not None, LOWEST_S, HIGHEST_S)


def limit_for(link: Link, cap_s: float) -> float:
    """The highest downtime limit in seconds that keeps a downtime below a cap: QEMU spends all of it, and more."""
    return min(longest_limit_s(link, cap_s), max(LOWEST_LIMIT_S, longest_limit_s(link, cap_s - link.fixed_s) / OVERRUN))


def longest_limit_s(link: Link, cap_s: float) -> float:
    """The limit that stands for so long a downtime.

    Where the bandwidth is capped, QEMU decides with the capped rate and sends the last copy at the full one (measured:
    42 ms for a limit of 2400 ms). So the limit is that much longer.
    """
    return min(HIGHEST_S, cap_s * link.last_copy_bytes_per_s / link.bandwidth_bytes_per_s)


def needed_bytes_per_s(known: Known, cap_s: float) -> float | None:
    """The bandwidth at which pre-copy surely keeps the downtime below the cap, or None when none in reason does."""

    def enough(factor: float) -> bool:
        scenario = known.edge(EDGE_ABOVE).faster(factor)
        figures = methods.precopy(scenario, limit_for(scenario.link, cap_s))
        return figures is not None and figures.downtime_s <= cap_s

    factor = _least(enough, LOWEST_FACTOR, HIGHEST_FACTOR)
    return None if factor is None else factor * known.link.bandwidth_bytes_per_s


def _least(enough: t.Callable[[float], bool], low: float, high: float) -> float | None:
    """The least value that is enough, to a thousandth or so, by halving the ratio."""
    if not enough(high):
        return None
    if enough(low):
        return low
    for dummy in range(BISECTIONS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
