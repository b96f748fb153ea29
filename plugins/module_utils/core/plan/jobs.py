# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Steps of a plan as the schedule sees them, and the slots that they need."""

from __future__ import annotations

import typing as t

#: What a move takes apart from sending memory: set-up, switch-over, looking that it went well.
SETUP_S = 2.0
#: Half of what 10 Gbit/s carry: nobody asked the link. Where interfaces say more, the same share of what they do.
USUAL_BYTES_PER_S = 600_000_000
USUAL_SHARE = 0.5


class Job(t.NamedTuple):
    """One step as the schedule sees it.

    Attributes:
        id: of the step.
        guest, source, destination: names.
        seconds: what it takes where ``at_once`` moves share what it goes over.
        after: ids of other jobs.
        links: the shared ones it crosses.
        flow_s: of its seconds, those in which it fills its share; the rest depends on nobody.
        at_once: moves that its seconds were reckoned with, itself among them.
    """

    id: str
    guest: str
    source: str
    destination: str
    seconds: float
    after: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    flow_s: float = 0.0
    at_once: int = 1

    def slowed(self, sharing: int) -> float:
        """Return its seconds if so many moves, itself among them, share its source, destination or links."""
        return self.seconds + self.flow_s * (sharing / self.at_once - 1)


class Slots(t.NamedTuple):
    """How many moves may run at once: from a host, to a host, over a link."""

    per_source: int = 1
    per_destination: int = 1
    per_link: t.Mapping[str, int] = {}

    def at_once(self, *, leaving: int, senders: int, receivers: int, links: t.Iterable[str] = ()) -> int:
        """The most moves that may share what one of them goes over, itself among them.

        Args:
            leaving: guests that may leave its source.
            senders: hosts that guests leave.
            receivers: hosts that they go to.
            links: the shared ones that it crosses.
        """
        everyone = min(self.per_source * max(1, senders), self.per_destination * max(1, receivers))
        each = min(self.per_source, max(1, leaving), everyone)
        others = [self.per_destination, *(self.per_link[link] for link in links if link in self.per_link)]
        return max(each, *(min(most, everyone) for most in others))


ONE_AT_A_TIME = Slots()
#: What ends within such a share of the same time ends together.
ROUNDING = 1e-9


class Timing(t.NamedTuple):
    start_s: float
    end_s: float


def plain_seconds(move_bytes: int, bytes_per_s: float | None = None) -> float:
    """Return a guess for a move without a forecast: memory over bandwidth, and set-up.

    >>> plain_seconds(6_000_000_000), plain_seconds(6_000_000_000, 100e6)
    (12.0, 62.0)
    """
    return move_bytes / (bytes_per_s or USUAL_BYTES_PER_S) + SETUP_S
