# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The rounds of a pre-copy migration, as QEMU runs them.

The textbook says V(i+1) = W(V(i)/B), stop at V <= B*D. QEMU differs in three ways, all of which matter near the limit:

- It looks for newly dirtied pages as soon as what *remains* is below B*D, so about L = B*D is left over in every round
  and is added to the new pages: V(i+1) = L + W((V(i) - L)/B).
- It looks only after each stretch of about 50 ms (``MAX_WAIT`` in ``ram_save_iterate``, tested every 64 pages). So no
  round is shorter than a stretch, and a round ends up to a stretch below L.
- A page that is left over and dirtied again counts once. How many do follows from W itself: two windows a and b that
  follow each other share W(a) + W(b) - W(a+b) pages.

Nothing here was fitted to the time or bytes of a migration; ``SYNC_S`` is the difference between the 60 ms from one
short round to the next (events of a recorded migration) and the 55 ms that the stretch itself takes.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing as t

#: QEMU's MAX_WAIT: it sends for so long before it looks at what remains.
STRETCH_S = 0.050
#: It looks at the clock once in so many bytes (64 pages).
CLOCK_BYTES = 64 * 4096
#: Collecting the dirty pages once.
SYNC_S = 0.005
#: From the decision to stop until no page is dirtied any more.
STOP_S = 0.010
#: A window in which a hot set is dirty as a whole.
WHOLE_HOT_SET_S = 60.0
#: QEMU's estimate of its bandwidth, taken anew every 100 ms, swings by 3.5 % (standard deviation in recorded
#: statistics), and it stops when the estimate happens to be high.
ESTIMATE_SPREAD = 0.035
#: A recursion that has not gained this share in so many rounds has come to its fixed point.
LEAST_GAIN = 0.002
FIXED_POINT_ROUNDS = 25
MAX_ROUNDS = 2000

Window = t.Callable[[float], float]


@dataclasses.dataclass(frozen=True)
class SendRate:
    """How fast pages are sent.

    Attributes:
        page_bytes_per_s: guest memory sent in a second (whatever becomes of it on the wire).
        estimate_bytes_per_s: what QEMU takes for its bandwidth when it compares what remains with the limit. The same,
            except with xbzrle, where few bytes stand for many pages.
    """

    page_bytes_per_s: float
    estimate_bytes_per_s: float


@dataclasses.dataclass(frozen=True)
class Round:
    """One round: what was sent, in what time, what was dirty after it (in bytes of guest memory), and the send rate."""

    sent_bytes: float
    seconds: float
    left_bytes: float
    send_rate: SendRate


@dataclasses.dataclass(frozen=True)
class Run:
    """A pre-copy as the recursion sees it.

    Attributes:
        converged: whether what remained came below the limit.
        rounds: one by one; the first is the pass over all touched memory.
        last_bytes: what is sent with the guest stopped.
    """

    converged: bool
    rounds: tuple[Round, ...]
    last_bytes: float

    @property
    def sent_bytes(self) -> float:
        """Guest memory sent while the guest runs."""
        return sum(one.sent_bytes for one in self.rounds)

    @property
    def seconds(self) -> float:
        return sum(one.seconds for one in self.rounds)


def recursion(
    first_bytes: float,
    window: Window,
    send_rate: t.Callable[[t.Sequence[Round]], SendRate],
    limit_s: float,
    *,
    stop_after: int | None = None,
) -> Run:
    """Forecast all rounds of a pre-copy.

    Args:
        first_bytes: what the first pass sends (or what remains now, to go on from a sync in flight: the leftover then
            counts as cold, which is on the safe side).
        window: W(t) in bytes. It may depend on nothing but t; a throttled guest is another function.
        send_rate: the rate of a round, by those before it (none: the first pass).
        limit_s: the downtime limit.
        stop_after: look no further than so many rounds, whatever remains.
    """
    # Near the fixed point, one round after the other asks for the same windows.
    window = functools.cache(window)
    first = _first_round(first_bytes, window, send_rate(()), limit_s)
    rounds = [first]
    # What the first pass left over lies still, and the scan goes round: it is sent before anything else.
    cold = first_bytes - first.sent_bytes
    best, without_gain = first.left_bytes, 0
    while len(rounds) < (stop_after or MAX_ROUNDS) and without_gain < FIXED_POINT_ROUNDS:
        now = send_rate(rounds)
        if _fits(rounds[-1].left_bytes, now, limit_s):
            break
        rounds.append(_round(rounds[-1], cold, window, now, limit_s))
        cold = max(0.0, cold - rounds[-1].sent_bytes)
        if rounds[-1].left_bytes < best * (1 - LEAST_GAIN):
            best, without_gain = rounds[-1].left_bytes, 0
        else:
            without_gain += 1
    left = rounds[-1].left_bytes
    return Run(_fits(left, send_rate(rounds), limit_s), tuple(rounds), _last(left, window))


def _fits(left_bytes: float, send_rate: SendRate, limit_s: float) -> bool:
    return left_bytes <= (1 + ESTIMATE_SPREAD) * send_rate.estimate_bytes_per_s * limit_s


def _first_round(first_bytes: float, window: Window, send_rate: SendRate, limit_s: float) -> Round:
    """The pass over all memory. What it leaves over has not been sent yet: none of it counts as dirtied again."""
    sent, seconds = _stretches(first_bytes, send_rate, limit_s)
    return Round(sent, seconds, first_bytes - sent + window(seconds), send_rate)


def _round(before: Round, cold_bytes: float, window: Window, send_rate: SendRate, limit_s: float) -> Round:
    """One round over what the last one left dirty, of which so many bytes are cold.

    Of what this round leaves over in its turn, the pages that are not cold were dirtied in the last round, and the
    share of those that two windows have in common is dirtied again.
    """
    dirty = before.left_bytes
    sent, seconds = _stretches(dirty, send_rate, limit_s)
    left, new = dirty - sent, window(seconds)
    hot, hot_left = dirty - cold_bytes, left - max(0.0, cold_bytes - sent)
    shared = window(before.seconds) + new - window(before.seconds + seconds)
    again = hot_left * min(1.0, max(0.0, shared) / hot) if hot > 0 else 0.0
    return Round(sent, seconds, left + new - again, send_rate)


def _stretches(dirty_bytes: float, send_rate: SendRate, limit_s: float) -> tuple[float, float]:
    """What is sent, and in what time, until what remains is found to be below the limit."""
    surplus = max(0.0, dirty_bytes - send_rate.estimate_bytes_per_s * limit_s)
    stretch = stretch_s(send_rate)
    number = max(1, math.ceil(surplus / (send_rate.page_bytes_per_s * stretch) - 1e-9))
    seconds = min(number * stretch, dirty_bytes / send_rate.page_bytes_per_s + SYNC_S)
    return min(dirty_bytes, send_rate.page_bytes_per_s * seconds), seconds


def stretch_s(send_rate: SendRate) -> float:
    """From one look at what remains to the next: 60 ms at 23.9 MB/s, 55 ms on fast links.

    >>> round(stretch_s(SendRate(23.9e6, 23.9e6)), 3)
    0.06
    """
    ticks = math.floor(STRETCH_S * send_rate.page_bytes_per_s / CLOCK_BYTES) + 1
    return ticks * CLOCK_BYTES / send_rate.page_bytes_per_s + SYNC_S


def _last(left_bytes: float, window: Window) -> float:
    """What is sent with the guest stopped: what was left, and what was dirtied until it really stood still.

    Of the latter, the share that hits pages to be sent anyway costs nothing: all of it once all the hot set is dirty.
    """
    whole = window(WHOLE_HOT_SET_S)
    fresh = max(0.0, 1 - left_bytes / whole) if whole > 0 else 0.0
    return left_bytes + fresh * window(STOP_S)
