# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the images that guests have left on this host: what they are now, and the removal of those
# that nobody needs.

from __future__ import annotations

import contextlib
import datetime
import os
import posixpath
import shlex
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import left_copies as copies
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CAPSULE_DIR, CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies, left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import left_digests
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import published_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.image_users import unused
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage_pools import storage_pools

PROC = Path("/proc")


class RemovalRequest(t.NamedTuple):
    """What is to be done with the copies of a host.

    Attributes:
        state_dir: where the host keeps its records.
        remove: whether to remove those that nobody needs; otherwise they are only looked at.
        keep_s: copies are kept for so many seconds.
        snapshots: of all hosts, taken just before.
        dry: change nothing, and say what would be removed.
        now: the time of now.
        capsule_dir: where the host keeps the records of exports.
    """

    state_dir: str
    remove: bool
    keep_s: float
    snapshots: t.Sequence[t.Mapping[str, t.Any]]
    dry: bool
    now: datetime.datetime
    capsule_dir: str = CAPSULE_DIR


def look_through(connection: t.Any, request: RemovalRequest) -> list[dict[str, t.Any]]:
    """Every image that a guest has left on this host, and what was done with it.

    Beside them, with C(begun), those that a run has begun at other hosts for guests of this one and has not ended.

    C(status) is C(gone) (there is no such file), C(home) (the guest has come back to it), C(kept), C(would_remove) or
    C(removed). C(why) says why a copy is kept.

    Args:
        connection: to this host's libvirtd; a writable one unless nothing is to be changed.
        request: what is to be done.
    """
    found = []
    for record in left_copies.load_all(request.state_dir):
        rows = [_row(connection, record, disk, request) for disk in record["disks"]]
        found.extend(rows)
        if request.remove and not request.dry:
            rest = [disk for disk, row in zip(record["disks"], rows) if row["status"] == "kept"]
            _keep_record(connection, request.state_dir, {**record, "disks": rest}, before=record)
    return found + _begun(request)


def _begun(request: RemovalRequest) -> list[dict[str, t.Any]]:
    """Copies that were begun at hosts whose snapshots show that no guest has them."""
    by_host = {str(snapshot["host"]): snapshot for snapshot in request.snapshots}
    rows: list[dict[str, t.Any]] = []
    for begun in begun_copies.load_all(request.state_dir):
        there, guest = by_host.get(begun["destination"]), begun["guest"]
        if there is None:
            continue
        left = copies.begun_at(begun_copies.images([begun]), t.cast("t.Any", there), guest["uuid"])
        rows += [_begun_row(guest, begun["destination"], one) for one in begun["disks"] if one["path"] in left]
    return rows


def _begun_row(guest: t.Mapping[str, str], host: str, disk: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    why = refusal(
        "copy_begun",
        f"{disk['path']} on {host} is a copy of disk {disk['target']} of {guest['name']} that was begun and not ended",
        f"the next move of {guest['name']} to {host} overwrites it; to remove it now, if it is there:"
        f" virsh vol-delete {shlex.quote(disk['path'])} on {host}",
    )
    unknown = dict.fromkeys(("size_bytes", "allocated_bytes", "at", "age_s", "destination"))
    row = {"guest": dict(guest), "host": host, "target": disk["target"], "path": disk["path"], **unknown}
    return {**row, "digests": False, "status": "begun", "why": dict(why)}


def _row(
    connection: t.Any, record: copies.Record, disk: t.Mapping[str, t.Any], request: RemovalRequest
) -> dict[str, t.Any]:
    age_s = _age_s(disk.get("at"), request.now)
    facts = left_copies.facts_of(disk["path"])
    row = {
        "guest": dict(record["guest"]),
        "host": record["host"],
        "target": disk.get("target"),
        "path": disk["path"],
        "size_bytes": facts["size_bytes"],
        "allocated_bytes": facts["allocated_bytes"],
        "at": disk.get("at"),
        "age_s": None if age_s is None else round(age_s),
        "destination": disk.get("destination"),
        "digests": left_copies.digests_are_there(disk),
        "why": None,
    }
    try:
        os.lstat(disk["path"])
    except (FileNotFoundError, NotADirectoryError):
        return {**row, "status": "gone"}
    except OSError as error:
        return {**row, "status": "kept", "why": dict(_not_seen(record, disk, error))}
    if _is_home(record, disk, request.snapshots):
        return {**row, "status": "home"}
    now = copies.ImageNow(
        facts["size_bytes"],
        facts["mtime_ns"],
        facts["is_file"],
        _users(connection, disk["path"], request.capsule_dir),
        facts["link_to"],
    )
    why = copies.against_removal(record, disk, now, request.snapshots, age_s=age_s, least_age_s=request.keep_s)
    if why is None and request.remove and not request.dry:
        try:
            os.unlink(disk["path"])
        except OSError as error:
            why = refusal(
                "copy_not_removed",
                f"{disk['path']} on {record['host']} could not be removed: {error.strerror or error}",
                "see whether its file system is mounted read-only",
            )
        else:
            left_digests.remove(disk["path"])
            tell_pools(connection, [disk["path"]])
            return {**row, "status": "removed"}
    if why is None:
        return {**row, "status": "would_remove"}
    return {**row, "status": "kept", "why": dict(why)}


def _not_seen(record: copies.Record, disk: t.Mapping[str, t.Any], error: OSError) -> Refusal:
    return refusal(
        "copy_not_seen",
        f"{disk['path']} on {record['host']} cannot be looked at: {error.strerror or error}",
        f"repair what keeps it from being read (on {record['host']}: ls -l {shlex.quote(disk['path'])})",
    )


def _is_home(record: copies.Record, disk: t.Mapping[str, t.Any], snapshots: t.Iterable[t.Mapping[str, t.Any]]) -> bool:
    """Whether the guest runs here again, from this very path."""
    return any(
        domain["uuid"] == record["guest"]["uuid"] and domain["state"] == "running" and one.get("source") == disk["path"]
        for snapshot in snapshots
        if snapshot["host"] == record["host"]
        for domain in snapshot.get("domains") or []
        for one in domain.get("disks") or []
    )


def _users(connection: t.Any, path: str, capsule_dir: str) -> tuple[str, ...] | None:
    """What uses an image: a guest, a process, or a far end that still reads it; None where that cannot be told."""
    readers = _readers(path, capsule_dir)
    if readers:
        return readers
    try:
        named = path not in unused(connection, [path])
        found = os.stat(path)
    except (OSError, virt.libvirt.libvirtError):
        return None
    holders = _holders((found.st_dev, found.st_ino))
    if holders is None:
        return None
    return (*(("a guest of this host",) if named else ()), *holders)


def _readers(path: str, capsule_dir: str) -> tuple[str, ...]:
    """The fills at far ends that need an image, whether they are connected now or not."""
    return tuple(
        f"the unfinished fill of {record['guest']['name']} on {record['details']['far_end']}"
        for record in CapsuleStore(capsule_dir).runs("export").values()
        if not record["ended"] and any(disk["path"] == path for disk in record["details"]["disks"])
    )


def _holders(image: tuple[int, int]) -> tuple[str, ...] | None:
    """The processes that have a file open; None where they cannot be looked at."""
    if os.geteuid() != 0:
        return None
    found = []
    for process in PROC.iterdir():
        if not process.name.isdecimal():
            continue
        # It may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    held = descriptor.stat()
                    if (held.st_dev, held.st_ino) == image:
                        found.append(f"process {process.name}")
                        break
    return tuple(found)


def tell_pools(connection: t.Any, paths: t.Iterable[str]) -> None:
    """Let libvirt look at the pools of these images again, so that it lists what is there and no more."""
    directories = {posixpath.dirname(posixpath.normpath(path)) for path in paths}
    with contextlib.suppress(virt.libvirt.libvirtError):
        storage_pools(connection, refresh=lambda pool: pool["path"] in directories)


def _keep_record(connection: t.Any, state_dir: str, record: copies.Record, before: copies.Record) -> None:
    if record["disks"] == before["disks"]:
        return
    left_copies.store(state_dir, record)
    with contextlib.suppress(virt.libvirt.libvirtError):
        published_copies.publish(connection, record)


def _age_s(at: t.Any, now: datetime.datetime) -> float | None:
    try:
        return (now - datetime.datetime.fromisoformat(str(at).replace("Z", "+00:00"))).total_seconds()
    except (ValueError, TypeError):
        return None
