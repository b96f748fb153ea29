# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What to do about a migration while it runs: a state machine fed with samples, without a clock of its own."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.convergence import (
    OF_THROTTLE,
    OF_XBZRLE,
    ConvergenceByForecast,
    ConvergenceByRounds,
    Judgement,
    Patience,
    forced_ms,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.deviation import Deviations
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reforecast import Reforecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Rounds, Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample, downtime_for, mib
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.throughput import Throughput
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.xbzrle_check import XbzrleCheck
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.rate_rule import next_rate_mib_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds

#: Statistics that stand still for so long mean a dead link. libvirt itself notices after 30 s, where it notices.
SILENCE_S = 5.0
#: After this a dead link is given up, unless a deadline says how long to wait.
HOPELESS_S = 90.0
#: Before the first byte of memory, a destination may have huge pages to clear or images to make, which takes its time.
SET_UP_SILENCE_S = 60.0
SET_UP_HOPELESS_S = 1800.0
#: A guest that stands still goes on where it was, after so long, where the link gives less than this share of before.
TRICKLE_SHARE = 0.1
#: What libvirt has refused so often is not asked for any more.
ATTEMPTS = 3
#: While so much of the first pass has been sent, the link is known and a new start costs less than the wrong method.
EARLY_SHARES = (0.1, 0.3)
#: A link that is too slow for anything gets a little longer to become faster.
HOPELESS_SHARES = (0.25, 0.5)
#: A forecast must miss the deadline by this factor before the move is given up for it.
SURELY_LATE = 1.25
#: A round is cheap to wait for where it sends so small a share of all that was sent; it pays where it leaves so little.
CHEAP_SHARE = 0.05
GAIN_SHARE = 0.6
#: Where the guest stands still for what is left, more is worth waiting for.
CHEAP_SHARE_STILL = 0.25
GAIN_SHARE_STILL = 0.8
WAITS = 2
#: What is left is next to nothing where it is so small a share of what the limit permits: it is over.
OVER_SHARE = 0.1
OVER_SYNCS = 10
#: A guest of which so much less remains than was forecast has become calmer.
CALMER_SHARE = 0.67
#: A rate that differs by less than this share is no other rate.
SPEED_STEP = 0.1


class Control:
    """Decides from samples whether a migration goes on as it is.

    Feed it with every sample, in order. It answers with a reaction or None, and expects the reaction to be carried out.

    Args:
        decision: how the guest is moved, and what is permitted.
        reforecast: the forecast to be made anew in flight; None: judge by what the rounds show alone.
        may_restart: whether a move that began with the wrong method may be given up early to begin anew.
        rate_rule: floor and ceiling in MiB/s, to send each round no faster than the guest's dirty rate asks for.
    """

    def __init__(
        self,
        decision: Decision,
        reforecast: Reforecast | None = None,
        *,
        may_restart: bool = True,
        rate_rule: tuple[int, int] | None = None,
    ) -> None:
        self._decision = decision
        self._reforecast = reforecast
        self._may_restart = may_restart
        self._may_give_up = True
        self._rate_rule = rate_rule
        self._speed_mib_s: int | None = None
        self._limit_ms = self._limit_before_ms = decision.downtime_ms
        self._rate = Throughput()
        self._rounds = Rounds()
        self._judge = (
            ConvergenceByForecast(reforecast)
            if reforecast and reforecast.plays
            else ConvergenceByRounds(_patience(decision.method))
        )
        self._departures = Deviations(reforecast) if reforecast and not rate_rule else None
        self._waits = 0
        self._over_syncs = 0
        self._last_processed = -1
        self._last_change_s = 0.0
        self._silence_reported = False
        #: what ends it, once that has been wanted: C(start_postcopy), C(suspend) or C(abort); and before the abort
        self._ending = self._ending_before = ""
        #: wanted next, whatever comes
        self._pending: Reaction | None = None
        self._now = Sample(0.0, 0, 0, 0, 0)
        #: since when the guest stands still, and the rate until then
        self._still_since = self._now
        self._rate_before = 0.0
        self._acted = False
        self._whole_pages = XbzrleCheck() if decision.method == "xbzrle" else None
        self._last_sync: Sync | None = None
        self._failures = {"raise_downtime": 0, "start_postcopy": 0, "suspend": 0, "abort": 0, "change_speed": 0}

    @property
    def limit_ms(self) -> int:
        """The downtime limit in force."""
        return self._limit_ms

    def react(self, sample: Sample) -> Reaction | None:
        """Look at one sample and say what must be done, if anything."""
        self._now = sample
        self._rate.add(sample)
        sync = self._rounds.add(sample, self._rate.bytes_per_s, self._limit_ms)
        if self._past_deadline(sample):
            return self._give_up(
                "deadline",
                f"the deadline of {self._decision.deadline_s} s has passed",
                "give it more time with deadline_s, more bandwidth, or permit post-copy with allow_postcopy",
            )
        silence = self._silence(sample)
        if silence or self._ending:
            return silence or self._standing_still(sample)
        if sync:
            return self._on_sync(sync, sample)
        return self._within(sample)

    def not_done(self, reaction: Reaction) -> None:
        """The reaction could not be carried out; it is wanted again, and after some attempts the next one instead."""
        if reaction.action not in self._failures:
            return
        self._failures[reaction.action] += 1
        if reaction.action == "change_speed":
            self._speed_mib_s = None
        elif reaction.action == "abort":
            self._ending = self._ending_before
        elif reaction.action != "raise_downtime":
            self._ending = ""
        elif self._possible("raise_downtime"):
            self._limit_ms = self._limit_before_ms
            self._acted = False

    def _possible(self, action: str) -> bool:
        return self._failures[action] < ATTEMPTS

    # --- time ---

    def _past_deadline(self, sample: Sample) -> bool:
        deadline = self._decision.deadline_s
        # After the switch to post-copy there is no way back: aborting would lose the guest. One that was only stopped
        # goes on where it was.
        return deadline is not None and sample.at_s >= deadline and self._ending in ("", "suspend")

    def _time_left(self, at_s: float) -> float | None:
        return None if self._decision.deadline_s is None else self._decision.deadline_s - at_s

    def _silence(self, sample: Sample) -> Reaction | None:
        moved = sample.processed_bytes + sample.disk_remaining_bytes
        if moved != self._last_processed:
            self._last_processed = moved
            self._last_change_s = sample.at_s
            self._silence_reported = False
            return None
        quiet_s = sample.at_s - self._last_change_s
        if sample.iteration == 0:
            return self._silence_before(quiet_s)
        if quiet_s < SILENCE_S:
            return None
        if self._is_hopeless(quiet_s, HOPELESS_S):
            return self._give_up(
                "no_progress",
                f"nothing has moved for {quiet_s:.0f} s",
                "mend the link between the two hosts, then run it again; the guest runs on where it was",
            )
        return self._report_silence(f"nothing has moved for {quiet_s:.0f} s: is the link up?")

    def _silence_before(self, quiet_s: float) -> Reaction | None:
        """Silence before memory flows: both hosts get ready, or a disk is being copied."""
        if quiet_s < SET_UP_SILENCE_S:
            return None
        if self._is_hopeless(quiet_s, SET_UP_HOPELESS_S):
            return self._give_up(
                "no_progress",
                f"nothing has moved for {quiet_s:.0f} s, and no memory has been sent yet",
                "see what libvirt at the destination is busy with, and mend the link between the two hosts; the guest"
                " runs on where it was",
            )
        return self._report_silence(
            f"nothing has moved for {quiet_s:.0f} s, and no memory has been sent yet: is the destination busy, or the"
            " link down?"
        )

    def _report_silence(self, text: str) -> Reaction | None:
        if self._silence_reported:
            return None
        self._silence_reported = True
        return Reaction("report", text)

    def _is_hopeless(self, quiet_s: float, patience_s: float) -> bool:
        """Whether a dead link is no longer waited for. A guest that stands still does not wait for the deadline."""
        if quiet_s < patience_s or self._ending not in ("", "suspend"):
            return False
        return self._ending == "suspend" or self._decision.deadline_s is None

    def _standing_still(self, sample: Sample) -> Reaction | None:
        """Stop a guest that is to be stopped, and let it go on where it was if its link has all but died since.

        All that it waits for is sent once, so a rate that is borne here has an end.
        """
        if self._ending != "suspend":
            return None
        if self._pending:
            return self._stop(self._pending)
        seconds = sample.at_s - self._still_since.at_s
        sent = sample.processed_bytes - self._still_since.processed_bytes
        # Of zero pages, next to nothing is sent.
        gone = max(sent, self._still_since.remaining_bytes - sample.remaining_bytes)
        if seconds < HOPELESS_S or gone >= TRICKLE_SHARE * self._rate_before * seconds:
            return None
        return self._give_up(
            "no_progress",
            f"in the {seconds:.0f} s since the guest was stopped to finish the link gave {mib(sent / seconds)}/s, and"
            f" {mib(self._rate_before)}/s before",
            "mend the link between the two hosts, then run it again; the guest runs on where it was",
        )

    # --- between syncs ---

    def _within(self, sample: Sample) -> Reaction | None:
        if self._rate_rule and self._speed_mib_s is None and self._possible("change_speed"):
            return self._change_speed(self._rate_rule[0], "the first round goes at the floor,")
        if self._whole_pages and self._whole_pages.are_most(sample):
            return self._without_xbzrle(sample)
        link_rate = self._rate.link_bytes_per_s
        if sample.iteration > 1 or link_rate is None or not self._reforecast or self._rate_rule:
            return None
        return self._too_slow(sample, link_rate) or self._departed_link(sample, link_rate)

    def _too_slow(self, sample: Sample, link_rate: float) -> Reaction | None:
        """In the first pass the link shows whether method and deadline can be kept at all."""
        reforecast = self._reforecast
        if reforecast is None:
            return None
        seconds_left = self._time_left(sample.at_s)
        needed_s = reforecast.least_seconds(sample.processed_bytes, link_rate)
        if seconds_left is not None and needed_s > SURELY_LATE * seconds_left:
            return self._late(needed_s, seconds_left, link_rate)
        sent_share = reforecast.first_pass_share(sample.processed_bytes)
        if self._may_restart and EARLY_SHARES[0] <= sent_share <= EARLY_SHARES[1] and reforecast.is_slow(link_rate):
            self._may_restart = False
            return self._with_another_method(reforecast, link_rate, seconds_left)
        if (
            self._may_give_up
            and HOPELESS_SHARES[0] <= sent_share <= HOPELESS_SHARES[1]
            and reforecast.is_slow(link_rate)
        ):
            self._may_give_up = False
            return self._hopeless(reforecast, link_rate, seconds_left)
        return None

    def _with_another_method(
        self, reforecast: Reforecast, link_rate: float, seconds_left: float | None
    ) -> Reaction | None:
        better = reforecast.ways(link_rate, seconds_left).better
        if better is None:
            return None
        return self._give_up(
            "wrong_method",
            f"{reforecast.rate_in_words(link_rate)}: {self._decision.method} cannot keep the intent over it,"
            f" {better} can",
            f"start it again: what the link gives is known now; without {better}, give it a faster link",
        )

    def _hopeless(self, reforecast: Reforecast, link_rate: float, seconds_left: float | None) -> Reaction | None:
        ways = reforecast.ways(link_rate, seconds_left)
        if ways.kept or ways.better:
            return None
        faster = f" of {mib(ways.needed_bytes_per_s)}/s" if ways.needed_bytes_per_s else ""
        return self._give_up(
            "does_not_converge",
            f"{reforecast.rate_in_words(link_rate)}: over it, nothing that the intent permits moves this guest",
            f"permit allow_postcopy, allow_suspend or a longer max_downtime_ms, or give it a link{faster}",
        )

    def _late(self, needed_s: float, seconds_left: float, bytes_per_s: float) -> Reaction:
        return self._give_up(
            "deadline",
            f"at {mib(bytes_per_s)}/s it needs about {human_seconds(needed_s)} more, and the deadline of"
            f" {self._decision.deadline_s} s is in {human_seconds(max(0.0, seconds_left))}",
            "give it more time with deadline_s, or a faster link",
        )

    def _departed_link(self, sample: Sample, link_rate: float) -> Reaction | None:
        text = self._departures.of_link(sample, link_rate, self._limit_ms) if self._departures else None
        return Reaction("report", text) if text else None

    # --- xbzrle ---

    def _without_xbzrle(self, sample: Sample) -> Reaction | None:
        if self._fits(sample.remaining_bytes) or self._ends_with_whole_pages():
            return None
        why = "xbzrle has to send pages whole: they change all over, or its cache does not hold them"
        return self._resort(why, sample.remaining_bytes)

    def _ends_with_whole_pages(self) -> bool:
        if self._reforecast is None or self._last_sync is None or self._last_sync.bytes_per_s <= 0:
            return False
        return self._reforecast.at_sync(self._last_sync, self._limit_ms).verdict == "converges"

    # --- at a sync ---

    def _on_sync(self, sync: Sync, sample: Sample) -> Reaction | None:
        self._last_sync = sync
        if self._whole_pages and self._whole_pages.are_most(sample):
            return self._without_xbzrle(sample)
        if self._is_over(sync):
            return None
        judgement = self._judge.at(sync, self._limit_ms, self._decision.limit_cap_ms)
        if self._fits(sync.left_bytes):
            # It ends by itself; but where it does not, round after round, it is not waited for.
            return self._follow(judgement, sync)
        return (
            self._as_planned(sync)
            or self._by_the_clock(sync)
            or self._follow(judgement, sync)
            or self._next_speed(sync)
            or self._departed_guest(sync)
        )

    def _is_over(self, sync: Sync) -> bool:
        """Whether next to nothing is left; QEMU counts some such rounds at the end, but not for ever."""
        if not self._fits(sync.left_bytes / OVER_SHARE):
            return False
        self._over_syncs += 1
        return self._over_syncs <= OVER_SYNCS

    def _fits(self, left_bytes: float) -> bool:
        """Whether QEMU ends it by itself at the limit in force."""
        rate = self._rate.bytes_per_s
        return rate > 0 and left_bytes <= rate * self._limit_ms / 1000

    def _as_planned(self, sync: Sync) -> Reaction | None:
        """What the method is named after, once it is time."""
        after = self._decision.after_rounds
        if after is None or self._acted or sync.iteration <= after or self._is_calmer(sync) or self._pays_to_wait(sync):
            return None
        left = f"{mib(sync.left_bytes)} are left after {_rounds_in_words(sync.iteration - 1)}"
        method = self._decision.method
        if method == "raise-downtime" and self._possible("raise_downtime"):
            limit_ms = forced_ms(sync, self._decision.limit_cap_ms)
            if limit_ms is None or limit_ms <= self._limit_ms:
                return None
            self._acted = True
            return self._raise(limit_ms, f"{left}; as planned, the downtime limit goes up to {limit_ms} ms")
        if method == "post-copy" and self._can_postcopy():
            return self._start_postcopy(f"{left}; switching to post-copy, as planned")
        if method == "suspend" and self._can_suspend():
            return self._suspend(f"{left}; the guest is stopped to finish, as planned")
        return None

    def _is_planned(self, sync: Sync) -> bool:
        """Whether the method has its moment still before it."""
        after = self._decision.after_rounds
        return after is not None and not self._acted and sync.iteration <= after

    def _is_calmer(self, sync: Sync) -> bool:
        """Whether the guest has become so calm that it surely ends by itself."""
        prospect = self._judge.prospect if isinstance(self._judge, ConvergenceByForecast) else None
        expected = self._reforecast.expected_left(sync.iteration) if self._reforecast else None
        if prospect is None or prospect.verdict != "converges" or expected is None:
            return False
        return sync.left_bytes < CALMER_SHARE * expected

    def _pays_to_wait(self, sync: Sync) -> bool:
        """Whether one more round costs little and leaves much less."""
        prospect = self._judge.prospect if isinstance(self._judge, ConvergenceByForecast) else None
        if prospect is None or self._waits >= WAITS:
            return False
        still = not self._can_postcopy() and self._can_suspend()
        cheap, gain = (CHEAP_SHARE_STILL, GAIN_SHARE_STILL) if still else (CHEAP_SHARE, GAIN_SHARE)
        pays = prospect.next_bytes <= gain * sync.left_bytes and sync.left_bytes <= cheap * sync.sent_bytes
        self._waits += 1 if pays else 0
        return pays

    def _by_the_clock(self, sync: Sync) -> Reaction | None:
        """A move that would end too late ends now by what is permitted, or is given up before it costs more."""
        prospect = self._judge.prospect if isinstance(self._judge, ConvergenceByForecast) else None
        seconds_left = self._time_left(sync.at_s)
        if prospect is None or seconds_left is None or prospect.seconds is None or prospect.seconds <= seconds_left:
            return None
        limit_ms = forced_ms(sync, self._decision.limit_cap_ms)
        late = f"it would take about {human_seconds(prospect.seconds)} more, and the deadline is nearer than that"
        if limit_ms is not None and limit_ms > self._limit_ms and self._possible("raise_downtime"):
            return self._raise(limit_ms, f"{late}; the downtime limit goes up to {limit_ms} ms")
        if self._can_postcopy():
            return self._start_postcopy(f"{late}; switching to post-copy")
        if self._can_suspend() and (self._may_go_faster() or sync.left_bytes <= seconds_left * sync.bytes_per_s):
            return self._suspend(f"{late}; the guest is stopped to finish, as permitted")
        # A marginal guest's seconds are a guess, and only what remains now is sure.
        sure_s = prospect.seconds if prospect.verdict == "converges" else sync.left_bytes / sync.bytes_per_s
        if sure_s > SURELY_LATE * seconds_left:
            return self._late(sure_s, seconds_left, sync.bytes_per_s)
        return None

    def _follow(self, judgement: Judgement, sync: Sync) -> Reaction | None:
        if self._is_planned(sync):
            return None
        if self._may_go_faster():
            # As long as the next round may be faster, this one proves nothing; only many of them do.
            return self._at_the_ceiling() if judgement.wants != "nothing" and not judgement.foreseen else None
        if judgement.wants == "raise" and self._limit_ms < self._decision.limit_cap_ms:
            limit_ms = min(judgement.raise_to_ms, self._decision.limit_cap_ms)
            return self._raise(limit_ms, f"{_left_in_words(judgement, sync)}; {self._raise_in_words(limit_ms)}")
        if judgement.wants == "resort":
            if self._pays_to_wait(sync):
                return None
            return self._resort(_left_in_words(judgement, sync), sync.left_bytes)
        return None

    def _raise_in_words(self, limit_ms: int) -> str:
        at_most = limit_ms == self._decision.limit_cap_ms
        up_to = f"what the intent permits, {limit_ms} ms" if at_most else f"{limit_ms} ms"
        down_ms = self._downtime_ms(limit_ms)
        uncapped = "" if down_ms == limit_ms else f" (down for {down_ms} ms, as the last copy is not capped)"
        return f"the downtime limit goes up to {up_to}{uncapped}"

    def _downtime_ms(self, limit_ms: int) -> int:
        """The downtime that a limit stands for."""
        return limit_ms * self._decision.downtime_cap_ms // self._decision.limit_cap_ms

    def _may_go_faster(self) -> bool:
        return bool(self._rate_rule and self._speed_mib_s and self._speed_mib_s < self._rate_rule[1])

    def _at_the_ceiling(self) -> Reaction | None:
        """From here on the rate stays at its ceiling, and it is judged as any other move."""
        if not self._rate_rule or not self._possible("change_speed"):
            return None
        ceiling, self._rate_rule = self._rate_rule[1], None
        return self._change_speed(ceiling, "no more is gained round after round; from here on it goes at the ceiling,")

    def _next_speed(self, sync: Sync) -> Reaction | None:
        if not self._rate_rule or not self._possible("change_speed"):
            return None
        floor, ceiling = self._rate_rule
        wanted = next_rate_mib_s(sync.new_bytes, sync.seconds, floor, ceiling)
        if self._speed_mib_s and abs(wanted - self._speed_mib_s) < SPEED_STEP * self._speed_mib_s:
            return None
        dirtied = f"{mib(sync.new_bytes)} were dirtied in {human_seconds(sync.seconds)}"
        return self._change_speed(wanted, f"{dirtied}; the next round goes at")

    def _departed_guest(self, sync: Sync) -> Reaction | None:
        prospect = self._judge.prospect if isinstance(self._judge, ConvergenceByForecast) else None
        if self._departures is None or prospect is None:
            return None
        text = self._departures.of_guest(sync, prospect)
        return Reaction("report", text) if text else None

    # --- reactions ---

    def _raise(self, limit_ms: int, reason: str) -> Reaction:
        self._limit_before_ms, self._limit_ms = self._limit_ms, limit_ms
        return Reaction("raise_downtime", reason, downtime_ms=limit_ms)

    def _change_speed(self, mib_s: int, reason: str) -> Reaction:
        self._speed_mib_s = mib_s
        return Reaction("change_speed", f"{reason} {mib_s} MiB/s", speed_mib_s=mib_s)

    def _can_postcopy(self) -> bool:
        return self._decision.postcopy and self._possible("start_postcopy")

    def _can_suspend(self) -> bool:
        return self._decision.suspend and self._possible("suspend")

    def _start_postcopy(self, reason: str) -> Reaction:
        self._ending = "start_postcopy"
        return Reaction("start_postcopy", reason)

    def _suspend(self, reason: str) -> Reaction:
        """Stop the guest to finish. From then on it waits, so the link is not spared any longer."""
        self._ending = "suspend"
        stop = Reaction("suspend", reason)
        rule, self._rate_rule = self._rate_rule, None
        if rule and self._speed_mib_s != rule[1] and self._possible("change_speed"):
            self._pending = stop
            return self._change_speed(rule[1], "before the guest is stopped to finish, it goes at the ceiling,")
        return self._stop(stop)

    def _stop(self, stop: Reaction) -> Reaction:
        self._pending, self._still_since = None, self._now
        self._rate_before = self._rate.bytes_per_s or self._now.processed_bytes / max(1.0, self._now.at_s)
        return stop

    def _resort(self, why: str, left_bytes: int) -> Reaction:
        """The mildest that is permitted beside waiting."""
        if self._can_postcopy():
            return self._start_postcopy(f"{why}; switching to post-copy")
        if self._can_suspend():
            return self._suspend(f"{why}; the guest is stopped to finish, as permitted")
        needed_ms = downtime_for(left_bytes, self._rate.bytes_per_s)
        down = ""
        if needed_ms is not None:
            last_rate = self._rate.bytes_per_s * self._decision.limit_cap_ms / self._decision.downtime_cap_ms
            needed_ms = self._downtime_ms(needed_ms)
            down = (
                f": at {mib(last_rate)}/s it would be down for about {needed_ms} ms, and the intent"
                f" permits {self._decision.downtime_cap_ms} ms"
            )
        longer = f"max_downtime_ms of at least {needed_ms * 5 // 4}" if needed_ms else "a longer max_downtime_ms"
        return self._give_up(
            "does_not_converge",
            why + down,
            f"permit allow_postcopy, allow_suspend or {longer}, or give it a faster link",
        )

    def _give_up(self, code: str, reason: str, remedy: str) -> Reaction:
        self._ending, self._ending_before = "abort", self._ending
        return Reaction("abort", reason, code=code, remedy=remedy)


def _patience(method: str) -> Patience:
    return {"xbzrle": OF_XBZRLE, "throttle": OF_THROTTLE}.get(method, Patience())


def _left_in_words(judgement: Judgement, sync: Sync) -> str:
    """What stands in the way."""
    if judgement.foreseen:
        gone_by = _rounds_in_words(sync.iteration - 1)
        return f"{mib(sync.left_bytes)} are left after {gone_by}, and further rounds would not end it"
    if judgement.wants == "raise":
        return f"{mib(sync.left_bytes)} are left round after round"
    return f"{mib(sync.left_bytes)} are dirtied again in every round"


def _rounds_in_words(count: int) -> str:
    """So many passes over what is dirty.

    >>> _rounds_in_words(1), _rounds_in_words(3)
    ('the first pass', '3 rounds')
    """
    return "the first pass" if count == 1 else f"{count} rounds"
