# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The forecast made anew while a guest moves, from what its rounds show: will this end, when, and what would end it?

The working set is taken as it was measured, times a factor that the last rounds show: what was dirtied in them over
what W(t) says for as long. And it is never less than those rounds prove. W is concave, so a guest that dirtied so much
in a round dirties at least the same share of it in a share of the time. So a guest that changed after it was measured
is noticed in the first rounds that it makes longer.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import mib
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.convergence_limit import limit_for
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import known_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.precopy import (
    Run,
    SendRate,
    Window,
    recursion,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.scenario import EDGE_ABOVE, EDGE_BELOW
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB

#: Methods whose rounds can be forecast. What xbzrle and a throttle do to a round shows only afterwards.
WITH_ROUNDS = ("pre-copy", "raise-downtime", "parallel-zstd", "post-copy", "suspend")
#: A link is slow if it gives less than this share of the bandwidth that was assumed.
SLOW_SHARE = 0.75
#: What any guest's kernel dirties now and then, and what a figure of remaining memory may be off by: that
#: says nothing about the dirty rate.
SOFT_BYTES = 2 * MIB
LEAST_FACTOR, MOST_FACTOR = 0.05, 50.0
#: A limit must end the migration with so many times the dirtying before it is called the lowest that does.
LIMIT_MARGIN = 1.1
BISECTIONS = 8


@dataclasses.dataclass(frozen=True)
class RemainingForecast:
    """The forecast of the rest of a migration that goes on as it is.

    Attributes:
        verdict: C(converges) or C(never) where that holds with more or less dirtying too, C(marginal) otherwise.
        seconds: until the guest runs at its destination; None where it never does.
        bytes: on the wire until then; None where it never ends.
        next_bytes: what will remain after the next round.
    """

    verdict: str
    seconds: float | None
    bytes: float | None
    next_bytes: float


@dataclasses.dataclass(frozen=True)
class RecentRounds:
    """What the last rounds show of a guest.

    Attributes:
        seconds, new_bytes: the length of a round, and what was dirtied in it (means).
        dirty_factor: how many times as much that is as was measured for as long.
        page_bytes_per_s: guest memory sent in a second, or None where that could not be told.
    """

    seconds: float
    new_bytes: float
    dirty_factor: float
    page_bytes_per_s: float | None = None


class Reforecast:
    """The forecast of one migration, made anew with what its rounds show.

    Args:
        working_set: C(kvmops.working_set/1) of the guest, measured.
        link: the link as it was assumed, or None when nobody knew the bandwidth.
        decision: how the guest is moved.
        guest_factor: touched memory as it was sent over as it was measured.

    Attributes:
        working_set, link, decision, guest_factor: the same.
    """

    def __init__(
        self,
        working_set: t.Mapping[str, t.Any],
        link: Link | None,
        decision: Decision,
        *,
        guest_factor: float = 1.0,
    ) -> None:
        self.working_set = working_set
        self.link = link
        self.decision = decision
        self.guest_factor = guest_factor
        known = known_of(working_set, link or Link(1e9), guest_factor=guest_factor)
        self._scenario = known.likely()
        self._curve = self._scenario.window
        self._expected: tuple[float, ...] | None = None

    def is_slow(self, bytes_per_s: float) -> bool:
        """Whether much less is sent than was assumed; any rate is news where nothing was."""
        return self.link is None or bytes_per_s < SLOW_SHARE * self.link.bandwidth_bytes_per_s

    def rate_in_words(self, bytes_per_s: float) -> str:
        """What is sent, and what was expected where anything was. With compression the CPU may be what is slow."""
        who = "link and compression give" if self.decision.method == "parallel-zstd" else "the link gives"
        given = f"{who} {mib(bytes_per_s)}/s"
        return given if self.link is None else f"{given}, {mib(self.link.bandwidth_bytes_per_s)}/s were expected"

    @property
    def forecasts_rounds(self) -> bool:
        """Whether the rounds of this method can be forecast."""
        return self.decision.method in WITH_ROUNDS

    @property
    def first_pass_bytes(self) -> float:
        """Guest memory that the first pass sends."""
        return self._scenario.touched_bytes

    def first_pass_share(self, sent_bytes: float) -> float:
        """How much of the first pass so many bytes on the wire are."""
        return sent_bytes / max(1.0, self._first_share * self.first_pass_bytes)

    def expected_left(self, iteration: int) -> float | None:
        """The bytes that were expected to remain when a round begins; None where the forecast says nothing of it."""
        if self.link is None or not self.forecasts_rounds or iteration < 2:
            return None
        if self._expected is None:
            rate = self.link.bandwidth_bytes_per_s
            first, later = self._send_rate(rate, self._first_share), self._send_rate(rate, self._later_share)
            limit_s = self.decision.downtime_ms / 1000
            run = recursion(
                self.first_pass_bytes, self._window(None), lambda rounds: later if rounds else first, limit_s
            )
            self._expected = tuple(one.left_bytes for one in run.rounds)
        return self._expected[iteration - 2] if iteration - 2 < len(self._expected) else None

    def recent(self, syncs: t.Sequence[Sync]) -> RecentRounds:
        """What some rounds show, given by the syncs that ended them."""
        new = sum(sync.new_bytes for sync in syncs)
        expected = sum(self._curve(sync.seconds) for sync in syncs)
        factor = (new + SOFT_BYTES) / (expected + SOFT_BYTES)
        return RecentRounds(
            seconds=sum(sync.seconds for sync in syncs) / len(syncs),
            new_bytes=new / len(syncs),
            dirty_factor=min(MOST_FACTOR, max(LEAST_FACTOR, factor)),
            page_bytes_per_s=_page_rate(syncs),
        )

    def at_sync(self, sync: Sync, limit_ms: int, recent: RecentRounds | None = None) -> RemainingForecast:
        """Forecast the rest from a sync on, at the rate of now and with a limit.

        Args:
            sync: of now.
            limit_ms: the downtime limit.
            recent: what the last rounds show of the guest; None: it is as it was measured.
        """
        return self._remaining(sync.left_bytes, self._send_rate_now(sync, recent), limit_ms, recent)

    def whole_s(self, bytes_per_s: float, limit_ms: int) -> float | None:
        """Seconds from the first byte to the end at another rate, by the chosen method; None: it never ends."""
        first, later = self._send_rate(bytes_per_s, self._first_share), self._send_rate(bytes_per_s, self._later_share)
        after = self.decision.after_rounds
        run = recursion(
            self.first_pass_bytes,
            self._window(None),
            lambda rounds: later if rounds else first,
            limit_ms / 1000,
            stop_after=after,
        )
        if after is None and not run.converged:
            return None
        return run.seconds + self._scenario.link.fixed_s + run.last_bytes / later.page_bytes_per_s

    def least_seconds(self, sent_bytes: float, bytes_per_s: float) -> float:
        """The least seconds that are left in the first pass, whatever is permitted.

        All touched memory has to be sent once, and what is dirtied meanwhile again.
        """
        first, later = self._send_rate(bytes_per_s, self._first_share), self._send_rate(bytes_per_s, self._later_share)
        again = self._curve(self.first_pass_bytes / first.page_bytes_per_s)
        return max(0.0, self.first_pass_bytes / first.page_bytes_per_s - sent_bytes / bytes_per_s) + (
            again / later.page_bytes_per_s
        )

    def lowest_limit_ms(self, sync: Sync, above_ms: int, recent: RecentRounds) -> int | None:
        """The lowest limit above one that surely ends it, as far as the intent permits; None: none does."""
        send_rate = self._send_rate_now(sync, recent)

        def ends(limit_ms: float) -> bool:
            return self._run(sync.left_bytes, send_rate, limit_ms, self._window(recent, LIMIT_MARGIN)).converged

        low, high = float(above_ms), float(self.highest_limit_ms())
        if high <= low or not ends(high):
            return None
        for dummy in range(BISECTIONS):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if ends(middle) else (middle, high)
        return int(high + 1)

    def highest_limit_ms(self) -> int:
        """The highest limit that keeps the downtime below what the intent permits: QEMU spends all of it, and more."""
        return int(limit_for(self._scenario.link, self.decision.downtime_cap_ms / 1000) * 1000)

    def _remaining(
        self, left_bytes: float, send_rate: SendRate, limit_ms: float, recent: RecentRounds | None
    ) -> RemainingForecast:
        run = self._run(left_bytes, send_rate, limit_ms, self._window(recent))
        after = run.rounds[0].left_bytes
        if not run.converged:
            may_end = self._run(left_bytes, send_rate, limit_ms, self._window(recent, EDGE_BELOW)).converged
            return RemainingForecast("marginal" if may_end else "never", None, None, after)
        sure = self._run(left_bytes, send_rate, limit_ms, self._window(recent, EDGE_ABOVE)).converged
        last_s = self._scenario.link.fixed_s + run.last_bytes / send_rate.page_bytes_per_s
        count = self._scenario.wire(run.sent_bytes + run.last_bytes)
        return RemainingForecast("converges" if sure else "marginal", run.seconds + last_s, count, after)

    @staticmethod
    def _run(left_bytes: float, send_rate: SendRate, limit_ms: float, window: Window) -> Run:
        return recursion(left_bytes, window, lambda dummy: send_rate, limit_ms / 1000)

    def _window(self, recent: RecentRounds | None, factor: float = 1.0) -> Window:
        """W(t) with so many times the dirtying."""
        dirty_factor = recent.dirty_factor if recent else 1.0

        def window(window_s: float) -> float:
            shown = self._shown(recent, window_s) if recent else 0.0
            return min(self._scenario.memory_bytes, factor * max(dirty_factor * self._curve(window_s), shown))

        return window

    @staticmethod
    def _shown(recent: RecentRounds, window_s: float) -> float:
        """The least that a concave W can be after what the last rounds show."""
        return recent.new_bytes * min(1.0, window_s / recent.seconds) if recent.seconds > 0 else 0.0

    def _send_rate(self, bytes_per_s: float, share: float = 1.0) -> SendRate:
        """Pages at a rate on the wire, of which so large a share ends up there."""
        link = dataclasses.replace(self._scenario.link, bandwidth_bytes_per_s=bytes_per_s)
        return dataclasses.replace(self._scenario, link=link).send_rate(share)

    def _send_rate_now(self, sync: Sync, recent: RecentRounds | None) -> SendRate:
        """Pages in the rounds to come. How well and how fast they compress, the last rounds show best."""
        if self.decision.method != "parallel-zstd":
            return self._send_rate(sync.bytes_per_s)
        if recent and recent.page_bytes_per_s:
            return SendRate(recent.page_bytes_per_s, sync.bytes_per_s)
        return self._send_rate(sync.bytes_per_s, self._later_share)

    @property
    def _later_share(self) -> float:
        return self._scenario.hot_share if self.decision.method == "parallel-zstd" else 1.0

    @property
    def _first_share(self) -> float:
        return self._scenario.compressed_share if self.decision.method == "parallel-zstd" else 1.0


def _page_rate(syncs: t.Sequence[Sync]) -> float | None:
    known = [(sync.page_bytes, sync.seconds) for sync in syncs if sync.page_bytes is not None]
    seconds = sum(one[1] for one in known)
    return sum(one[0] for one in known) / seconds if seconds > 0 else None


def reforecast_of(
    working_set: t.Mapping[str, t.Any], link: Link | None, decision: Decision, *, guest_factor: float = 1.0
) -> Reforecast | None:
    """The reforecast of a migration, or None where nobody measured the guest, so that nothing can be forecast."""
    if not working_set["points"]:
        return None
    return Reforecast(working_set, link, decision, guest_factor=guest_factor)
