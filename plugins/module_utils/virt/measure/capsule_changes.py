# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: looks how much of a running guest is not as in its newest capsule on this host.

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import sampled_changes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import BlockManifest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.sampled_changes import Changes, both
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import qcow2_metadata
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import direct_reads, guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guest_look import GuestDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer, chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import node_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import memory_sample

#: In pieces of 1 MiB, memory is read at 140 MiB/s; 64 KiB take a third of the time of 1 MiB (libvirt 11.3). So small
#: guests are read in full, and of others evenly spread pieces.
WHOLE_BYTES_PER_S = 100 * 1024**2
WHOLE_PIECE_BYTES = 1024**2
MOST_PIECES = 1024
LEAST_PIECES = 16
#: What is read of a disk, at most.
MOST_DISK_BYTES = 16 * 1024**2
#: Pieces of disks, and of memory that is not read in full.
PIECE_BYTES = 64 * 1024
#: Of larger images the digests are not looked through for clusters that the guest has not flushed: 4 s at this size.
MOST_COMPARED_BYTES = 64 * 1024**3
NOTHING = Changes(0, 1.0, 0, 0.0)


def newest(store: CapsuleStore, uuid: str) -> StoredCapsule | None:
    """The newest capsule of a guest that is here; None: there is none, or the store cannot be read."""
    with contextlib.suppress(CapsuleError, OSError):
        return max(store.capsules(uuid), key=lambda one: int(one.document["number"]), default=None)
    return None


def look(domain: t.Any, store: CapsuleStore, capsule: StoredCapsule, seconds: float) -> dict[str, t.Any]:
    """How much of a guest is not as in a capsule.

    Args:
        domain: a running guest, on a writable connection.
        store: of this host.
        capsule: of this guest.
        seconds: for its memory. Disks take less.

    Returns:
        C(guest), C(number), C(digest), C(memory), and C(disks) by target. What cannot be told is null, or left out.
    """
    document = capsule.document
    memory = None
    # A sample makes a forecast better. Without it there still is one, so no error here ends anything.
    with contextlib.suppress(CapsuleError, OSError, virt.libvirt.libvirtError):
        memory = _memory(domain, store, document["memory"], seconds)
    disks = {}
    with contextlib.suppress(virt.libvirt.libvirtError):
        here = {disk.target: disk for disk in guest_look.look_at(domain, secure=False).disks}
        for one in document["disks"]:
            disk = here.get(one["target"])
            with contextlib.suppress(CapsuleError, OSError):
                found = _disk(disk, store, one["image"]) if disk is not None else None
                if found is not None:
                    disks[one["target"]] = found
    return {
        "guest": {"name": domain.name(), "uuid": domain.UUIDString()},
        "number": document["number"],
        "digest": capsule.digest,
        "memory": memory._asdict() if memory else None,
        "disks": disks,
    }


def _memory(domain: t.Any, store: CapsuleStore, saved: t.Mapping[str, t.Any] | None, seconds: float) -> Changes | None:
    if saved is None:
        return None
    manifest = store.manifest(saved["image"])
    size = int(domain.maxMemory()) * 1024
    whole = size <= min(memory_sample.HOLE, seconds * WHOLE_BYTES_PER_S)
    pieces = _whole(domain, size) if whole else _spread(domain, seconds)
    return sampled_changes.of_memory(pieces, manifest, size)


def _whole(domain: t.Any, size: int) -> t.Iterator[bytes]:
    """All of a guest's memory; it runs on meanwhile."""
    for place in range(0, size, WHOLE_PIECE_BYTES):
        length = min(WHOLE_PIECE_BYTES, size - place)
        yield domain.memoryPeek(place, length, virt.libvirt.VIR_MEMORY_PHYSICAL)


def _spread(domain: t.Any, seconds: float) -> t.Iterator[bytes]:
    """Pieces of a guest's memory for so long."""
    end = time.monotonic() + seconds
    for number, place in enumerate(memory_sample.spread(domain, MOST_PIECES, PIECE_BYTES)):
        if number >= LEAST_PIECES and time.monotonic() >= end:
            return
        yield domain.memoryPeek(place, PIECE_BYTES, virt.libvirt.VIR_MEMORY_PHYSICAL)


def _disk(disk: GuestDisk, store: CapsuleStore, image: str) -> dict[str, t.Any] | None:
    """Of the layer that the guest has written since."""
    record = store.image(image)
    if record is None or disk.form != "qcow2":
        return None
    layers = chain(disk.path, disk.form)
    if len(layers) < 2 or layers[1].path != os.path.realpath(record["path"]):
        return None
    description = direct_reads.described(node_of(layers), in_use=True)
    extents = direct_reads.parsed(description, layers, layers[0].size_bytes) if description else None
    if extents is None:
        return None
    own = [
        (extents.starts[at], extents.places[at], extents.starts[at + 1] - extents.starts[at])
        for at, layer in enumerate(extents.files)
        if layer == 0
    ]
    manifest = store.manifest(image)
    with open(layers[0].path, "rb", buffering=0) as file:
        named = _named(file.fileno(), own, manifest)
        others = _unnamed(file.fileno(), layers[0], own, manifest)
    found = both(named, others) if others else named
    return {**found._asdict(), "unflushed_seen": others is not None}


def _named(file: int, own: t.Sequence[tuple[int, int, int]], manifest: BlockManifest) -> Changes:
    """What the file's tables name, each block compared with that at its place in the image."""
    written = sum(length for dummy, dummy, length in own)
    blocks = [(start, os.pread(file, length, place)) for start, place, length in _some(own, written)]
    return sampled_changes.of_disk(blocks, manifest, written) or NOTHING


def _unnamed(file: int, layer: Layer, own: t.Sequence[tuple[int, int, int]], manifest: BlockManifest) -> Changes | None:
    """What no table of the file names yet, as the guest has not flushed since; None: that cannot be told."""
    size = layer.cluster_bytes
    if size is None or manifest.size_bytes > MOST_COMPARED_BYTES:
        return None
    taken = {number for dummy, place, length in own for number in range(place // size, -(-(place + length) // size))}
    try:
        taken |= qcow2_metadata.clusters(lambda at, length: os.pread(file, length, at), size)
    except ValueError:
        return None
    rest = [(0, number * size, size) for number in range(os.fstat(file).st_size // size) if number not in taken]
    pieces = [os.pread(file, length, place) for dummy, place, length in _some(rest, len(rest) * size)]
    return sampled_changes.of_clusters(pieces, manifest, len(rest) * size) or NOTHING


def _some(ranges: t.Sequence[tuple[int, int, int]], total: int) -> t.Iterator[tuple[int, int, int]]:
    """Pieces of ranges, each where in the image, where in its file, and its length: all, or as many, evenly spread."""
    every = max(1, -(-total // MOST_DISK_BYTES))
    number = 0
    for start, place, length in ranges:
        for at in range(0, length, PIECE_BYTES):
            if number % every == 0:
                yield start + at, place + at, min(PIECE_BYTES, length - at)
            number += 1
