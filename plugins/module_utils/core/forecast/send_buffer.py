# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the source's TCP send buffer adds to the downtime of every guest, and how little of it would do.

QEMU counts as sent whatever it has written, and stops the guest on that count; all that then still waits in the send
buffer keeps the guest down. TCP_NOTSENT_LOWAT of a socket bounds what waits there *unsent*. Unlike a smaller buffer
(C(tcp_wmem)) it leaves what is under way alone, so it takes no bandwidth from a long path, and it belongs to one
connection: nothing else on the host notices, and nothing is left when the connection ends.
"""

from __future__ import annotations

import dataclasses
import math
import re

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes

#: Room for what is written while QEMU is not looking. TCP wakes a writer when half of its room is free, and a busy
#: host may let it wait for 2 ms. A quarter of that was enough at 200 Mbit/s and at 1 Gbit/s on two busy cores.
REFILL_S = 0.004
#: No less is asked for: 32 KiB kept 200 Mbit/s full, and gave the same downtime as 128 KiB.
LEAST_BYTES = 32 * 1024
#: Where nobody knows the bandwidth: right for 200 Mbit/s, and it kept 1 Gbit/s full.
UNKNOWN_LINK_BYTES = 128 * 1024
#: A round trip between hosts of one cluster while the link is full, where nobody says otherwise.
ASSUMED_RTT_S = 0.001
#: A gain smaller than this is not worth an operator's attention.
WORTH_MS = 5.0
#: net.ipv4.tcp_notsent_lowat of a host that limits nothing is 2^32 - 1.
UNLIMITED = 2**31
#: Linux has pidfd_getfd, by which a connection of QEMU can be reached from outside, since this version.
LINUX = (5, 6)


@dataclasses.dataclass(frozen=True)
class Advice:
    """What the send buffer costs on one host, and what could be had instead.

    Attributes:
        now_bytes: what waits when a guest is stopped, as it is.
        now_ms: the part of the downtime that this makes, with the fixed part; None when no bandwidth is known.
        limit_bytes: TCP_NOTSENT_LOWAT to set; None: not worth it, or no bandwidth known.
        then_ms: the same part with it; None without a limit.
        sentence: the same for people.
    """

    now_bytes: int
    now_ms: float | None
    limit_bytes: int | None
    then_ms: float | None
    sentence: str

    @property
    def saving_ms(self) -> float:
        """What a guest gains at every switchover; 0.0 without a limit."""
        return 0.0 if self.now_ms is None or self.then_ms is None else self.now_ms - self.then_ms


def advise(
    bandwidth_bytes_per_s: float | None,
    tcp_wmem: str | None,
    tcp_notsent_lowat: str | None = None,
    *,
    learned_bytes: float | None = None,
    rtt_s: float = ASSUMED_RTT_S,
) -> Advice:
    """Weigh a host's send buffer against its link.

    Args:
        bandwidth_bytes_per_s: of the migration network, or None when nobody knows it.
        tcp_wmem, tcp_notsent_lowat: the host's settings of net.ipv4, or None.
        learned_bytes: what finished moves have shown to wait there (``queue_bytes`` of the path's calibration).
        rtt_s: round trip while the link is full.

    Raises:
        ValueError: a bandwidth or a round trip that cannot be.
    """
    path = {"bandwidth_bytes_per_s": bandwidth_bytes_per_s or 0.0, "rtt_s": rtt_s}
    now = queue_bytes(tcp_wmem, learned_bytes=learned_bytes, limit=host_limit(tcp_notsent_lowat), **path)
    if bandwidth_bytes_per_s is None:
        unknown = (
            f"up to {human_bytes(now)} may be unsent in the send buffer when a guest is stopped; the bandwidth of the"
            " migration network is not known, so neither is the time that this costs"
        )
        return Advice(round(now), None, None, None, unknown)
    limit = limit_bytes(bandwidth_bytes_per_s)
    then = min(now, queue_bytes(tcp_wmem, learned_bytes=learned_bytes, limit=limit, **path))
    now_ms, then_ms = _floor_ms(now, bandwidth_bytes_per_s), _floor_ms(then, bandwidth_bytes_per_s)
    costs = (
        f"{human_bytes(now)} are unsent in the send buffer when a guest is stopped, so no guest is down for"
        f" less than about {now_ms:.0f} ms at {_rate(bandwidth_bytes_per_s)}"
    )
    if now_ms - then_ms < WORTH_MS:
        return Advice(round(now), now_ms, None, None, costs)
    better = f"with at most {human_bytes(limit)} unsent it would be about {then_ms:.0f} ms"
    return Advice(round(now), now_ms, limit, then_ms, f"{costs}; {better}")


def limit_bytes(bandwidth_bytes_per_s: float) -> int:
    """How much may wait unsent without the link running dry: REFILL_S of it, as a power of two.

    Raises:
        ValueError: a bandwidth that cannot be.
    """
    if not (0 < bandwidth_bytes_per_s < math.inf):
        raise ValueError(f"the bandwidth must be above 0 and finite, not {bandwidth_bytes_per_s} bytes/s")
    needed = max(LEAST_BYTES, bandwidth_bytes_per_s * REFILL_S)
    return 1 << math.ceil(math.log2(needed))


def queue_bytes(
    tcp_wmem: str | None,
    *,
    learned_bytes: float | None = None,
    limit: int | None = None,
    bandwidth_bytes_per_s: float = 0.0,
    rtt_s: float = ASSUMED_RTT_S,
) -> float:
    """What waits in the source's send buffer when a guest is stopped: ``queue_bytes`` of a :class:`Link`.

    Args:
        tcp_wmem: the host's net.ipv4.tcp_wmem, whose last number bounds it; None: not known.
        learned_bytes: what moves over this path *without* a limit have shown; None: what was measured in the lab.
        limit: TCP_NOTSENT_LOWAT of the connection, or None when it is left as it is.
        bandwidth_bytes_per_s, rtt_s: what is under way, sent and not yet acknowledged, comes on top of the limit.
    """
    found = Link.queue_bytes if learned_bytes is None else learned_bytes
    most = most_bytes(tcp_wmem)
    if most is not None:
        found = min(found, most)
    if limit is None:
        return found
    if not (0 <= rtt_s < math.inf):
        raise ValueError(f"a round trip takes 0 s or more, not {rtt_s}")
    return min(found, limit + bandwidth_bytes_per_s * rtt_s)


def most_bytes(tcp_wmem: str | None) -> int | None:
    """The largest send buffer that TCP gives itself, from C(least default most); None when the text is not that."""
    words = (tcp_wmem or "").split()
    return int(words[2]) if len(words) == 3 and all(word.isdigit() for word in words) else None


def host_limit(tcp_notsent_lowat: str | None) -> int | None:
    """What the host lets wait unsent in all its connections; None: no limit, or a text that is no number."""
    text = (tcp_notsent_lowat or "").strip()
    return int(text) if text.isdigit() and 0 < int(text) < UNLIMITED else None


def can_limit(kernel: str | None) -> bool:
    """Can a connection of QEMU be reached from outside under this release of Linux, such as C(6.12.48-amd64)?"""
    found = re.match(r"(\d+)\.(\d+)", kernel or "")
    return found is not None and (int(found[1]), int(found[2])) >= LINUX


def _floor_ms(queue: float, bandwidth_bytes_per_s: float) -> float:
    return 1000 * Link(bandwidth_bytes_per_s, queue_bytes=queue).switchover_s(0)


def _rate(bytes_per_s: float) -> str:
    mbit = bytes_per_s * 8 / 1e6
    return f"{mbit / 1000:.3g} Gbit/s" if mbit >= 1000 else f"{mbit:.3g} Mbit/s"
