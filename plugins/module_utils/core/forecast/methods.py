# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What each method comes to in one scenario: figures, or None where it never ends.

Rounds are counted as libvirt counts them: the first pass is 1, each later one adds 1, and so do the two looks at the
end.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.precopy import (
    Round,
    Run,
    SendRate,
    recursion,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.scenario import Figures, Scenario

#: How fast xbzrle looks through pages, one thread (Svärd et al., VEE '11: 1.5 to 2.2 GB/s).
XBZRLE_BYTES_PER_S = 1.5e9
#: Channels of a parallel migration: QEMU's own default. With compression each of them keeps a core busy.
CHANNELS = 2
#: Memory that zstd compresses in a second on one core at QEMU's level 1. QEMU's documentation of compression for
#: parallel channels: 54 GB of the Silesia corpus in 20.2 s at 810 % CPU (measured, in blocks of 512 KiB on a busy EPYC:
#: 280 MB/s).
ZSTD_BYTES_PER_S = 330e6
#: What a page costs in xbzrle's stream however little of it changed: page header, length, runs.
XBZRLE_PAGE_SHARE = 20 / 4096
#: QEMU throttles from the third look at dirty pages on: rounds before are as without.
FULL_ROUNDS_BEFORE_THROTTLE = 4
#: QEMU's highest throttle, and the time for which a throttled vCPU runs before it sleeps.
HIGHEST_THROTTLE_PCT = 99
THROTTLE_SLICE_S = 0.010
#: The raised limit has a margin for what is dirtied until the guest stops (used: 0.86 to 0.98 of it in four runs).
RAISE_MARGIN = 1.15
#: How far beyond the edge of convergence a throttle must bring the guest (the same edge as of a verdict).
THROTTLE_MARGIN = 1.25
ENDING_ROUNDS = 2


def precopy(
    scenario: Scenario,
    limit_s: float,
    share: float = 1.0,
    hot_share: float = 1.0,
    most_bytes_per_s: float = math.inf,
) -> Figures | None:
    """Plain pre-copy, or with compression that leaves such shares of the first pass and of later rounds.

    ``most_bytes_per_s``: guest memory that the source can prepare in a second, whatever the link takes.
    """
    run = _rounds_of(
        scenario,
        limit_s,
        lambda rounds, rate: scenario.send_rate(hot_share if rounds else share, most_bytes_per_s, bytes_per_s=rate),
    )
    if not run.converged:
        return None
    zero = 0.0
    if len(run.rounds) == 1:
        # What the last copy holds was counted before it was looked at: part of it may be zero.
        zero = (scenario.touched_bytes - run.rounds[0].sent_bytes) * (1 - scenario.cold_density)
    first, later = run.rounds[0].sent_bytes + zero, sum(one.sent_bytes for one in run.rounds[1:])
    final = run.last_bytes - zero
    last = scenario.wire(hot_share * final)
    last_rate = scenario.link.last_copy_bytes_per_s
    return scenario.done(
        scenario.wire(share * first + hot_share * later),
        last,
        rounds=len(run.rounds) + ENDING_ROUNDS,
        downtime_s=scenario.link.switchover_s(last) + max(0.0, final / most_bytes_per_s - last / last_rate),
        waiting_s=scenario.waiting_s(run.rounds, share, hot_share),
    )


def parallel_zstd(scenario: Scenario, limit_s: float, cpus: float = math.inf) -> Figures | None:
    """Several channels, each compressing: fewer bytes for the same pages, so more pages in a second, as far as the
    CPUs compress them. ``cpus``: those that the guest's quota leaves for that.

    Each channel has a send buffer of its own, and all of them must run empty while the guest is down (measured: 139 and
    175 ms where one channel takes 91 to 104).
    """
    link = dataclasses.replace(scenario.link, queue_bytes=CHANNELS * scenario.link.queue_bytes)
    scenario = dataclasses.replace(scenario, link=link)
    return precopy(
        scenario, limit_s, scenario.compressed_share, scenario.hot_share, min(CHANNELS, cpus) * ZSTD_BYTES_PER_S
    )


def raised(scenario: Scenario, limit_s: float, after_rounds: int = 2) -> Figures | None:
    """Pre-copy whose limit is raised once, after so many rounds, to what then remains. It always ends."""
    run = _first_rounds(scenario, limit_s, after_rounds)
    last = scenario.wire(run.last_bytes)
    # QEMU compares the limit with the rate of the round.
    raise_to_s = RAISE_MARGIN * last / scenario.rates[0](run.rounds)
    return scenario.done(
        scenario.wire(run.sent_bytes),
        last,
        rounds=len(run.rounds) + ENDING_ROUNDS,
        waiting_s=scenario.waiting_s(run.rounds),
        raise_to_s=raise_to_s,
    )


def xbzrle(scenario: Scenario, limit_s: float, cache_bytes: float, cpus: float = math.inf) -> Figures | None:
    """Only what changed of a page, once the page has been sent and cached. ``cpus``: those that the guest's quota
    leaves for looking through pages.

    The first pass fills nothing; the second sends whole pages into the cache; from the third on a page that is still in
    the cache costs what changed of it.
    """
    wanted = scenario.window(scenario.touched_bytes / scenario.link.bandwidth_bytes_per_s)
    cached = min(1.0, cache_bytes / wanted) if wanted > 0 else 1.0
    cost = min(1.0, scenario.sparse + XBZRLE_PAGE_SHARE)
    share = 1 - cached * (1 - cost)

    def send_rate(rounds: t.Sequence[Round], rate: float) -> SendRate:
        full = scenario.send_rate(bytes_per_s=rate)
        if len(rounds) < 2:
            return full
        pages = min(full.page_bytes_per_s / share, min(1.0, cpus) * XBZRLE_BYTES_PER_S)
        return SendRate(pages, min(full.estimate_bytes_per_s, pages * share))

    run = _rounds_of(scenario, limit_s, send_rate)
    if not run.converged:
        return None
    # A page is sent whole once before it is in the cache: all of the first pass, and all that was dirtied in it.
    first = run.rounds[0]
    pages = run.sent_bytes + run.last_bytes
    whole = min(pages, scenario.touched_bytes + scenario.window(first.seconds))
    last = run.last_bytes * (share if len(run.rounds) >= 2 else 1.0)
    wire = whole + share * (pages - whole) - last
    return scenario.done(
        scenario.wire(wire),
        scenario.wire(last),
        rounds=len(run.rounds) + ENDING_ROUNDS,
        waiting_s=0.0 if scenario.link.floor_bytes_per_s is None else scenario.waiting_s(run.rounds, 1.0, share),
    )


def postcopy(scenario: Scenario, limit_s: float) -> Figures | None:
    """Switch after the first pass: what was dirtied in it follows while the guest already runs at the destination.

    Its downtime is that of an empty switchover. But the guest stalls on pages that are not there yet: measured, it lost
    0.75 to 1.15 of the time that its hot set takes on the link.
    """
    run = _first_rounds(scenario, limit_s, 1)
    left = scenario.wire(run.rounds[-1].left_bytes)
    hot = scenario.wire(min(run.rounds[-1].left_bytes, scenario.window(run.seconds)))
    stalled = scenario.stall_share * hot / scenario.link.bandwidth_bytes_per_s
    wire = scenario.wire(run.sent_bytes) + left
    return scenario.done(
        wire,
        0.0,
        rounds=1 + ENDING_ROUNDS,
        downtime_s=scenario.link.switchover_s(0.0),
        stalled_s=stalled,
        waiting_s=scenario.waiting_s(run.rounds),
    )


def suspended(scenario: Scenario, limit_s: float) -> Figures | None:
    """Stop the guest after the first pass and send the rest."""
    run = _first_rounds(scenario, limit_s, 1)
    return scenario.done(
        scenario.wire(run.sent_bytes),
        scenario.wire(run.last_bytes),
        rounds=1 + ENDING_ROUNDS,
        waiting_s=scenario.waiting_s(run.rounds),
    )


def throttled(scenario: Scenario, limit_s: float, pct: int) -> Figures | None:
    """Auto-converge that starts at so many per cent: the guest's time is stretched, but only as far as CPU binds it."""
    time_share = scenario.time_share(pct)
    before = _first_rounds(scenario, limit_s, FULL_ROUNDS_BEFORE_THROTTLE)
    if before.converged:
        return precopy(scenario, limit_s)
    run = recursion(
        before.rounds[-1].left_bytes,
        lambda window_s: scenario.window(time_share * window_s),
        lambda dummy: scenario.send_rate(),
        limit_s,
    )
    if not run.converged:
        return None
    # The throttle is on while the last full round is still being sent.
    seconds = before.rounds[-1].seconds + run.seconds
    return scenario.done(
        scenario.wire(before.sent_bytes + run.sent_bytes),
        scenario.wire(run.last_bytes),
        rounds=len(before.rounds) + len(run.rounds) + ENDING_ROUNDS,
        stalled_s=(1 - time_share) * seconds,
        waiting_s=scenario.waiting_s(before.rounds),
        freeze_s=freeze_s(pct),
    )


def least_throttle(scenario: Scenario, limit_s: float) -> int | None:
    """The least throttle in per cent at which the guest surely converges, or the highest where that just does; or None.

    A throttle takes CPU time. A guest that uses 4 % of its CPU is not slowed at all by a throttle of 85 %, so the share
    needed is 1 - utilisation * (slowdown needed), whatever the page rates are.
    """
    for pct in range(HIGHEST_THROTTLE_PCT + 1):
        time_share = scenario.time_share(pct)
        if (pct == 0 or time_share < 1) and _slow_enough(scenario, limit_s, time_share * THROTTLE_MARGIN):
            return pct
    just = _slow_enough(scenario, limit_s, scenario.time_share(HIGHEST_THROTTLE_PCT))
    return HIGHEST_THROTTLE_PCT if just else None


def _slow_enough(scenario: Scenario, limit_s: float, time_share: float) -> bool:
    return recursion(
        scenario.window(scenario.touched_bytes / scenario.link.bandwidth_bytes_per_s),
        lambda window_s: scenario.window(time_share * window_s),
        lambda dummy: scenario.send_rate(),
        limit_s,
    ).converged


def freeze_s(pct: float) -> float:
    """For how long a throttled vCPU stands still at a time: 10 ms of running, then asleep in proportion.

    >>> round(freeze_s(99), 2), round(freeze_s(20), 4)
    (0.99, 0.0025)
    """
    return THROTTLE_SLICE_S * pct / (100 - pct) if pct < 100 else math.inf


def _first_rounds(scenario: Scenario, limit_s: float, number: int) -> Run:
    return _rounds_of(scenario, limit_s, lambda dummy, rate: scenario.send_rate(bytes_per_s=rate), stop_after=number)


def _rounds_of(
    scenario: Scenario,
    limit_s: float,
    send_rate: t.Callable[[t.Sequence[Round], float], SendRate],
    *,
    stop_after: int | None = None,
) -> Run:
    """The rounds of a pre-copy, at the first of the rates at which it converges, or else at the last."""
    for rate in scenario.rates:
        run = recursion(
            scenario.touched_bytes,
            scenario.window,
            lambda rounds, rate=rate: send_rate(rounds, rate(rounds)),  # type: ignore[misc]
            limit_s,
            stop_after=stop_after,
        )
        if run.converged or stop_after:
            break
    return run


Method = t.Callable[[Scenario], t.Optional[Figures]]
