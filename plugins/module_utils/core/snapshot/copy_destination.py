# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Decide whether a destination has a place for the disks that are copied to it. Nothing that exists is overwritten."""

from __future__ import annotations

import posixpath
import shlex
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import to_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import mount_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import GIB, human_bytes, listed

#: libvirt makes volumes in pools of these types. In others it finds what is there.
MAKING_TYPES = ("dir", "fs", "netfs", "logical")
#: Their volumes are block devices.
DEVICE_TYPES = ("logical",)
#: Their volumes are as large as the disk from the start.
THICK_TYPES = ("logical",)
#: This share of a pool stays free, but no more than so many bytes: guests that are there go on writing.
RESERVE_SHARE = 0.05
MOST_RESERVE_BYTES = 10 * GIB

Pool = t.Mapping[str, t.Any]
Disk = t.Mapping[str, t.Any]


def refusals(
    domain: Domain,
    source: Snapshot,
    destination: Snapshot,
    intent: Intent,
    *,
    ours: t.Collection[str] = (),
    changed: t.Collection[str] = (),
) -> list[Refusal]:
    """Why the guest's disks cannot be copied there; empty when they can, or when none is copied.

    Args:
        domain: the guest.
        source, destination: snapshots. A destination without C(storage_pools) does not say, and nothing is refused.
        intent: a complete intent.
        ours: paths at the destination that are proven to be old copies of this very guest, which may be overwritten.
        changed: targets of disks whose old copies there are not as they were left, or are used.
    """
    disks, pools = to_copy(domain, intent), destination.get("storage_pools")
    if not disks or pools is None:
        return []
    found: list[Refusal | None] = []
    for together in _by_place(disks, pools):
        pool = pool_of(together[0], pools)
        if pool is None:
            found.append(_no_pool(domain, together, source, destination))
            continue
        fault = _pool_fault(domain, together, pool, destination)
        found.extend([fault] if fault else _existing(domain, together, pool, destination, ours, changed))
    found.extend(_missing_layers(domain, disk, pools, source, destination) for disk in disks)
    found.extend(_no_space(disks, pools, destination, ours))
    return [refused for refused in found if refused]


def _by_place(disks: t.Iterable[Disk], pools: t.Sequence[Pool]) -> list[list[Disk]]:
    """The disks, those together that are of one type and go to one pool, or to one place that has none."""
    places: dict[tuple[str, str], list[Disk]] = {}
    for disk in disks:
        pool = pool_of(disk, pools)
        where = f"pool {pool['name']}" if pool else _pool_name(disk) if disk["type"] == "volume" else _directory(disk)
        places.setdefault((disk["type"], where), []).append(disk)
    return list(places.values())


def _pool_name(disk: Disk) -> str:
    """The name of the pool that a disk of type C(volume) is in."""
    return str(disk["source"]).partition("/")[0]


def _directory(disk: Disk) -> str:
    return posixpath.dirname(posixpath.normpath(str(disk["source"])))


def _named(disks: t.Sequence[Disk]) -> str:
    """Disks in a sentence.

    >>> _named([{"target": "vda"}]), _named([{"target": f"vd{letter}"} for letter in "abcde"])
    ('disk vda', 'disks vda, vdb, vdc and 2 more')
    """
    return f"{'disk' if len(disks) == 1 else 'disks'} {listed([str(disk['target']) for disk in disks])}"


def pool_of(disk: Disk, pools: t.Iterable[Pool]) -> Pool | None:
    """The pool in which a copy of this disk would be a volume; None: there is none."""
    if disk["type"] == "volume":
        return next((pool for pool in pools if pool["name"] == _pool_name(disk)), None)
    directory = _directory(disk)
    at = [pool for pool in pools if pool["path"] and posixpath.normpath(pool["path"]) == directory]
    # A pool that is not active may be an old definition beside the one that is.
    return next((pool for pool in at if pool["active"]), at[0] if at else None)


def volume_of(disk: Disk) -> str:
    """The name of a disk's volume.

    >>> volume_of({"type": "file", "source": "/var/lib/libvirt/images/web1.qcow2"})
    'web1.qcow2'
    >>> volume_of({"type": "volume", "source": "fast/web1"})
    'web1'
    """
    if disk["type"] == "volume":
        return str(disk["source"]).partition("/")[2]
    return posixpath.basename(posixpath.normpath(str(disk["source"])))


def path_of(disk: Disk, pool: Pool) -> str:
    """Where the copy would be."""
    return posixpath.join(str(pool["path"] or ""), volume_of(disk))


def reserve_bytes(pool: Pool) -> int:
    """What stays free in a pool."""
    return min(MOST_RESERVE_BYTES, int(RESERVE_SHARE * (pool["capacity_bytes"] or 0)))


def already_there(host: str, guest: str, disk: Disk, pool: Pool, *, is_old_copy: bool = False) -> Refusal:
    """Something has the place of a copy.

    Args:
        is_old_copy: whether it is what the guest has left there, and somebody has changed it or uses it.
    """
    name, volume = shlex.quote(pool["name"]), shlex.quote(volume_of(disk))
    if is_old_copy:
        return refusal(
            "old_copy_changed",
            f"{path_of(disk, pool)} on {host} is the old copy of disk {disk['target']} of {guest}, and is not as it "
            "was left, or another guest names it; so it is neither used nor overwritten",
            f"see on {host} who needs it (virsh vol-info {volume} --pool {name}), and remove it if nobody does: "
            f"virsh vol-delete {volume} --pool {name}",
        )
    return refusal(
        "disk_exists",
        f"{path_of(disk, pool)} is on {host} already, where disk {disk['target']} of {guest} would be copied, and "
        "nothing that exists is overwritten",
        f"see on {host} what it is (virsh vol-info {volume} --pool {name}), and rename or remove it if nobody needs it",
    )


def _no_pool(domain: Domain, disks: t.Sequence[Disk], source: Snapshot, destination: Snapshot) -> Refusal:
    host, what, disk = destination["host"], f"{_named(disks)} of {domain['name']} would be copied", disks[0]
    if disk["type"] == "volume":
        pool = _pool_name(disk)
        return refusal(
            "no_pool",
            f"{host} has no storage pool called {pool}, where {what}",
            f"define one on {host} as on {source['host']} (virsh pool-dumpxml {shlex.quote(pool)}, virsh pool-define, "
            "virsh pool-start)",
        )
    directory = _directory(disk)
    name = shlex.quote(posixpath.basename(directory) or "images")
    if disk["type"] == "block":
        devices = "a new device" if len(disks) == 1 else "new devices"
        return refusal(
            "no_pool",
            f"{host} has no storage pool at {directory}, where {what} to {devices}",
            f"make one on {host} if {directory} is a volume group (virsh pool-create-as {name} logical --source-name "
            f"{name} --target {shlex.quote(directory)}), or put the disk on shared storage",
        )
    return refusal(
        "no_pool",
        f"{host} has no storage pool at {directory}, where {what}",
        f"make one on {host}: virsh pool-create-as {name} dir --target {shlex.quote(directory)}",
    )


def _pool_fault(domain: Domain, disks: t.Sequence[Disk], pool: Pool, destination: Snapshot) -> Refusal | None:
    host, which = destination["host"], f"{_named(disks)} of {domain['name']}"
    what = f"{which} would be copied"
    if not pool["active"]:
        return refusal(
            "pool_inactive",
            f"storage pool {pool['name']} of {host}, where {what}, is not active",
            f"start it on {host}: virsh pool-start {shlex.quote(pool['name'])}",
        )
    if pool["type"] not in MAKING_TYPES:
        return refusal(
            "pool_makes_no_volumes",
            f"storage pool {pool['name']} of {host} is of type {pool['type']}, in which libvirt cannot make a copy of "
            f"{which}",
            "put the disk on shared storage, or copy it by hand while the guest is off",
        )
    if disks[0]["type"] == "block" and pool["type"] not in DEVICE_TYPES:
        return refusal(
            "pool_makes_no_devices",
            f"storage pool {pool['name']} of {host} has files, and {which} is a block device, which needs one there",
            f"put the disk on shared storage, or define it as a file while the guest is off (virsh edit "
            f"{shlex.quote(domain['name'])})",
        )
    if pool["volumes"] is None:
        return refusal(
            "pool_not_answering",
            f"storage pool {pool['name']} of {host}, where {what}, does not say what is in it",
            f"see on {host}: virsh pool-refresh {shlex.quote(pool['name'])}",
        )
    return None


def _existing(
    domain: Domain,
    disks: t.Sequence[Disk],
    pool: Pool,
    destination: Snapshot,
    ours: t.Collection[str],
    changed: t.Collection[str],
) -> list[Refusal]:
    return [
        already_there(destination["host"], domain["name"], disk, pool, is_old_copy=disk["target"] in changed)
        for disk in disks
        if volume_of(disk) in pool["volumes"] and path_of(disk, pool) not in ours
    ]


def _missing_layers(
    domain: Domain, disk: Disk, pools: t.Sequence[Pool], source: Snapshot, destination: Snapshot
) -> Refusal | None:
    """The copy holds the contents of all layers. libvirt wants to see the layers at the destination all the same."""
    there = {posixpath.join(pool["path"], name) for pool in pools if pool["path"] for name in pool["volumes"] or ()}
    below = [layer["source"] for layer in disk.get("layers") or ()] or disk.get("backing") or ()
    missing = []
    for layer in map(str, below):
        # A relative name in an image is libvirt's to resolve. What it makes of it may have "..".
        path = posixpath.normpath(layer)
        mount = mount_of(path, source.get("mounts") or [])
        if layer.startswith("/") and path not in there and not (mount and mount["shared"]):
            missing.append(path)
    if not missing:
        return None
    guest, files = shlex.quote(domain["name"]), "the same file" if len(missing) == 1 else "the same files"
    return refusal(
        "no_backing_file",
        f"disk {disk['target']} rests on {listed(missing)}, which no storage pool of {destination['host']} has",
        f"make the disk independent of {'it' if len(missing) == 1 else 'them'} (virsh blockpull {guest} "
        f"{disk['target']} --wait), or put {files} there on {destination['host']}, in a storage pool",
    )


def _no_space(
    disks: t.Sequence[Disk], pools: t.Sequence[Pool], destination: Snapshot, ours: t.Collection[str]
) -> t.Iterator[Refusal]:
    for pool in pools:
        here = [disk for disk in disks if pool_of(disk, pools) is pool]
        available = pool["available_bytes"]
        if not here or available is None or not pool["active"]:
            continue
        size = "capacity_bytes" if pool["type"] in THICK_TYPES else "copy_bytes"
        sizes = [int(disk[size] or disk.get("later_bytes") or 0) for disk in here if path_of(disk, pool) not in ours]
        needed = sum(sizes)
        reserve = reserve_bytes(pool)
        if needed + reserve > available and needed:
            yield refusal(
                "no_space",
                f"storage pool {pool['name']} of {destination['host']} has {human_bytes(available)} free; "
                f"{_named(here)} need{'s' if len(here) == 1 else ''} "
                f"{human_bytes(needed)}, and {human_bytes(reserve)} must stay free",
                f"make room there (virsh vol-list --details {shlex.quote(pool['name'])}), or choose another host",
            )
