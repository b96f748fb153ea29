# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: follows a send: what went over the link, what is left, how long that takes.

from __future__ import annotations

import collections
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.bit_rate import human_rate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest, bytes_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta import Delta
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.delta_bytes import bytes_table
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link_socket import Traffic

#: Seconds between two lines.
LINE_S = 3.0
#: The rate shown is that of so many seconds.
RATE_S = 10.0


class ImageSent(t.NamedTuple):
    """An image that was begun.

    Attributes:
        what: of the guest, such as C(disk vda).
        image: its name.
        table: what is sent and what is avoided; see L(bytes_table).
        resumed_bytes: of the image, what had come in an earlier run or over an earlier connection.
    """

    what: str
    image: str
    table: dict[str, t.Any]
    resumed_bytes: int


class SendWatch:
    """Follows one send.

    Args:
        names: what each image is of the guest, by its name.
        base_of: gives the manifest of the base of an image, where there is one.
        tell: takes a line, with rate, bytes left and seconds left as figures.
        clock: monotonic seconds.

    Attributes:
        images: those that were begun, by name.
        interruptions: how often the connection ended before the end.
        progress: changes with all that has come through.
    """

    def __init__(
        self,
        names: t.Mapping[str, str],
        base_of: t.Callable[[str], BlockManifest | None],
        tell: t.Callable[..., None],
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._base_of = base_of
        self._tell = tell
        self._clock = clock
        self._before = Traffic(0, 0)
        self._link: Link | None = None
        self._left_bytes = 0
        self._content_bytes = 0
        self._image = ""
        self._seen: collections.deque[tuple[float, int]] = collections.deque()
        self._line_at = clock()
        self.images: dict[str, ImageSent] = {}
        self.interruptions = 0
        self.progress = 0

    def connected(self, link: Link) -> None:
        """A connection begins."""
        self._link = link
        self._content_bytes = 0
        self._left_bytes = 0
        self._image = ""
        self._seen.clear()

    def disconnected(self, traffic: Traffic) -> None:
        """A connection has ended, after so much went over it."""
        self._link = None
        self._before = Traffic(self._before.out + traffic.out, self._before.back + traffic.back)

    def interrupted(self, why: str) -> None:
        """It is tried again."""
        self.interruptions += 1
        self._tell(f"interrupted ({why}); trying again")

    @property
    def traffic(self) -> Traffic:
        """What went over the link, in both directions."""
        now = self._link.traffic() if self._link is not None else Traffic(0, 0)
        return Traffic(self._before.out + now.out, self._before.back + now.back)

    @property
    def resumed_bytes(self) -> int:
        """Of all images, what had come in an earlier run or over an earlier connection."""
        return sum(image.resumed_bytes for image in self.images.values())

    def image_begins(self, name: str, delta: Delta, verified: t.AbstractSet[int]) -> None:
        """What must travel of an image is known; these of its segments are at the far end from before."""
        self._image = name
        table = bytes_table(delta, base=self._base_of(name), skip=verified)
        resumed = sum(bytes_of(delta.image.size_bytes, number) for number in verified)
        first = self.images.get(name)
        if first is None:
            self.images[name] = ImageSent(self._names.get(name, name), name, table, resumed)
        else:
            self.images[name] = first._replace(resumed_bytes=max(first.resumed_bytes, resumed))
        left = sum(
            run.blocks for segment in delta.segments(skip=verified) for run in segment.runs if run.kind == "send"
        )
        self._left_bytes = left * 4096
        avoided = sum(table["avoided_by"].values())
        why = f", in full because {table['full_because']}" if table["full_because"] else ""
        self._tell(
            f"{self._names.get(name, name)}: {human_bytes(self._left_bytes)} to send before compression,"
            f" {human_bytes(avoided)} avoided{why}"
        )
        self.progress += 1

    def content_sent(self, size_bytes: int) -> None:
        """So many bytes of content were handed over."""
        self._left_bytes = max(0, self._left_bytes - size_bytes)
        self._content_bytes += size_bytes

    def image_ends(self, name: str) -> None:
        """The far end has the image."""
        self._image = ""
        self._tell(f"{self._names.get(name, name)}: there, and its digest is right")
        self.progress += 1

    def tick(self, link: Link) -> None:
        """It goes on; a line is written if it is time."""
        now = self._clock()
        if now - self._line_at < LINE_S:
            return
        if not self._image:
            return
        self._line_at = now
        out = link.traffic().out
        self._seen.append((now, out))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_S:
            self._seen.popleft()
        if out > self._seen[0][1]:
            self.progress += 1
        rate = self._rate()
        packed = link.sent / self._content_bytes if self._content_bytes else 1.0
        left = int(self._left_bytes * min(1.05, packed)) + link.waiting_bytes
        eta = left / rate if rate else None
        flow = f"{human_rate(rate)}, {human_bytes(left)} left, {human_seconds(eta)}"
        self._tell(
            f"{self._names.get(self._image, '')} {flow if rate else f'{human_bytes(left)} left'}".strip(),
            rate_bytes_per_s=int(rate),
            remaining_bytes=left,
            eta_s=None if eta is None else round(eta),
        )

    def _rate(self) -> float:
        if len(self._seen) < 2:
            return 0.0
        (start, before), (end, now) = self._seen[0], self._seen[-1]
        return (now - before) / (end - start) if end > start else 0.0
