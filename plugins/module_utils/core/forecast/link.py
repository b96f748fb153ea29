# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The link from one host to another, as far as time and bytes are concerned."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Link:
    """What a move over this path is charged with. The defaults are those measured in the lab; calibration learns them.

    Attributes:
        bandwidth_bytes_per_s: what is free for this move, as the job statistic ``memory_bps`` counts it: what the
            hypervisor writes, without the headers of TCP/IP and Ethernet (4.6 % at 1500 bytes).
        fixed_s: part of every switchover that no bandwidth shortens: device state, starting the destination. 9 ms over
            an unlimited link.
        queue_bytes: what waits in the source's TCP send buffer when the guest is stopped, counted as sent. 1.7 MB from
            the floor of idle guests (82 ms at 23.9 MB/s, less ``fixed_s``); about 0.3 MB with a small buffer.
        before_s: until the first byte: begin, prepare, start the destination (0.17 to 0.28 s).
        after_s: from the guest running at the destination to the end of the call (libvirt polls every 0.2 s).
        overhead: bytes on top of each byte of guest memory: page headers and what devices send (0.24 %).
        spread: relative standard deviation of the bandwidth from one move to the next.
        unlimited_bytes_per_s: what the last copy runs at, when a cap holds only until then (QEMU lifts it for the
            switchover); None: the bandwidth.
        floor_bytes_per_s: the rate of the first pass where the link is spared; each later round is as fast as the
            dirty rate asks for (C(rate_rule)), up to the bandwidth. None: every round is as fast as it can be.
    """

    bandwidth_bytes_per_s: float
    fixed_s: float = 0.010
    queue_bytes: float = 1_700_000.0
    before_s: float = 0.25
    after_s: float = 0.21
    overhead: float = 0.0024
    spread: float = 0.02
    unlimited_bytes_per_s: float | None = None
    floor_bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.bandwidth_bytes_per_s < math.inf):
            raise ValueError(f"the bandwidth must be above 0 and finite, not {self.bandwidth_bytes_per_s} bytes/s")
        for field in ("fixed_s", "queue_bytes", "before_s", "after_s", "overhead", "spread"):
            value = getattr(self, field)
            if not (0 <= value < math.inf):
                raise ValueError(f"{field} must be 0 or more, not {value}")
        if self.spread >= 1:
            raise ValueError(f"spread is a share of the bandwidth, not {self.spread}")

    def limited(self, bytes_per_s: float | None) -> Link:
        """The same link with a cap on the move (C(bandwidth) of libvirt), or as it is with None."""
        if bytes_per_s is None or bytes_per_s >= self.bandwidth_bytes_per_s:
            return self
        return dataclasses.replace(
            self, bandwidth_bytes_per_s=bytes_per_s, unlimited_bytes_per_s=self.last_copy_bytes_per_s
        )

    @property
    def first_pass_bytes_per_s(self) -> float:
        """The rate of the first pass, and of the disks that are copied before it."""
        return min(self.bandwidth_bytes_per_s, self.floor_bytes_per_s or self.bandwidth_bytes_per_s)

    @property
    def last_copy_bytes_per_s(self) -> float:
        """The rate while the guest stands still."""
        return self.unlimited_bytes_per_s or self.bandwidth_bytes_per_s

    def varied(self, deviations: float) -> Link:
        """The same link with the bandwidth so many standard deviations better (or, below 0, worse)."""
        factor = max(0.1, 1 + deviations * self.spread)
        return self.scaled(factor)

    def scaled(self, factor: float) -> Link:
        """The same link with so many times the bandwidth."""
        unlimited = self.unlimited_bytes_per_s
        return dataclasses.replace(
            self,
            bandwidth_bytes_per_s=self.bandwidth_bytes_per_s * factor,
            unlimited_bytes_per_s=unlimited * factor if unlimited else None,
        )

    def switchover_s(self, left_bytes: float) -> float:
        """How long the guest stands still when so many bytes (as written on the wire) are left.

        F + max(Q, V) / B: what is left is written behind what waits in the send buffer, but while the buffer is not
        full the two overlap. Within 10 ms for idle guests at limits from 10 to 100 ms at 200 Mbit/s.
        """
        return self.fixed_s + max(self.queue_bytes, left_bytes) / self.last_copy_bytes_per_s
