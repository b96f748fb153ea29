# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The images that stay on a host when a guest leaves it with copies of its disks (``kvmops.left_copies/1``).

Such an image is the copy to come home to: a move back may overwrite it. It may be removed once the guest provably runs
elsewhere from another image.
"""

from __future__ import annotations

import dataclasses
import shlex
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds, listed

SCHEMA = "kvmops.left_copies/1"

Record = dict[str, t.Any]
Disk = t.Mapping[str, t.Any]
_OF_GUEST = shape.mapping(
    {"guest": shape.mapping({"uuid": shape.text()}, {"name": shape.text()}, others=True)},
    {"host": shape.text()},
    others=True,
)


@dataclasses.dataclass(frozen=True)
class ImageNow:
    """What an image is now, as its own host sees it.

    Attributes:
        size_bytes, mtime_ns: of the file; None when there is none.
        is_file: whether it is a regular file, and neither a link nor a device.
        users: what uses it: names of guests, or processes that have it open. None: that cannot be told.
        link_to: where it ends, if it is a symbolic link.
    """

    size_bytes: int | None
    mtime_ns: int | None
    is_file: bool = True
    users: tuple[str, ...] | None = ()
    link_to: str | None = None


def record_of(guest: t.Mapping[str, str], host: str, disks: t.Iterable[Disk], before: Record | None = None) -> Record:
    """The record of what a guest leaves behind.

    Args:
        guest: name and UUID.
        host: where the images stay.
        disks: each with C(target), C(path), C(size_bytes), C(allocated_bytes), C(mtime_ns), C(at) and C(destination).
        before: the record so far; what it has of other paths is kept.
    """
    new = [dict(disk) for disk in disks]
    paths = {disk["path"] for disk in new}
    kept = [dict(disk) for disk in (before or {}).get("disks", ()) if disk["path"] not in paths]
    return {"schema": SCHEMA, "guest": dict(guest), "host": host, "disks": [*kept, *new]}


def parsed(document: t.Any) -> Record | None:
    """A record as it was read, or None for what is none."""
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return None
    disks = document.get("disks")
    if not shape.fits(_OF_GUEST, document) or not isinstance(disks, list):
        return None
    whole = [disk for disk in disks if shape.fits(document_shapes.LEFT_COPY, disk)]
    return {**document, "disks": whole}


def is_as_we_left_it(disk: Disk, size_bytes: int | None, mtime_ns: int | None) -> bool:
    """Whether an image is the one that was recorded, and nobody has written to it since.

    What was not recorded, or cannot be seen, proves nothing.
    """
    recorded, seen = (disk.get("size_bytes"), disk.get("mtime_ns")), (size_bytes, mtime_ns)
    return None not in recorded and recorded == seen


def unchanged_of(snapshot: Snapshot, uuid: str) -> frozenset[str]:
    """Paths of what a guest has left on a host and nobody has changed, as the host's snapshot says."""
    return frozenset(copy["path"] for copy in snapshot.get("left_copies") or [] if copy["uuid"] == uuid)


def begun_at(begun: t.Iterable[t.Mapping[str, t.Any]] | None, destination: Snapshot, uuid: str) -> frozenset[str]:
    """Paths at a destination of copies that a run has begun for a guest and not ended, which no guest there names.

    Args:
        begun: as the guest's host keeps them on record: each with C(uuid), C(destination) and C(path).
        destination: snapshot of the host with these images.
        uuid: the guest.
    """
    used = {disk.get("source") for domain in destination.get("domains") or [] for disk in domain.get("disks") or []}
    paths = {
        copy["path"] for copy in begun or [] if copy["uuid"] == uuid and copy["destination"] == destination["host"]
    }
    return frozenset(paths - used)


def against_removal(
    record: Record,
    disk: Disk,
    now: ImageNow,
    snapshots: t.Iterable[Snapshot],
    *,
    age_s: float | None,
    least_age_s: float,
) -> Refusal | None:
    """Why an image is not to be removed, or None. In doubt it stays.

    Args:
        record: of the guest on this host.
        disk: of the record.
        now: the image.
        snapshots: of all hosts, taken just before.
        age_s: seconds since the guest has left; None when that cannot be told.
        least_age_s: copies are kept for so long.
    """
    path, host = disk["path"], record["host"]
    if age_s is None or age_s < least_age_s:
        age = "of unknown age" if age_s is None else f"{human_seconds(age_s)} old"
        return refusal(
            "copy_too_young",
            f"{path} is {age}, and copies are kept for {human_seconds(least_age_s)}",
            "set a shorter time (disk_copies_keep_s), if nobody needs it to come home to",
        )
    if now.link_to is not None and disk.get("is_file") is False:
        # What it leads to has a name of its own, by which others may use it.
        return refusal(
            "copy_is_link",
            f"{path} on {host} is a symbolic link to {now.link_to}, and links are not followed to remove anything",
            f"remove both on {host} by hand if nobody needs them: {shlex.join(['rm', path, now.link_to])}",
        )
    if not now.is_file or not is_as_we_left_it(disk, now.size_bytes, now.mtime_ns):
        return refusal(
            "copy_changed",
            f"{path} on {host} is not as the guest left it, so it may be something else by now",
            f"look at it on {host}, and remove it by hand if nobody needs it",
        )
    if now.users is None or now.users:
        who = f"{listed(list(now.users))} uses it" if now.users else "it cannot be told whether anything uses it"
        return refusal("copy_in_use", f"{path} on {host} stays: {who}", f"see what has it open on {host}: fuser {path}")
    return _runs_elsewhere(record, disk, snapshots)


def _runs_elsewhere(record: Record, disk: Disk, snapshots: t.Iterable[Snapshot]) -> Refusal | None:
    """None where the guest provably runs on another host from another image."""
    guest, host = record["guest"], record["host"]
    seen = [(s["host"], d) for s in snapshots for d in s.get("domains") or [] if d["uuid"] == guest["uuid"]]
    running = [(where, domain) for where, domain in seen if not is_off(domain)]
    if any(where == host for where, dummy in seen):
        return refusal(
            "guest_is_here",
            f"{guest['name']} is on {host} itself, so {disk['path']} may be its disk",
            f"see where it runs and what it is defined with: virsh dumpxml {guest['uuid']}",
        )
    if len(running) != 1 or running[0][1].get("state") != "running":
        return refusal(
            "guest_not_seen",
            f"{guest['name']} was not seen running on exactly one other host, so {disk['path']} on {host} may be all "
            "that is left of it",
            "run this with all hosts of the cluster, and find the guest first",
        )
    where, domain = running[0]
    disks = [one for one in domain.get("disks") or [] if one.get("target") == disk.get("target")]
    if not disks or any(one.get("shared") is not False for one in disks):
        return refusal(
            "guest_same_image",
            f"disk {disk.get('target')} of {guest['name']} on {where} is not surely another image than {disk['path']} "
            f"on {host}",
            f"see what it is: virsh domblklist {guest['uuid']} on {where}",
        )
    return None
