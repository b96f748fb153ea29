# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""One guest on one link under one assumption about what is not exactly known, and what a method would come to there.

A forecast tries each method in several scenarios: the likely one, one in which everything is as good as it may be, one
in which everything is as bad as it may be, and one with more or less dirtying.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.precopy import Round, SendRate, Window
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.rate_rule import next_rate_mib_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve import Curve

#: Bytes a second on the wire for a round, by those before it.
Rate = t.Callable[[t.Sequence[Round]], float]

#: A zero page costs its header only.
ZERO_PAGE_BYTES = 9
PAGE_BYTES = 4096
#: Work lost to page faults after post-copy over the time that the hot set takes on the link, at best, likely and at
#: worst.
STALL_SHARES = {-1: 0.75, 0: 0.9, 1: 1.15}
#: Convergence is ill-conditioned where the guest dirties nearly as fast as the link sends (bytes go with 1/(1-rho)):
#: with rho in 0.8 to 1.1 the verdict is marginal. So it must hold with W as much larger and smaller as leads to the
#: edge.
EDGE_ABOVE = 1 / 0.8
EDGE_BELOW = 1 / 1.1


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What is assumed.

    Attributes:
        window: W(t) in bytes.
        touched_bytes: what the first pass sends.
        memory_bytes: size of the guest; what is not touched is sent as zero pages.
        link: the link, with the bandwidth that disks leave.
        compressed_share: bytes after compression over before; ``hot_share`` of the pages that are dirtied.
        hot_share: see there.
        sparse: share of a dirty page that xbzrle has to send.
        vcpu_utilisation: share of its CPU time that the guest uses.
        stall_share: part of the hot set's transfer that a guest loses to page faults after post-copy.
        cold_density: how much of what the first pass leaves over is not zero. QEMU counts zero pages as remaining, so
            an idle guest at a limit of 1000 ms was down for 400 ms: most of the rest of its memory was zero.
        disk_s, disk_bytes: mirroring before the first page is sent.
    """

    window: Window
    touched_bytes: float
    memory_bytes: float
    link: Link
    compressed_share: float = 1.0
    hot_share: float = 1.0
    sparse: float = 1.0
    vcpu_utilisation: float = 1.0
    stall_share: float = 0.9
    cold_density: float = 1.0
    disk_s: float = 0.0
    disk_bytes: float = 0.0

    @property
    def zero_bytes(self) -> float:
        """What the zero pages put on the wire."""
        return max(0.0, self.memory_bytes - self.touched_bytes) / PAGE_BYTES * ZERO_PAGE_BYTES

    def wire(self, page_bytes: float) -> float:
        """Guest memory as bytes on the wire, uncompressed."""
        return page_bytes * (1 + self.link.overhead)

    def send_rate(
        self, share: float = 1.0, most_bytes_per_s: float = math.inf, *, bytes_per_s: float | None = None
    ) -> SendRate:
        """How fast pages are sent.

        Args:
            share: bytes on the wire over bytes of pages.
            most_bytes_per_s: bytes of pages that the source can prepare in a second.
            bytes_per_s: the rate on the wire; None: that of the link.
        """
        rate = (bytes_per_s or self.link.bandwidth_bytes_per_s) / (1 + self.link.overhead)
        pages = min(rate / share, most_bytes_per_s)
        return SendRate(pages, pages)

    @property
    def rates(self) -> tuple[Rate, ...]:
        """What a round may put on the wire in a second, by those before it; another one, where that does not converge.

        Where rounds get a rate by the rule, the control goes to the ceiling if they gain nothing.
        """
        link, floor = self.link, self.link.floor_bytes_per_s
        if floor is None or floor >= link.bandwidth_bytes_per_s:
            return (lambda dummy: link.bandwidth_bytes_per_s,)
        return self._by_rule, lambda before: link.bandwidth_bytes_per_s if before else link.first_pass_bytes_per_s

    def _by_rule(self, before: t.Sequence[Round]) -> float:
        link = self.link
        if not before:
            return link.first_pass_bytes_per_s
        seconds = before[-1].seconds
        floor, ceiling = (round(rate / MIB) for rate in (link.first_pass_bytes_per_s, link.bandwidth_bytes_per_s))
        wanted = next_rate_mib_s(self.window(seconds), seconds, floor, max(floor, ceiling))
        return min(link.bandwidth_bytes_per_s, wanted * MIB)

    def waiting_s(self, rounds: t.Sequence[Round], share: float = 1.0, hot_share: float = 1.0) -> float:
        """Seconds in which the link is idle during these rounds: pages are not ready, or the rate rule spares it.

        Args:
            rounds: those rounds.
            share, hot_share: bytes on the wire over bytes of pages, in the first pass and in later rounds.
        """
        rate = self.link.bandwidth_bytes_per_s
        waits = (
            max(0.0, one.sent_bytes / one.send_rate.page_bytes_per_s - self.wire(left * one.sent_bytes) / rate)
            for one, left in zip(rounds, (share, *[hot_share] * len(rounds)))
        )
        return sum(waits) + self.zero_bytes * (1 / self.link.first_pass_bytes_per_s - 1 / rate)

    def faster(self, factor: float) -> Scenario:
        """The same with so many times the bandwidth."""
        return dataclasses.replace(self, link=self.link.scaled(factor))

    def time_share(self, throttle_pct: float) -> float:
        """How much of its usual work a guest does under a throttle, which takes CPU time and not work.

        A guest that uses 4 % of its CPU does all its work under a throttle of 96 %.
        """
        if self.vcpu_utilisation <= 0:
            return 1.0
        return min(1.0, (1 - throttle_pct / 100) / self.vcpu_utilisation)

    def done(
        self,
        wire_bytes: float,
        last_wire_bytes: float,
        *,
        rounds: int,
        downtime_s: float | None = None,
        stalled_s: float = 0.0,
        waiting_s: float = 0.0,
        **more: float,
    ) -> Figures:
        """The figures of a move.

        Args:
            wire_bytes, last_wire_bytes: on the wire while the guest runs, and after it has stopped.
            rounds: as libvirt counts them.
            downtime_s: None: the time of sending C(last_wire_bytes).
            stalled_s: work lost beside the downtime.
            waiting_s: the link waits for bytes while the guest runs.
            more: what else the method found out, by name.
        """
        total = wire_bytes + last_wire_bytes + self.zero_bytes
        down = self.link.switchover_s(last_wire_bytes) if downtime_s is None else downtime_s
        running_s = (wire_bytes + self.zero_bytes) / self.link.bandwidth_bytes_per_s
        seconds = self.link.before_s + self.disk_s + running_s + waiting_s + down + self.link.after_s
        return Figures(
            rounds=rounds,
            bytes=total + self.disk_bytes,
            total_s=seconds,
            downtime_s=down,
            work_lost_s=down + stalled_s,
            more=more,
        )


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a method comes to in one scenario.

    Attributes:
        rounds: as libvirt counts them; the first pass is 1.
        bytes: on the wire, disks included.
        total_s: from the call to its return.
        downtime_s: the guest does not run.
        work_lost_s: seconds of work that the guest does not get done, downtime included.
        more: whatever else the method found out, by name.
    """

    rounds: int
    bytes: float
    total_s: float
    downtime_s: float
    work_lost_s: float
    more: t.Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Known:
    """What is known of a guest and its link, with errors. Scenarios come from it. Shares that are None are unknown."""

    curve: Curve
    touched_bytes: float
    touched_error: float
    memory_bytes: float
    link: Link
    compressed_share: float | None = None
    hot_compressed_share: float | None = None
    sparse: float | None = None
    vcpu_utilisation: float | None = None
    disk_copy_bytes: float = 0.0
    disk_write_bytes_per_s: float = 0.0

    def likely(self) -> Scenario:
        return self._scenario(
            self.curve.value, 0, *self._shares(self.compressed_share, self.hot_compressed_share, self.sparse)
        )

    def best(self) -> Scenario:
        """As good as it may be: little dirtied and touched, a fast link, compressible."""
        compressed = 0.5 if self.compressed_share is None else self.compressed_share
        return self._scenario(
            self.curve.low, -1, *self._shares(compressed, self.hot_compressed_share, self.sparse or 0.02)
        )

    def worst(self) -> Scenario:
        """As bad as it may be. What is dirtied may compress far worse than the rest (random contents do)."""
        compressed, dummy, sparse = self._shares(self.compressed_share, None, self.sparse)
        return self._scenario(self.curve.high, +1, compressed, 1.0, min(1.0, sparse * 2))

    def edge(self, factor: float) -> Scenario:
        """The likely one with so many times the dirtying."""
        scenario = self.likely()
        return dataclasses.replace(
            scenario, window=lambda window_s: min(self.touched_bytes, factor * self.curve.value(window_s))
        )

    @staticmethod
    def _shares(compressed: float | None, hot: float | None, sparse: float | None) -> tuple[float, float, float]:
        """Compression of all, of what is dirtied (None: as all), and sparseness; unknown ones count as no help."""
        share = 1.0 if compressed is None else compressed
        return share, share if hot is None else hot, 1.0 if sparse is None else sparse

    def _scenario(self, window: Window, worse: int, compressed: float, hot: float, sparse: float) -> Scenario:
        link = self.link.varied(-worse)
        touched = min(self.memory_bytes, max(0.0, self.touched_bytes * (1 + worse * self.touched_error)))
        copy_bytes, write_bytes_per_s = self.disk_copy_bytes, self.disk_write_bytes_per_s
        disk_s, disk_bytes, dummy = mirror(copy_bytes, write_bytes_per_s, link.first_pass_bytes_per_s)
        left = mirror(copy_bytes, write_bytes_per_s, link.bandwidth_bytes_per_s)[2]
        return Scenario(
            window=lambda window_s: min(touched, window(window_s)),
            touched_bytes=touched,
            memory_bytes=self.memory_bytes,
            link=link.scaled(left),
            compressed_share=compressed,
            hot_share=hot,
            sparse=sparse,
            vcpu_utilisation=1.0 if self.vcpu_utilisation is None else self.vcpu_utilisation,
            stall_share=STALL_SHARES[worse],
            cold_density=touched / self.memory_bytes if worse < 0 else 1.0,
            disk_s=disk_s,
            disk_bytes=disk_bytes,
        )


def mirror(copy_bytes: float, write_bytes_per_s: float, bandwidth_bytes_per_s: float) -> tuple[float, float, float]:
    """Seconds and bytes of mirroring disks before memory goes, and the share of the link that is left for memory.

    Memory is sent once the mirror has caught up (libvirt waits for that), so it takes S / (B - w) at a write rate w;
    from then on the mirror keeps needing w. ``inf`` seconds when it never catches up.

    >>> mirror(1000, 20, 100)
    (12.5, 1250.0, 0.8)
    """
    if copy_bytes <= 0:
        return 0.0, 0.0, 1.0
    if write_bytes_per_s >= bandwidth_bytes_per_s:
        return float("inf"), float("inf"), 0.01
    seconds = copy_bytes / (bandwidth_bytes_per_s - write_bytes_per_s)
    return seconds, copy_bytes + write_bytes_per_s * seconds, 1 - write_bytes_per_s / bandwidth_bytes_per_s
