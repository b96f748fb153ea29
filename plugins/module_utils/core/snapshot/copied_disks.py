# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find the disks that must be copied over the network, because the destination has no access to them.

A disk that libvirt cannot copy, or must not, has a refusal of its own (``uncopyable`` in the snapshot).
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal


class Place(t.NamedTuple):
    """Where one image of a disk is.

    Attributes:
        shared: whether the destination can see it; None: not known.
        why: what storage it is on.
        undeclared: the mount, where several hosts can share it but libvirt takes it for local.
    """

    shared: bool | None = None
    why: str | None = None
    undeclared: str | None = None


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
    """Whether a disk must be copied along: writable, and out of the destination's sight."""
    return (
        bool(disk.get("source"))
        and disk.get("shared") is False
        and not disk.get("readonly")
        and not disk.get("shareable")
        and not disk.get("uncopyable")
    )


def to_copy(guest: Domain, intent: Intent) -> list[dict[str, t.Any]]:
    """The disks of a guest that go along, each with ``copy_bytes``: what has to be copied of it, or None when unknown.

    An image is copied as far as it is allocated; a disk that is not thin, whole.
    """
    if not intent["allow_storage_copy"]:
        return []
    return [
        {**disk, "copy_bytes": disk.get("allocation_bytes") or disk.get("capacity_bytes")}
        for disk in guest.get("disks") or []
        if is_copied(disk)
    ]
