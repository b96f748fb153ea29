# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: holds what is sent to a rate: a token bucket that may be overdrawn by one piece. It has no
# clock: who sends tells the time. Headers count as well, as the rate is that of the link.


from __future__ import annotations

import threading

#: What may be sent at once after a pause, in seconds at the rate. Little, so that nothing waits in the router's queue.
BURST_S = 0.25
#: A piece to send lasts so long at the rate, so that other traffic gets in between.
PIECE_S = 0.1
LEAST_PIECE_BYTES = 512
MOST_PIECE_BYTES = 256 * 1024


class TokenBucket:
    """A rate.

    Args:
        bytes_per_s: the rate; None: no limit.
        now: monotonic seconds.

    Attributes:
        overhead: bytes on the link for each byte that is sent, headers included; at least 1.
    """

    def __init__(self, bytes_per_s: float | None, now: float) -> None:
        if bytes_per_s is not None and bytes_per_s <= 0:
            raise ValueError(f"a rate is above 0, not {bytes_per_s}")
        self._rate = bytes_per_s
        self._tokens = _Tokens(bytes_per_s, now)
        self.overhead = 1.0

    def beside(self) -> TokenBucket:
        """Another one with an overhead of its own. Both together keep to the rate; each may have all that is left."""
        other = TokenBucket(self._rate, 0.0)
        other._tokens = self._tokens
        return other

    @property
    def piece_bytes(self) -> int:
        """How much to send at once.

        >>> TokenBucket(48_000, 0).piece_bytes, TokenBucket(None, 0).piece_bytes
        (4800, 262144)
        """
        if self._rate is None:
            return MOST_PIECE_BYTES
        return int(min(MOST_PIECE_BYTES, max(LEAST_PIECE_BYTES, self._rate * PIECE_S)))

    def wait_s(self, now: float) -> float:
        """Seconds until the next piece may be sent; 0: now."""
        return self._tokens.wait_s(now)

    def sent(self, count: int, now: float) -> None:
        """Take that so many bytes were sent."""
        self._tokens.take(count * max(1.0, self.overhead), now)


class _Tokens:
    """What may be sent now, in bytes on the link. Several threads may take of it."""

    def __init__(self, bytes_per_s: float | None, now: float) -> None:
        self._rate = bytes_per_s
        self._left = 0.0 if bytes_per_s is None else bytes_per_s * BURST_S
        self._at = now
        self._lock = threading.Lock()

    def wait_s(self, now: float) -> float:
        if self._rate is None:
            return 0.0
        with self._lock:
            self._refill(self._rate, now)
            return max(0.0, -self._left / self._rate)

    def take(self, count: float, now: float) -> None:
        if self._rate is not None:
            with self._lock:
                self._refill(self._rate, now)
                self._left -= count

    def _refill(self, rate: float, now: float) -> None:
        self._left = min(rate * BURST_S, self._left + max(0.0, now - self._at) * rate)
        self._at = max(self._at, now)
