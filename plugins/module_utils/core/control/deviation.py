# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Where a migration deviates from its forecast, told once for the link and once for the guest."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import (
    Reforecast,
    RemainingForecast,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample, mib
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB, human_seconds

#: What remains is a deviation where it is more than was expected by this factor, and by this much.
MORE_LEFT = 1.5
LEAST_BYTES = 4 * MIB


class Deviations:
    """Compares one migration with its forecast."""

    def __init__(self, reforecast: Reforecast) -> None:
        self._reforecast = reforecast
        self._link_told = False
        self._guest_told = False

    def of_link(self, sample: Sample, bytes_per_s: float, limit_ms: int) -> str | None:
        """In the first pass: what the link gives, where that is much less than was assumed."""
        if self._link_told or self._reforecast.link is None or not self._reforecast.is_slow(bytes_per_s):
            return None
        self._link_told = True
        words = ""
        if self._reforecast.forecasts_rounds:
            whole_s = self._reforecast.whole_s(bytes_per_s, limit_ms)
            words = _end_in_words(None if whole_s is None else whole_s - sample.processed_bytes / bytes_per_s)
        return self._reforecast.rate_in_words(bytes_per_s) + words

    def of_guest(self, sync: Sync, remaining: RemainingForecast) -> str | None:
        """At a sync: what remains, where that is much more than was forecast."""
        expected = self._reforecast.expected_left(sync.iteration)
        if self._guest_told or expected is None or sync.left_bytes <= MORE_LEFT * expected + LEAST_BYTES:
            return None
        self._guest_told = True
        return (
            f"{mib(sync.left_bytes)} are left at the start of round {sync.iteration}, {mib(expected)} were"
            f" expected{_end_in_words(remaining.seconds)}"
        )


def _end_in_words(seconds: float | None) -> str:
    if seconds is None:
        return ": at this rate, it does not end by itself"
    return f": now about {human_seconds(max(0.0, seconds))}"
