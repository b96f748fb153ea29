# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Whether a migration gets through, judged at each sync: by its rounds alone, or with a reforecast as well."""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import Prospect, Reforecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import downtime_for

#: A round that leaves at least this share of the least that any round left has gained nothing worth its time. It is
#: held against the best round and not the last one, because a guest that swings between more and less (measured: 216
#: rounds) would otherwise seem to gain in every other round, for ever.
STUCK_SHARE = 0.95
#: So many rounds without gain call for more downtime. Two, because a single one may be a burst of the guest.
ROUNDS_TO_RAISE = 2
#: What is left swings from round to round; measured, a forced switchover took 0.86 to 0.98 of what this asks for.
RAISE_MARGIN = 1.25
#: A limit that permits what is left at a sync, and the downtime that then comes over what is left (measured).
FORCED_MARGIN = 1.2
OVERRUN = 1.1
#: A smaller raise is not worth the call.
LEAST_RAISE = 1.3
#: At the highest permitted downtime, so many rounds and seconds without gain mean that pre-copy will not end.
ROUNDS_TO_GIVE_UP = 6
SECONDS_TO_GIVE_UP = 5.0
#: A guest that is much hotter than it was measured may only have had a burst: it must stay so for another sync, and for
#: this long, because short rounds follow each other within one burst.
BURST_S = 0.5
#: A round that left less than this share of the one before it does shrink, whatever the reforecast says.
STILL_SHRINKS = 0.9
#: Up to this factor, hotter or calmer, a guest is as it was measured.
AS_MEASURED = 1.5


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long rounds without gain are borne.

    Attributes:
        since: the first round that counts.
        to_raise: so many without gain call for more downtime.
        to_give_up, seconds: so many, and so long, at the highest downtime mean that it will not end.
    """

    since: int = 2
    to_raise: int = ROUNDS_TO_RAISE
    to_give_up: int = ROUNDS_TO_GIVE_UP
    seconds: float = SECONDS_TO_GIVE_UP


#: xbzrle sends whole pages in its first two rounds; if the third has not helped, more of them will not.
OF_XBZRLE = Patience(since=3, to_raise=1, to_give_up=2, seconds=0.0)
#: QEMU throttles after two full passes at the earliest, and then in steps.
OF_THROTTLE = Patience(since=6, to_give_up=8)
#: A guest too close to tell gets so many rounds and seconds without gain where no permitted limit surely ends it.
MARGINAL_ROUNDS = 3
MARGINAL_S = 2.0
#: Beside a reforecast, for guests that are not as anybody thinks.
BESIDE_OUTLOOK = Patience(to_raise=4)


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What a migration needs.

    Attributes:
        wants: C(nothing), C(raise) or C(resort): whatever is permitted beside waiting.
        raise_to_ms: for C(raise), as far as the cap permits.
        foreseen: whether that follows from the reforecast, and not from rounds that have gone by.
    """

    wants: str
    raise_to_ms: int = 0
    foreseen: bool = False


NOTHING = Judgement("nothing")
RESORT = Judgement("resort")
FORESEEN = Judgement("resort", foreseen=True)


def forced_ms(sync: Sync, cap_ms: int) -> int | None:
    """The limit at which what is left now may be sent with the guest stopped, or None where the cap forbids that."""
    needed_ms = downtime_for(sync.left_bytes, sync.bytes_per_s)
    if needed_ms is None or needed_ms * OVERRUN > cap_ms:
        return None
    return min(cap_ms, int(needed_ms * FORCED_MARGIN) + 1)


class ConvergenceByRounds:
    """Judges by what rounds leave, knowing nothing else of the guest."""

    def __init__(self, patience: Patience = Patience()) -> None:
        self._patience = patience
        self._least_left: int | None = None
        self._stuck_rounds = 0
        self._stuck_since_s = 0.0

    @property
    def stuck_rounds(self) -> int:
        """Rounds without gain up to now, or since the last raise."""
        return self._stuck_rounds

    def stuck_s(self, at_s: float) -> float:
        """Seconds since the first of them."""
        return at_s - self._stuck_since_s if self._stuck_rounds else 0.0

    def at(self, sync: Sync, limit_ms: int, cap_ms: int) -> Judgement:
        """One more sync, with the limit in force and the highest that is permitted."""
        if sync.iteration < self._patience.since:
            return NOTHING
        if self._least_left is None or sync.left_bytes < STUCK_SHARE * self._least_left:
            self._least_left = sync.left_bytes
            self._stuck_rounds = 0
            return NOTHING
        if self._stuck_rounds == 0:
            self._stuck_since_s = sync.at_s
        self._stuck_rounds += 1
        if limit_ms < cap_ms:
            return self._raise(sync, limit_ms, cap_ms)
        waited_s = sync.at_s - self._stuck_since_s
        if self._stuck_rounds < self._patience.to_give_up or waited_s < self._patience.seconds:
            return NOTHING
        return RESORT

    def _raise(self, sync: Sync, limit_ms: int, cap_ms: int) -> Judgement:
        """As much downtime as what is left needs, and no more: QEMU spends what it is given."""
        if self._stuck_rounds < self._patience.to_raise:
            return NOTHING
        self._stuck_rounds = 0
        needed_ms = downtime_for(sync.left_bytes, sync.bytes_per_s)
        if needed_ms is None:
            return Judgement("raise", cap_ms)
        return Judgement("raise", min(cap_ms, max(2 * limit_ms, int(needed_ms * RAISE_MARGIN))))


class ConvergenceByForecast:
    """Judges by what the reforecast says of each sync: at once where that is sure, patiently where it is not."""

    def __init__(self, reforecast: Reforecast) -> None:
        self._reforecast = reforecast
        self._by_rounds = ConvergenceByRounds(BESIDE_OUTLOOK)
        self._never_since_s: float | None = None
        self._hot_syncs = 0
        self._recent: list[Sync] = []
        self.prospect: Prospect | None = None

    def at(self, sync: Sync, limit_ms: int, cap_ms: int) -> Judgement:
        """One more sync, with the limit in force and the highest that is permitted."""
        highest_ms = max(limit_ms, self._reforecast.highest_limit_ms())
        patient = self._by_rounds.at(sync, limit_ms, highest_ms)
        last_left = self._recent[-1].left_bytes if self._recent else None
        self._remember(sync)
        if sync.bytes_per_s <= 0:
            self.prospect = None
            return patient
        recent = self._reforecast.recent(self._recent)
        self._hot_syncs = self._hot_syncs + 1 if recent.heat > AS_MEASURED else 0
        self.prospect = self._reforecast.at_sync(sync, limit_ms, recent)
        if self.prospect.verdict == "converges":
            self._never_since_s = None
            return patient
        if self.prospect.verdict == "marginal":
            sure, self._never_since_s = self._by_rounds.stuck_rounds > 0, None
        else:
            sure = self._is_never(sync, recent.heat, last_left)
        if not sure:
            return patient
        lowest = self._reforecast.lowest_limit_ms(sync, limit_ms, recent)
        limits = [limit for limit in (lowest, forced_ms(sync, cap_ms)) if limit is not None and limit > limit_ms]
        if limits:
            return Judgement("raise", max(min(limits), int(LEAST_RAISE * limit_ms)), foreseen=True)
        if self.prospect.verdict == "never" or self._has_waited(sync):
            return FORESEEN
        return patient

    def _has_waited(self, sync: Sync) -> bool:
        stuck = self._by_rounds
        return stuck.stuck_rounds >= MARGINAL_ROUNDS and stuck.stuck_s(sync.at_s) >= MARGINAL_S

    def _remember(self, sync: Sync) -> None:
        """Short rounds say little one by one: those of the last moments count together."""
        self._recent.append(sync)
        while sum(one.seconds for one in self._recent[1:]) >= BURST_S:
            del self._recent[0]

    def _is_never(self, sync: Sync, heat: float, last_left: int | None) -> bool:
        """Whether the reforecast can be believed. It may go on to shrink a little; it does not end by that."""
        if self._never_since_s is None:
            self._never_since_s = sync.at_s
        if last_left is not None and sync.left_bytes < STILL_SHRINKS * last_left:
            return False
        as_measured = 1 / AS_MEASURED <= heat <= AS_MEASURED
        if sync.seconds >= BURST_S and (as_measured or self._hot_syncs >= 2):
            return True
        return sync.at_s - self._never_since_s >= BURST_S
