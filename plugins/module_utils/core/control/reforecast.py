# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The forecast made anew while a guest moves, from what its rounds show: will this end, when, and what would end it?

The guest's working set is taken as it was measured, but hotter or calmer by the factor that its last rounds show: what
was dirtied in them over what W(t) says for as long. And it is never less than those rounds prove, because W is concave:
who dirtied so much in a round dirties at least the same share of it in a share of the time. So a guest that changed
after it was measured is seen in the first rounds that it spoils, whatever it has become.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import mib
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.convergence_limit import limit_for
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import forecast, known_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.precopy import Pace, Run, Window, recursion
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.scenario import EDGE_ABOVE, EDGE_BELOW
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import cache_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB

#: Methods whose rounds follow the recursion. What xbzrle and a throttle do to a round shows only afterwards.
PLAYED = ("pre-copy", "raise-downtime", "parallel-zstd", "post-copy", "suspend")
#: What no job can be switched to once it runs.
NEEDS_NEW_START = ("xbzrle", "parallel-zstd", "throttle")
#: Of the bandwidth that was assumed; a link that gives less is another one.
SLOW_SHARE = 0.75
#: What any guest's kernel dirties now and then, and what a figure of remaining memory may be off by: no sign of heat.
SOFT_BYTES = 2 * MIB
LEAST_HEAT, MOST_HEAT = 0.05, 50.0
#: A limit must end it with so much more dirtying before it is called the lowest that does.
LIMIT_ROOM = 1.1
HALVINGS = 8


@dataclasses.dataclass(frozen=True)
class Prospect:
    """What becomes of a move that goes on as it is.

    Attributes:
        verdict: C(converges) or C(never) where that holds at the edge too, C(marginal) otherwise.
        seconds: until the guest runs at its destination; None where it never does.
        bytes: on the wire until then; None where it never ends.
        next_bytes: what will remain after the next round.
    """

    verdict: str
    seconds: float | None
    bytes: float | None
    next_bytes: float


@dataclasses.dataclass(frozen=True)
class Recent:
    """What the last rounds show of a guest.

    Attributes:
        seconds, new_bytes: the length of a round, and what was dirtied in it (means).
        heat: how much more that is than was measured for as long.
        page_bytes_per_s: guest memory sent in a second, or None where that could not be told.
    """

    seconds: float
    new_bytes: float
    heat: float
    page_bytes_per_s: float | None = None


@dataclasses.dataclass(frozen=True)
class Ways:
    """What would move the guest over a link of another rate.

    Attributes:
        kept: whether the chosen method, or what can be switched to in flight, keeps the intent.
        better: a method that surely does where those do not, but needs a new start; None where there is none.
        needed_bytes_per_s: the bandwidth at which pre-copy would; None where none in reason.
    """

    kept: bool
    better: str | None
    needed_bytes_per_s: float | None


class Reforecast:
    """A guest's prospects on its way.

    Args:
        working_set: C(kvmops.working_set/1) of the guest, measured.
        link: the way as it was assumed, or None when nobody knew the bandwidth.
        decision: how it is moved.
        guest_factor: touched memory as it was sent over as it was measured.
    """

    def __init__(
        self,
        working_set: t.Mapping[str, t.Any],
        link: Link | None,
        decision: Decision,
        *,
        guest_factor: float = 1.0,
    ) -> None:
        self._working_set = working_set
        self._link = link
        self._decision = decision
        self._guest_factor = guest_factor
        known = known_of(working_set, link or Link(1e9), guest_factor=guest_factor)
        self._scenario = known.likely()
        self._curve = self._scenario.window
        self._expected: tuple[float, ...] | None = None

    @property
    def has_link(self) -> bool:
        """Whether anybody knew the bandwidth."""
        return self._link is not None

    def is_slow(self, bytes_per_s: float) -> bool:
        """Whether much less is sent than was assumed; any rate is news where nothing was."""
        return self._link is None or bytes_per_s < SLOW_SHARE * self._link.bandwidth_bytes_per_s

    def rate_in_words(self, bytes_per_s: float) -> str:
        """What is sent, and what was expected where anything was. With compression it may be the CPU that is slow."""
        who = "link and compression give" if self._decision.method == "parallel-zstd" else "the link gives"
        given = f"{who} {mib(bytes_per_s)}/s"
        return given if self._link is None else f"{given}, {mib(self._link.bandwidth_bytes_per_s)}/s were expected"

    @property
    def plays(self) -> bool:
        """Whether rounds of this method can be foretold."""
        return self._decision.method in PLAYED

    @property
    def first_pass_bytes(self) -> float:
        """Guest memory that the first pass sends."""
        return self._scenario.touched_bytes

    def first_pass_share(self, sent_bytes: float) -> float:
        """How much of the first pass so many bytes on the wire are."""
        return sent_bytes / max(1.0, self._first_share * self.first_pass_bytes)

    def expected_left(self, iteration: int) -> float | None:
        """What was to remain at the sync that begins a round, in bytes; None where the forecast says nothing of it."""
        if self._link is None or not self.plays or iteration < 2:
            return None
        if self._expected is None:
            rate = self._link.bandwidth_bytes_per_s
            first, later = self._pace(rate, self._first_share), self._pace(rate, self._later_share)
            limit_s = self._decision.downtime_ms / 1000
            run = recursion(
                self.first_pass_bytes, self._window(None), lambda rounds: later if rounds else first, limit_s
            )
            self._expected = tuple(one.left_bytes for one in run.rounds)
        return self._expected[iteration - 2] if iteration - 2 < len(self._expected) else None

    def recent(self, syncs: t.Sequence[Sync]) -> Recent:
        """What some rounds show, given by the syncs that ended them."""
        new = sum(sync.new_bytes for sync in syncs)
        expected = sum(self._curve(sync.seconds) for sync in syncs)
        heat = (new + SOFT_BYTES) / (expected + SOFT_BYTES)
        return Recent(
            seconds=sum(sync.seconds for sync in syncs) / len(syncs),
            new_bytes=new / len(syncs),
            heat=min(MOST_HEAT, max(LEAST_HEAT, heat)),
            page_bytes_per_s=_page_rate(syncs),
        )

    def at_sync(self, sync: Sync, limit_ms: int, recent: Recent | None = None) -> Prospect:
        """What becomes of it from a sync on, at the rate of now and with a limit; the guest as the last rounds show it,
        or as it was measured."""
        return self._prospect(sync.left_bytes, self._pace_now(sync, recent), limit_ms, recent)

    def whole_s(self, bytes_per_s: float, limit_ms: int) -> float | None:
        """How long the move takes from its first byte at another rate, by the method that was chosen; None: it never
        ends."""
        first, later = self._pace(bytes_per_s, self._first_share), self._pace(bytes_per_s, self._later_share)
        after = self._decision.after_rounds
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
        """The least time that is left in the first pass, whatever is permitted: all that is touched has to go over
        once, and what is dirtied meanwhile again."""
        first, later = self._pace(bytes_per_s, self._first_share), self._pace(bytes_per_s, self._later_share)
        again = self._curve(self.first_pass_bytes / first.page_bytes_per_s)
        return max(0.0, self.first_pass_bytes / first.page_bytes_per_s - sent_bytes / bytes_per_s) + (
            again / later.page_bytes_per_s
        )

    def lowest_limit_ms(self, sync: Sync, above_ms: int, recent: Recent) -> int | None:
        """The lowest limit that ends it with some room, above one and as far as the intent permits; None: none does."""
        pace = self._pace_now(sync, recent)

        def ends(limit_ms: float) -> bool:
            return self._run(sync.left_bytes, pace, limit_ms, self._window(recent, LIMIT_ROOM)).converged

        low, high = float(above_ms), float(self.highest_limit_ms())
        if high <= low or not ends(high):
            return None
        for dummy in range(HALVINGS):
            middle = (low * high) ** 0.5
            low, high = (low, middle) if ends(middle) else (middle, high)
        return int(high + 1)

    def highest_limit_ms(self) -> int:
        """QEMU spends all of a limit and more, so this much keeps the downtime below what the intent permits."""
        return int(limit_for(self._scenario.link, self._decision.downtime_cap_ms / 1000) * 1000)

    def ways(self, bytes_per_s: float, seconds_left: float | None) -> Ways:
        """What would keep the intent over a link of such a rate, for a guest as it was measured."""
        link = dataclasses.replace(self._link or Link(bytes_per_s), bandwidth_bytes_per_s=bytes_per_s)
        document = forecast(
            self._working_set,
            link,
            cap_ms=self._decision.downtime_cap_ms,
            limit_ms=self._decision.downtime_ms,
            chosen=(*self._armed(), *self._fallbacks()),
            xbzrle_cache_bytes=cache_bytes(self._working_set, link, None),
            guest_factor=self._guest_factor,
        )
        outcomes = document["outcomes"]
        able = [name for name, one in outcomes.items() if _keeps(name, one, seconds_left)]
        kept = any(name in able for name in self._armed())
        surely = [name for name in able if outcomes[name]["verdict"] == "converges" and name in NEEDS_NEW_START]
        return Ways(kept, None if kept or not surely else surely[0], document["needed_bytes_per_s"])

    def _armed(self) -> tuple[str, ...]:
        """What this job can end by."""
        armed = [self._decision.method, "raise-downtime"]
        armed += ["post-copy"] if self._decision.postcopy else []
        armed += ["suspend"] if self._decision.suspend else []
        return tuple(dict.fromkeys(armed))

    def _fallbacks(self) -> tuple[str, ...]:
        choice = self._decision.choice
        if choice is None:
            return ()
        return tuple(
            name
            for name in NEEDS_NEW_START
            if name != self._decision.method and (name in choice["fallbacks"] or name not in choice["why_not"])
        )

    def _prospect(self, left_bytes: float, pace: Pace, limit_ms: float, recent: Recent | None) -> Prospect:
        run = self._run(left_bytes, pace, limit_ms, self._window(recent))
        after = run.rounds[0].left_bytes
        if not run.converged:
            hope = self._run(left_bytes, pace, limit_ms, self._window(recent, EDGE_BELOW)).converged
            return Prospect("marginal" if hope else "never", None, None, after)
        sure = self._run(left_bytes, pace, limit_ms, self._window(recent, EDGE_ABOVE)).converged
        last_s = self._scenario.link.fixed_s + run.last_bytes / pace.page_bytes_per_s
        count = self._scenario.wire(run.sent_bytes + run.last_bytes)
        return Prospect("converges" if sure else "marginal", run.seconds + last_s, count, after)

    @staticmethod
    def _run(left_bytes: float, pace: Pace, limit_ms: float, window: Window) -> Run:
        return recursion(left_bytes, window, lambda dummy: pace, limit_ms / 1000)

    def _window(self, recent: Recent | None, factor: float = 1.0) -> Window:
        """W(t) with so many times the dirtying."""
        heat = recent.heat if recent else 1.0

        def window(window_s: float) -> float:
            shown = self._shown(recent, window_s) if recent else 0.0
            return min(self._scenario.memory_bytes, factor * max(heat * self._curve(window_s), shown))

        return window

    @staticmethod
    def _shown(recent: Recent, window_s: float) -> float:
        """The least that a concave W can be after what the last rounds show."""
        return recent.new_bytes * min(1.0, window_s / recent.seconds) if recent.seconds > 0 else 0.0

    def _pace(self, bytes_per_s: float, share: float = 1.0) -> Pace:
        """Pages at a rate on the wire, of which so large a share ends up there."""
        link = dataclasses.replace(self._scenario.link, bandwidth_bytes_per_s=bytes_per_s)
        return dataclasses.replace(self._scenario, link=link).pace(share)

    def _pace_now(self, sync: Sync, recent: Recent | None) -> Pace:
        """Pages in the rounds to come. How well they compress, and how fast, shows best in those that went by."""
        if self._decision.method != "parallel-zstd":
            return self._pace(sync.bytes_per_s)
        if recent and recent.page_bytes_per_s:
            return Pace(recent.page_bytes_per_s, sync.bytes_per_s)
        return self._pace(sync.bytes_per_s, self._later_share)

    @property
    def _later_share(self) -> float:
        return self._scenario.hot_share if self._decision.method == "parallel-zstd" else 1.0

    @property
    def _first_share(self) -> float:
        return self._scenario.compressed_share if self._decision.method == "parallel-zstd" else 1.0


def _page_rate(syncs: t.Sequence[Sync]) -> float | None:
    told = [(sync.page_bytes, sync.seconds) for sync in syncs if sync.page_bytes is not None]
    seconds = sum(one[1] for one in told)
    return sum(one[0] for one in told) / seconds if seconds > 0 else None


def _keeps(name: str, outcome: t.Mapping[str, t.Any], seconds_left: float | None) -> bool:
    """Whether a method may keep the intent. A guest that may be stopped may be so for as long as that takes."""
    seconds = outcome["total_s"]["value"]
    if seconds is None or (outcome["verdict"] == "never" and name != "suspend"):
        return False
    return seconds_left is None or seconds <= seconds_left


def reforecast_of(
    working_set: t.Mapping[str, t.Any], link: Link | None, decision: Decision, *, guest_factor: float = 1.0
) -> Reforecast | None:
    """The reforecast of a move, or None where nobody measured the guest, so that nothing can be foretold."""
    if not working_set["points"]:
        return None
    return Reforecast(working_set, link, decision, guest_factor=guest_factor)
