# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What of a guest is not sent, and why: the table of bytes as it is known before anything is read."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.moved_guest import Guest


class Avoided(t.NamedTuple):
    """Bytes that are not sent, before compression.

    Attributes:
        base: the far end has them in a base.
        zero: they are zeros.
        balloon: memory that the balloon takes from the guest.
        previous: as in an earlier capsule that the far end has.
        hash: in other images of the far end, by digest. None: not known before digests are compared.
        compression: what compressing the rest saves.
    """

    base: float
    zero: float
    balloon: float
    previous: float
    hash: float | None
    compression: float


def avoided_as_capsule(guest: Guest) -> Avoided:
    """By sending it as a capsule; what is avoided by all of them and what is sent make the whole guest."""
    kept = guest.kept_bytes
    memory = guest.memory_bytes
    memory_raw = kept if guest.memory_share == 0 else min(kept, memory / guest.memory_share)
    hashed = [disk.hashed_bytes for disk in guest.disks]
    raw = memory_raw + math.fsum(disk.raw_bytes for disk in guest.disks)
    return Avoided(
        base=math.fsum(disk.data_bytes - disk.copy_bytes for disk in guest.disks),
        zero=_zeros(guest),
        balloon=min(guest.balloon_bytes, guest.touched_bytes),
        previous=kept
        - memory_raw
        + math.fsum(max(0.0, disk.copy_bytes - disk.raw_bytes - (disk.hashed_bytes or 0.0)) for disk in guest.disks),
        hash=None if None in hashed else math.fsum(one or 0.0 for one in hashed),
        compression=raw - memory - guest.disk_bytes,
    )


def avoided_by_migration(guest: Guest) -> Avoided:
    """By migrating it: a mirror knows bases and zeros, and nothing else. What compression saves is in the forecast."""
    base = math.fsum(disk.data_bytes - disk.copy_bytes for disk in guest.disks)
    return Avoided(base, _zeros(guest), 0.0, 0.0, 0.0, 0.0)


def _zeros(guest: Guest) -> float:
    memory = float(guest.working_set["memory_bytes"]) - guest.touched_bytes
    return max(0.0, memory) + math.fsum(max(0.0, disk.size_bytes - disk.data_bytes) for disk in guest.disks)


def document(avoided: Avoided) -> dict[str, int | None]:
    """The same in whole bytes."""
    return {name: None if value is None else round(value) for name, value in avoided._asdict().items()}
