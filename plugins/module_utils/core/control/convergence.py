# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether a migration converges, assessed at each sync: by its rounds alone, or by a reforecast as well."""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import (
    Reforecast,
    RemainingForecast,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import downtime_for

#: A round that leaves at least this share of the least that any round left has gained nothing worth its time. It is
#: compared with the best round and not with the last one, because a guest that swings between more and less (measured:
#: 216 rounds) would otherwise seem to gain in every other round, for ever.
NO_GAIN_SHARE = 0.95
#: So many rounds without gain call for more downtime. Two, because a single one may be a burst of the guest.
ROUNDS_TO_RAISE = 2
#: What is left swings from round to round; measured, a forced switchover took 0.86 to 0.98 of what this asks for.
RAISE_MARGIN = 1.25
#: A limit that permits what is left at a sync, and the downtime that then comes over what is left (measured).
SWITCHOVER_MARGIN = 1.2
OVERRUN = 1.1
#: A smaller raise is not worth the call.
LEAST_RAISE = 1.3
#: At the highest permitted downtime, so many rounds and seconds without gain mean that pre-copy will not end.
ROUNDS_TO_GIVE_UP = 6
SECONDS_TO_GIVE_UP = 5.0
#: A guest that dirties much more than was measured may only have had a burst: it must go on for another sync, and for
#: this long, because short rounds follow each other within one burst.
BURST_S = 0.5
#: A round that left less than this share of the one before it does shrink, whatever the reforecast says.
SHRINKING_SHARE = 0.9
#: Up to this factor of the dirty rate, up or down, a guest is as it was measured.
AS_MEASURED = 1.5
#: A guest too close to tell gets so many rounds and seconds without gain where no permitted limit surely ends it.
MARGINAL_ROUNDS = 3
MARGINAL_S = 2.0


@dataclasses.dataclass(frozen=True)
class NoGainLimits:
    """How long rounds without gain are accepted.

    Attributes:
        first_round: the first round that counts.
        to_raise: so many without gain call for more downtime.
        to_give_up, seconds: so many, and so long, at the highest downtime limit mean that it will not end.
    """

    first_round: int = 2
    to_raise: int = ROUNDS_TO_RAISE
    to_give_up: int = ROUNDS_TO_GIVE_UP
    seconds: float = SECONDS_TO_GIVE_UP


#: xbzrle sends whole pages in its first two rounds; if the third has not helped, more of them will not.
XBZRLE_LIMITS = NoGainLimits(first_round=3, to_raise=1, to_give_up=2, seconds=0.0)
#: QEMU throttles after two full passes at the earliest, and then in steps.
THROTTLE_LIMITS = NoGainLimits(first_round=6, to_give_up=8)
#: Beside a reforecast, for guests that behave as no forecast says.
REFORECAST_LIMITS = NoGainLimits(to_raise=4)


@dataclasses.dataclass(frozen=True)
class Assessment:
    """What a migration needs to end.

    Attributes:
        needs: C(nothing), C(higher_limit) or C(end_now): whatever is permitted beside waiting.
        limit_ms: for C(higher_limit); the cap may be lower.
        is_forecast: whether that follows from the reforecast, and not from rounds that have gone by.
    """

    needs: str
    limit_ms: int = 0
    is_forecast: bool = False


NOTHING = Assessment("nothing")
END_NOW = Assessment("end_now")
END_NOW_BY_FORECAST = Assessment("end_now", is_forecast=True)


def switchover_limit_ms(sync: Sync, cap_ms: int) -> int | None:
    """The limit at which QEMU switches over with what is left now, or None where the cap forbids that."""
    needed_ms = downtime_for(sync.left_bytes, sync.bytes_per_s)
    if needed_ms is None or needed_ms * OVERRUN > cap_ms:
        return None
    return min(cap_ms, int(needed_ms * SWITCHOVER_MARGIN) + 1)


class ConvergenceByRounds:
    """Assesses what rounds leave, and knows nothing else of the guest.

    Attributes:
        remaining: nobody forecasts the rest here.
    """

    remaining: RemainingForecast | None = None

    def __init__(self, limits: NoGainLimits = NoGainLimits()) -> None:
        self._limits = limits
        self._least_left: int | None = None
        self._since_s = 0.0
        #: Rounds without gain up to now, or since the last raise.
        self.rounds_without_gain = 0

    def seconds_without_gain(self, at_s: float) -> float:
        """Seconds since the first of these rounds."""
        return at_s - self._since_s if self.rounds_without_gain else 0.0

    def assess(self, sync: Sync, limit_ms: int, cap_ms: int) -> Assessment:
        """One more sync, with the limit in force and the highest that is permitted."""
        if sync.iteration < self._limits.first_round:
            return NOTHING
        if self._least_left is None or sync.left_bytes < NO_GAIN_SHARE * self._least_left:
            self._least_left = sync.left_bytes
            self.rounds_without_gain = 0
            return NOTHING
        if self.rounds_without_gain == 0:
            self._since_s = sync.at_s
        self.rounds_without_gain += 1
        if limit_ms < cap_ms:
            return self._raise(sync, limit_ms, cap_ms)
        waited_s = sync.at_s - self._since_s
        if self.rounds_without_gain < self._limits.to_give_up or waited_s < self._limits.seconds:
            return NOTHING
        return END_NOW

    def _raise(self, sync: Sync, limit_ms: int, cap_ms: int) -> Assessment:
        """As much downtime as what is left needs, and no more: QEMU spends what it is given."""
        if self.rounds_without_gain < self._limits.to_raise:
            return NOTHING
        self.rounds_without_gain = 0
        needed_ms = downtime_for(sync.left_bytes, sync.bytes_per_s)
        if needed_ms is None:
            return Assessment("higher_limit", cap_ms)
        return Assessment("higher_limit", min(cap_ms, max(2 * limit_ms, int(needed_ms * RAISE_MARGIN))))


class ConvergenceByForecast:
    """Assesses what the reforecast says of each sync: at once where that is sure, by the rounds where it is not.

    Attributes:
        remaining: the forecast of the rest at the last sync; None where there was none.
    """

    def __init__(self, reforecast: Reforecast) -> None:
        self._reforecast = reforecast
        self._by_rounds = ConvergenceByRounds(REFORECAST_LIMITS)
        self._never_since_s: float | None = None
        self._fast_syncs = 0
        self._last_rounds: list[Sync] = []
        self.remaining: RemainingForecast | None = None

    def assess(self, sync: Sync, limit_ms: int, cap_ms: int) -> Assessment:
        """One more sync, with the limit in force and the highest that is permitted."""
        highest_ms = max(limit_ms, self._reforecast.highest_limit_ms())
        by_rounds = self._by_rounds.assess(sync, limit_ms, highest_ms)
        last_left = self._last_rounds[-1].left_bytes if self._last_rounds else None
        self._remember(sync)
        if sync.bytes_per_s <= 0:
            self.remaining = None
            return by_rounds
        recent = self._reforecast.recent(self._last_rounds)
        self._fast_syncs = self._fast_syncs + 1 if recent.dirty_factor > AS_MEASURED else 0
        self.remaining = self._reforecast.at_sync(sync, limit_ms, recent)
        if not self._is_sure(self.remaining, sync, recent.dirty_factor, last_left):
            return by_rounds
        lowest = self._reforecast.lowest_limit_ms(sync, limit_ms, recent)
        limits = [one for one in (lowest, switchover_limit_ms(sync, cap_ms)) if one is not None and one > limit_ms]
        if limits:
            return Assessment("higher_limit", max(min(limits), int(LEAST_RAISE * limit_ms)), is_forecast=True)
        if self.remaining.verdict == "never" or self._has_waited(sync):
            return END_NOW_BY_FORECAST
        return by_rounds

    def _remember(self, sync: Sync) -> None:
        """Short rounds say little one by one: those of the last moments count together."""
        self._last_rounds.append(sync)
        while sum(one.seconds for one in self._last_rounds[1:]) >= BURST_S:
            del self._last_rounds[0]

    def _is_sure(self, remaining: RemainingForecast, sync: Sync, dirty_factor: float, last_left: int | None) -> bool:
        """Whether the migration surely needs help."""
        if remaining.verdict == "never":
            return self._is_never(sync, dirty_factor, last_left)
        self._never_since_s = None
        return remaining.verdict == "marginal" and self._by_rounds.rounds_without_gain > 0

    def _is_never(self, sync: Sync, dirty_factor: float, last_left: int | None) -> bool:
        """Whether the reforecast can be believed. What is left may go on to shrink a little; that does not end it."""
        if self._never_since_s is None:
            self._never_since_s = sync.at_s
        if last_left is not None and sync.left_bytes < SHRINKING_SHARE * last_left:
            return False
        as_measured = 1 / AS_MEASURED <= dirty_factor <= AS_MEASURED
        if sync.seconds >= BURST_S and (as_measured or self._fast_syncs >= 2):
            return True
        return sync.at_s - self._never_since_s >= BURST_S

    def _has_waited(self, sync: Sync) -> bool:
        rounds, seconds = self._by_rounds.rounds_without_gain, self._by_rounds.seconds_without_gain(sync.at_s)
        return rounds >= MARGINAL_ROUNDS and seconds >= MARGINAL_S


def convergence_of(method: str, reforecast: Reforecast | None) -> ConvergenceByForecast | ConvergenceByRounds:
    """How the convergence of a migration is assessed: by forecast wherever the rounds of its method can be forecast."""
    if reforecast and reforecast.forecasts_rounds:
        return ConvergenceByForecast(reforecast)
    return ConvergenceByRounds({"xbzrle": XBZRLE_LIMITS, "throttle": THROTTLE_LIMITS}.get(method, NoGainLimits()))
