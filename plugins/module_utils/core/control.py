# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What to do about a migration while it runs: a state machine fed with samples, without a clock of its own."""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy import Decision

#: A round that leaves at least this share of the least that any round left has gained nothing worth its time. It is
#: held against the best round and not the last one, because a guest that swings between more and less (measured: 216
#: rounds) would otherwise seem to gain in every other round, for ever.
STUCK_SHARE = 0.95
#: So many rounds without gain call for more downtime. Two, because a single one may be a burst of the guest.
ROUNDS_TO_RAISE = 2
#: What is left swings from round to round; measured, a forced switchover took 0.86 to 0.98 of what this asks for.
RAISE_MARGIN = 1.25
#: At the highest permitted downtime, so many rounds and seconds without gain mean that pre-copy will not end.
ROUNDS_TO_GIVE_UP = 6
SECONDS_TO_GIVE_UP = 5.0
#: Statistics that stand still for so long mean a dead link. libvirt itself notices after 30 s.
SILENCE_S = 5.0
#: What libvirt has refused so often is not asked for any more.
ATTEMPTS = 3
MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Sample:
    """Job statistics at one moment.

    Attributes:
        at_s: seconds since the job was started.
        iteration: number of the round (0 before the first).
        remaining_bytes: still to be sent.
        processed_bytes: sent so far.
        bytes_per_s: rate as the hypervisor sees it, 0 when unknown.
        disk_remaining_bytes: still to be mirrored, 0 when there is none.
    """

    at_s: float
    iteration: int
    remaining_bytes: int
    processed_bytes: int
    bytes_per_s: int
    disk_remaining_bytes: int = 0


@dataclasses.dataclass(frozen=True)
class Reaction:
    """What the job must do now.

    Attributes:
        action: C(raise_downtime), C(start_postcopy), C(suspend), C(abort) or C(report).
        reason: why, in one sentence.
        downtime_ms: the new limit, for C(raise_downtime).
        code: stable name of why it was given up, for C(abort).
        remedy: what the operator can do, for C(abort).
    """

    action: str
    reason: str
    downtime_ms: int = 0
    code: str = ""
    remedy: str = ""


class Control:
    """Decides from samples whether a migration goes on as it is.

    Feed it with every sample, in order. It answers with a reaction or None, and expects the reaction to be carried out.
    """

    def __init__(self, decision: Decision) -> None:
        self._decision = decision
        self._limit_ms = decision.downtime_ms
        self._iteration = 0
        self._least_left: int | None = None
        self._stuck_rounds = 0
        self._stuck_since_s = 0.0
        self._last_processed = -1
        self._last_change_s = 0.0
        self._silence_reported = False
        self._finishing = False
        self._failures = {"raise_downtime": 0, "start_postcopy": 0, "suspend": 0, "abort": 0}

    @property
    def limit_ms(self) -> int:
        """The downtime limit in force."""
        return self._limit_ms

    def react(self, sample: Sample) -> Reaction | None:
        """Look at one sample and say what must be done, if anything."""
        if self._past_deadline(sample):
            return self._give_up(
                "deadline",
                f"the deadline of {self._decision.deadline_s} s has passed",
                "give it more time with deadline_s, more bandwidth, or permit post-copy with allow_postcopy",
            )
        silence = self._silence(sample)
        if silence:
            return silence
        if sample.iteration > self._iteration:
            return self._on_round(sample)
        return None

    def not_done(self, reaction: Reaction) -> None:
        """The reaction could not be carried out; it is wanted again, and after some attempts the next one instead."""
        if reaction.action not in self._failures:
            return
        self._failures[reaction.action] += 1
        if reaction.action != "raise_downtime":
            self._finishing = False
        elif self._possible("raise_downtime"):
            self._limit_ms = self._decision.downtime_ms

    def _possible(self, action: str) -> bool:
        return self._failures[action] < ATTEMPTS

    def _past_deadline(self, sample: Sample) -> bool:
        deadline = self._decision.deadline_s
        # After the switch to post-copy there is no way back: aborting would lose the guest.
        return deadline is not None and sample.at_s >= deadline and not self._finishing

    def _silence(self, sample: Sample) -> Reaction | None:
        moved = sample.processed_bytes + sample.disk_remaining_bytes
        if moved != self._last_processed:
            self._last_processed = moved
            self._last_change_s = sample.at_s
            self._silence_reported = False
            return None
        quiet_s = sample.at_s - self._last_change_s
        if quiet_s < SILENCE_S or self._silence_reported or sample.iteration == 0:
            return None
        self._silence_reported = True
        return Reaction("report", f"nothing has moved for {quiet_s:.0f} s: is the link up?")

    def _on_round(self, sample: Sample) -> Reaction | None:
        self._iteration = sample.iteration
        # The first pass sends all memory; only from the second sync on can two rounds be compared.
        if sample.iteration < 2:
            return None
        if self._least_left is None or sample.remaining_bytes < STUCK_SHARE * self._least_left:
            self._least_left = sample.remaining_bytes
            self._stuck_rounds = 0
            return None
        if self._stuck_rounds == 0:
            self._stuck_since_s = sample.at_s
        self._stuck_rounds += 1
        return self._unstick(sample)

    def _unstick(self, sample: Sample) -> Reaction | None:
        if self._finishing:
            return None
        if self._limit_ms < self._decision.downtime_cap_ms:
            if self._stuck_rounds < ROUNDS_TO_RAISE:
                return None
            self._stuck_rounds = 0
            return self._raise(sample)
        waited = sample.at_s - self._stuck_since_s
        if self._stuck_rounds < ROUNDS_TO_GIVE_UP or waited < SECONDS_TO_GIVE_UP:
            return None
        return self._last_resort(sample)

    def _raise(self, sample: Sample) -> Reaction:
        """Permit as much downtime as what is left needs, and no more: QEMU spends what it is given."""
        cap, needed_ms = self._decision.downtime_cap_ms, downtime_for(sample.remaining_bytes, sample.bytes_per_s)
        wanted_ms = cap if needed_ms is None else max(2 * self._limit_ms, int(needed_ms * RAISE_MARGIN))
        self._limit_ms = min(cap, wanted_ms)
        up_to = f"what the intent permits, {cap} ms" if self._limit_ms == cap else f"{self._limit_ms} ms"
        return Reaction(
            "raise_downtime",
            f"{mib(sample.remaining_bytes)} are left round after round; the downtime limit goes up to {up_to}",
            downtime_ms=self._limit_ms,
        )

    def _last_resort(self, sample: Sample) -> Reaction:
        left = f"{mib(sample.remaining_bytes)} are dirtied again in every round"
        if self._decision.postcopy and self._possible("start_postcopy"):
            self._finishing = True
            return Reaction("start_postcopy", f"{left}; switching to post-copy")
        if self._decision.suspend and self._possible("suspend"):
            self._finishing = True
            return Reaction("suspend", f"{left}; the guest is stopped to finish, as permitted")
        return self._give_up("does_not_converge", left + self._needed(sample), self._remedy(sample))

    def _needed(self, sample: Sample) -> str:
        needed_ms = downtime_for(sample.remaining_bytes, sample.bytes_per_s)
        if needed_ms is None:
            return ""
        return (
            f": at {mib(sample.bytes_per_s)}/s it would be down for about {needed_ms} ms, and the intent permits"
            f" {self._decision.downtime_cap_ms} ms"
        )

    def _remedy(self, sample: Sample) -> str:
        needed_ms = downtime_for(sample.remaining_bytes, sample.bytes_per_s)
        longer = f"max_downtime_ms of at least {needed_ms * 5 // 4}" if needed_ms else "a longer max_downtime_ms"
        return f"permit allow_postcopy, allow_suspend or {longer}, or give it a faster link"

    def _give_up(self, code: str, reason: str, remedy: str) -> Reaction:
        self._finishing = True
        return Reaction("abort", reason, code=code, remedy=remedy)


def downtime_for(left_bytes: int, bytes_per_s: int) -> int | None:
    """Milliseconds to send what is left with the guest stopped, or None when the rate is unknown.

    >>> downtime_for(64 * 1024 * 1024, 23_900_000)
    2807
    """
    return left_bytes * 1000 // bytes_per_s if bytes_per_s > 0 else None


def mib(count: int) -> str:
    """Bytes in words.

    >>> mib(67108864)
    '64.0 MiB'
    """
    return f"{count / MIB:.1f} MiB"


def percent_done(sample: Sample, total_bytes: int) -> int:
    """How much of the first pass, or of the move as a whole, is done; never 100 before the end.

    Later rounds send pages again, so what is sent says little: what remains of all memory does.
    """
    if total_bytes <= 0:
        return 0
    done = 100 * (total_bytes - sample.remaining_bytes) // total_bytes
    return max(0, min(99, done))


def seconds_left(sample: Sample) -> int | None:
    """Seconds until this round ends at the rate of now, or None when the rate is unknown."""
    if sample.bytes_per_s <= 0:
        return None
    return int((sample.remaining_bytes + sample.disk_remaining_bytes) / sample.bytes_per_s + 0.5)
