# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find the disks that must be copied over the network, because the destination has no access to them.

A disk that libvirt cannot copy, or must not, has a refusal of its own (``uncopyable`` in the snapshot).
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: The first libvirt that finds zeros while it copies (migrate_disks_detect_zeroes); both ends must have it.
LIBVIRT_DETECT_ZEROES = (10, 9, 0)
#: The first libvirt that can mirror a disk in step with the guest's writes (VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES).
LIBVIRT_IN_STEP = (8, 0, 0)
#: What libvirt can copy: it makes no other kind of disk at the destination, and block jobs do not work on these.
COPIED_TYPES = ("file", "block", "volume")


class Lost(t.NamedTuple):
    """Why it is not known where a volume is.

    Attributes:
        what: how a sentence about the disk goes on; empty: nothing is known.
        remedy: a command.
    """

    what: str
    remedy: str


class Place(t.NamedTuple):
    """Where one image of a disk is.

    Attributes:
        shared: whether the destination can see it; None: not known.
        why: what storage it is on.
        undeclared: the mount, where several hosts can share it but libvirt takes it for local.
        lost: why nobody can tell where it is; None: that is known, or nobody was asked.
    """

    shared: bool | None = None
    why: str | None = None
    undeclared: str | None = None
    lost: Lost | None = None


def located(disk: t.Mapping[str, t.Any], top: Place, below: t.Sequence[Place]) -> dict[str, t.Any]:
    """What the snapshot says of where a disk is: C(shared), C(shared_why) and, if it cannot be copied, C(uncopyable).

    Args:
        disk: its part of the snapshot.
        top: where its image is.
        below: where its layers are, in their order.
    """
    places = [top, *below]
    if disk.get("readonly"):
        # libvirt takes no offence at a read-only image, and its file is there on each host that has the mount.
        places = [Place(True, place.why) if place.undeclared else place for place in places]
    decisive = next((n for value in (False, None) for n, place in enumerate(places) if place.shared is value), 0)
    found: dict[str, t.Any] = {"shared": places[decisive].shared, "shared_why": places[decisive].why}
    if found["shared"] is False:
        layer = (disk.get("layers") or [])[decisive - 1] if decisive else None
        found["uncopyable"] = _uncopyable(disk, places[0], places[decisive], layer)
    return found


def _uncopyable(
    disk: t.Mapping[str, t.Any], top: Place, decisive: Place, layer: t.Mapping[str, t.Any] | None
) -> Refusal | None:
    what = f"disk {disk['target']} ({disk['source']})"
    if layer is not None:
        what += f" rests on {layer['source']}, which"
    if decisive.lost:
        return refusal(
            "volume_not_found",
            f"{what} {decisive.lost.what}, so nobody can tell whether other hosts see it",
            f"{decisive.lost.remedy}, then run it again",
        )
    if decisive.undeclared:
        return refusal(
            "undeclared_share",
            f"{what} is on {decisive.why}; several hosts can share that, but libvirt takes it for local storage",
            f'name it in /etc/libvirt/qemu.conf on all hosts (shared_filesystems = ["{decisive.undeclared}"], libvirt '
            "10.10 or later), and restart libvirtd (virtqemud)",
        )
    if layer is not None and top.shared is not False:
        whole = "virsh blockpull" if layer.get("role") == "backing" else "qemu-img convert, while the guest is off"
        return refusal(
            "unshared_layer",
            f"{what} is on local storage ({decisive.why}); copying the disk would overwrite its shared image",
            f"put {layer['source']} on shared storage, or take it into the image ({whole})",
        )
    if disk.get("type") == "network":
        return refusal(
            "local_server",
            f"{what} is served by this very host ({decisive.why}); at the destination that is another server",
            "serve it under an address that all hosts reach, or detach it",
        )
    return None


def is_copied(disk: t.Mapping[str, t.Any]) -> bool:
    """Whether a disk must be copied along: writable, of a kind that can be, and out of the destination's sight."""
    return (
        bool(disk.get("source"))
        and (disk.get("type") or "file") in COPIED_TYPES
        and disk.get("shared") is False
        and not disk.get("readonly")
        and not disk.get("shareable")
        and not disk.get("uncopyable")
    )


def to_copy(guest: Domain, intent: Intent) -> list[dict[str, t.Any]]:
    """The disks of a guest that go along, each with ``copy_bytes``: what has to be copied of it, or None when unknown.

    An image is copied as far as it holds data; a disk that is not thin, whole. Of a disk with ``delta_bytes``, so much
    differs from its old copy at the destination. A lazy one is copied after the move: ``later_bytes`` says how much.
    """
    if not intent["allow_storage_copy"]:
        return []
    disks = [{**disk, "copy_bytes": _copy_bytes(disk)} for disk in guest.get("disks") or [] if is_copied(disk)]
    if intent.get("disks") == "lazy":
        return [{**disk, "copy_bytes": 0, "later_bytes": disk["copy_bytes"]} for disk in disks]
    return disks


def _copy_bytes(disk: t.Mapping[str, t.Any]) -> int | None:
    return whole_bytes(disk) if disk.get("delta_bytes") is None else int(disk["delta_bytes"])


def whole_bytes(disk: t.Mapping[str, t.Any]) -> int | None:
    """What a copy of the whole disk sends; None when unknown."""
    # libvirt's allocation of a running guest is the highest offset that was written. It says little about holes.
    data, capacity = disk.get("data_bytes"), disk.get("capacity_bytes")
    if data is not None:
        return int(data) if capacity is None else min(int(data), int(capacity))
    size = disk.get("allocation_bytes") or capacity
    return None if size is None else int(size)


def keeps_holes(source: Snapshot, destination: Snapshot) -> bool:
    """Whether both libvirts can keep the holes of an image that they copy."""
    found = [versions.parsed((side.get("versions") or {}).get("libvirt")) for side in (source, destination)]
    return all(version is not None and version >= LIBVIRT_DETECT_ZEROES for version in found)


def writes_in_step(source: Snapshot, destination: Snapshot) -> bool:
    """Whether both libvirts can send a write to a disk while the guest waits for it."""
    found = [versions.parsed((side.get("versions") or {}).get("libvirt")) for side in (source, destination)]
    return all(version is not None and version >= LIBVIRT_IN_STEP for version in found)


def cannot_copy(disk: t.Mapping[str, t.Any], what: str) -> Refusal:
    """Why a disk of a kind that libvirt cannot copy keeps its guest here.

    Args:
        disk: out of the destination's sight.
        what: the disk and where it is, as the start of a sentence.
    """
    return refusal(
        "disk_not_copied",
        f"{what}, and libvirt cannot copy a disk of type {disk.get('type')}",
        "put it on shared storage or into a file or a volume, or detach it",
    )
