# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The way to the far end: its rate, its delay, and what a capsule costs on it that no bandwidth shortens."""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link

#: What libvirt and QEMU exchange before the first page: 8.7 s at 48 kB/s, 0.25 s on a fast link.
SETUP_BYTES = 400_000.0
#: Of a TCP send buffer that was made small, as is done for a thin link.
SMALL_QUEUE_BYTES = 300_000.0
#: Of the bits of a line: Ethernet, IP and TCP take 66 of 1514 bytes, and ssh some more.
PAYLOAD_SHARE = 0.95
#: Of a thin line from one move to the next.
SPREAD = 0.04
#: A sample of memory compresses pieces of 16 KiB alone and fast; a capsule is one stream, and the slower the link, the
#: harder it is compressed. Bytes in a second up to which so much is done, and the power of the sample's share that is
#: left then. Memory of a Linux guest: 0.382 in the sample, 0.296 by LZMA2, 0.311 at level 19 of zstd, 0.342 at level 9,
#: 0.359 at level 3. What does not compress in the sample, does not in the stream.
PACKED = ((64_000.0, 1.265), (300_000.0, 1.21), (10_000_000.0, 1.115))
PACKED_FAST = 1.065


@dataclasses.dataclass(frozen=True)
class Overheads:
    """What the path of a capsule takes beside sending: save, ssh, restore.

    Attributes:
        save_s: saving a guest, beside writing its memory: pausing it, freezing its disks on new layers.
        restore_s: starting it from the capsule, beside reading its memory: definition, layers, libvirt's restore, its
            clock (libvirt 11.3: 0.75 to 0.9 s for a guest of 96 MiB, reading its memory included).
        connect_s: the key exchange of ssh and the start of the receiver, without what a distance adds.
        tasks_s: tasks of Ansible after the choice and before the guest stops. Each begins Python on a host.
        round_trips: of ssh, of libvirt's own protocol and of the transfer before something is sent.
        asks: round trips with the guest stopped: the document, the parts, what is there of each image, its end, the
            start.
        memory_bytes_per_s: writing and reading the memory of a saved guest, hashing it included.
        balloon_bytes_per_s: taking memory from a guest and giving it back; 416 MiB took 2.3 s. The guest runs.
        lazy_setup_s: freezing the disks on a layer, starting the export, and connecting to it (0.01 to 0.3 s).
    """

    save_s: float = 0.25
    restore_s: float = 0.6
    connect_s: float = 0.4
    tasks_s: float = 0.0
    round_trips: int = 8
    asks: int = 8
    memory_bytes_per_s: float = 400e6
    balloon_bytes_per_s: float = 190e6
    lazy_setup_s: float = 0.3

    def scaled(self, factor: float) -> Overheads:
        """The same with all that is a time so many times as long."""
        return dataclasses.replace(
            self,
            save_s=self.save_s * factor,
            restore_s=self.restore_s * factor,
            connect_s=self.connect_s * factor,
            tasks_s=self.tasks_s * factor,
            lazy_setup_s=self.lazy_setup_s * factor,
            memory_bytes_per_s=self.memory_bytes_per_s / factor,
            balloon_bytes_per_s=self.balloon_bytes_per_s / factor,
        )


@dataclasses.dataclass(frozen=True)
class Path:
    """The way to the far end.

    Attributes:
        link: what memory migrates over.
        delay_s: in one direction.
        carry_s: how long it takes to carry a disk there; None: nobody does.
        carried_bytes_per_s: writing that disk, and reading it.
        overheads: see there.
    """

    link: Link
    delay_s: float = 0.0
    carry_s: float | None = None
    carried_bytes_per_s: float = 100e6
    overheads: Overheads = dataclasses.field(default_factory=Overheads)

    @property
    def bytes_per_s(self) -> float:
        return self.link.bandwidth_bytes_per_s

    @property
    def ask_s(self) -> float:
        return 2 * self.overheads.asks * self.delay_s

    @property
    def pack_exponent(self) -> float:
        """See L(PACKED)."""
        return next((power for most, power in PACKED if self.bytes_per_s <= most), PACKED_FAST)

    @property
    def connect_s(self) -> float:
        return self.overheads.connect_s + 2 * self.overheads.round_trips * self.delay_s


def thin_path(
    bytes_per_s: float,
    delay_s: float,
    carry_s: float | None = None,
    overheads: Overheads | None = None,
) -> Path:
    """A path over a link of so many bytes in a second, with the start of a migration as long as it then takes."""
    made = overheads or Overheads()
    link = Link(
        bandwidth_bytes_per_s=bytes_per_s,
        queue_bytes=min(Link.queue_bytes, SMALL_QUEUE_BYTES),
        before_s=0.25 + SETUP_BYTES / bytes_per_s + 2 * made.round_trips * delay_s,
        after_s=0.21 + 4 * delay_s,
        spread=SPREAD,
    )
    return Path(link, delay_s, carry_s, overheads=made)
