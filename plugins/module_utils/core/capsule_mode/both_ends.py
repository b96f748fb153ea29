# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What both ends have of a guest: its disks and memory here, and what of it the far end has in bases and capsules."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.disk_writes import DiskWrites
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.moved_guest import Disk, Guest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.ballooning import Memory, least_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import touched
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import unmeasured

Document = t.Mapping[str, t.Any]

#: How a guest writes that nobody has looked at: small blocks, each to a new place.
WRITE_BYTES = 4096.0
#: What the blocks of disks compress to is not known before they are read. Many files are compressed already, and rather
#: too much is promised than too little.
DISK_SHARE = 0.85
#: How long a guest goes on writing after a look, until it stops: for the choice, the lease on both hosts, and what the
#: far end says.
AFTER_LOOK_S = 9.0
#: The same, where a look has not seen what the guest had not flushed. Where in an image a block is, QEMU writes down
#: when the guest flushes (9 and 14 s of writes were missing; a Linux guest with ext4 flushes every 5 s).
UNSEEN_S = 20.0


@dataclasses.dataclass(frozen=True)
class Store:
    """What the store of one host has, from C(capsule_info).

    Attributes:
        images: digests of the images that are here, by the path of their file where that is known.
        capsules: of this guest, each with C(number), C(digest), C(made_at), C(disks), C(memory) and C(missing).
    """

    paths: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    images: t.AbstractSet[str] = frozenset()
    capsules: t.Sequence[Document] = ()


def store_of(info: Document | None, uuid: str) -> Store:
    """The store of a host, as far as one guest is concerned; an empty one for a host that told nothing."""
    info = info or {}
    images = [one for one in info.get("images") or [] if one.get("image")]
    return Store(
        paths={str(one["path"]): str(one["image"]) for one in images if one.get("path")},
        images={str(one["image"]) for one in images},
        capsules=[one for one in info.get("capsules") or [] if (one.get("guest") or {}).get("uuid") == uuid],
    )


def in_common(here: Store, there: Store) -> Document | None:
    """The newest capsule that both ends have in full; None if there is none."""
    whole = {str(one["digest"]) for one in there.capsules if not one.get("missing")}
    both = [one for one in here.capsules if str(one["digest"]) in whole and not one.get("missing")]
    return max(both, key=lambda one: int(one["number"]), default=None)


def standing(here: Store, there: Store, now: datetime.datetime) -> dict[str, t.Any]:
    """How far the far end is: C(newest) is the last capsule made here, C(seed) the last one that both have in full.

    Each has C(number) and C(age_s), and is None where there is none.
    """
    newest = max(here.capsules, key=lambda one: int(one["number"]), default=None)
    return {"newest": _numbered(newest, now), "seed": _numbered(in_common(here, there), now)}


def _numbered(capsule: Document | None, now: datetime.datetime) -> dict[str, t.Any] | None:
    age = _age(capsule, now)
    return None if capsule is None or age is None else {"number": int(capsule["number"]), "age_s": round(age)}


def guest_at(
    domain: Domain,
    working_set: Document | None,
    here: Store,
    there: Store,
    now: datetime.datetime,
    changes: Document | None = None,
) -> Guest:
    """The guest as it has to get to the far end.

    Args:
        domain: its part of the snapshot of its host.
        working_set: None: it was not measured, or is off.
        here, there: what both hosts have of it.
        now: for the age of capsules.
        changes: what has changed of it since a capsule, from C(working_set_info); None: nobody has looked.
    """
    measured = working_set or _unmeasured(domain)
    seed = in_common(here, there)
    age = _age(seed, now)
    # What has changed since another capsule says nothing of this one.
    looked = changes if changes and seed and changes["digest"] == seed["digest"] else {}
    newest = max((int(one["number"]) for one in here.capsules), default=0)
    current = seed is not None and int(seed["number"]) == newest
    rate = measured.get("disk_write_bytes_per_s")
    own = [disk for disk in domain.get("disks") or [] if disk.get("shared") is False and not disk.get("readonly")]
    each = None if rate is None else float(rate) / max(1, len(own))
    disks = tuple(
        _looked_at(_disk(disk, each, here, there, seed, age, current), looked.get("disks") or {}) for disk in own
    )
    off = is_off(domain)
    return Guest(
        {**measured, "touched_bytes": 0} if off else measured,
        disks,
        seed_age_s=age if seed is not None and seed.get("memory") else None,
        memory_changed_bytes=None if off else _sent_bytes(looked.get("memory")),
        balloon_bytes=0.0 if off else _balloon_bytes(domain, measured),
    )


def _unmeasured(domain: Domain) -> Document:
    memory = int(domain["memory_bytes"])
    guest = {"name": domain["name"], "uuid": domain["uuid"]}
    found = touched(domain.get("balloon"), memory)
    return unmeasured(guest=guest, taken_at="1970-01-01T00:00:00Z", memory_bytes=memory, touched=found)


def _disk(
    disk: Document,
    rate: float | None,
    here: Store,
    there: Store,
    seed: Document | None,
    age: float | None,
    current: bool,
) -> Disk:
    size = float(disk.get("capacity_bytes") or 0)
    data = disk.get("data_bytes")
    # Layers count one by one: what is in several of them is sent once.
    data = size if data is None else min(float(data), size or float(data))
    # Of a running guest libvirt tells the highest place that was written in its top layer: all that can be in it.
    layer = float(disk.get("allocation_bytes") or data)
    base = next((here.paths[path] for path in disk.get("backing") or [] if path in here.paths), None)
    writes = DiskWrites((rate or 0.0) / WRITE_BYTES, WRITE_BYTES, size)
    seeded = seed is not None and any(one["target"] == disk["target"] for one in seed.get("disks") or [])
    changed = None
    if seeded and age is not None:
        # The top layer was begun with the last capsule made here. It is larger than what was written, as each write
        # takes a cluster.
        changed = min(data, layer if current else data, data if rate is None else writes.different_bytes(age))
    return Disk(
        str(disk["target"]),
        data_bytes=data,
        size_bytes=size,
        layer_bytes=min(layer, data),
        base_there=base is not None and base in there.images,
        changed_bytes=changed,
        compressed_share=DISK_SHARE,
        writes=writes,
    )


def _looked_at(disk: Disk, looked: t.Mapping[str, Document]) -> Disk:
    """A disk with what a look has found of it, and what it has not seen."""
    found = looked.get(disk.target)
    if found is None:
        return disk
    seconds = AFTER_LOOK_S if found.get("unflushed_seen") else UNSEEN_S
    changed = float(found["changed_bytes"]) + disk.writes.different_bytes(seconds)
    return dataclasses.replace(
        disk, changed_bytes=min(disk.data_bytes, changed), compressed_share=float(found["compressed_share"])
    )


def _sent_bytes(found: Document | None) -> float | None:
    return None if found is None else float(found["changed_bytes"]) * float(found["compressed_share"])


def _balloon_bytes(domain: Domain, measured: Document) -> float:
    """Memory that the guest has touched and does not use, as far as its balloon tells."""
    told = domain.get("balloon") or {}
    current, unused = told.get("current_bytes"), told.get("unused_bytes")
    if not current or unused is None or domain.get("hugepage_bytes"):
        return 0.0
    kept = least_bytes(Memory(int(current), usable_bytes=told.get("usable_bytes"), unused_bytes=int(unused)))
    return float(max(0.0, float(measured["touched_bytes"]) - kept))


def _age(seed: Document | None, now: datetime.datetime) -> float | None:
    """Seconds since a capsule was made. By a clock that is ahead of this one it was made just now."""
    if seed is None:
        return None
    made_at = datetime.datetime.fromisoformat(str(seed["made_at"]).replace("Z", "+00:00"))
    return max(0.0, (now - made_at).total_seconds())
