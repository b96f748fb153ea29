# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: computes the digests of images that guests have left on this host, so that they come home
# by sending only what differs.

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta import digest_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.left_copies import is_as_we_left_it
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess, opened
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.disk_digests import DigestWriter, segments

#: As low as it gets: guests go first.
NICE = 19


class Computed(t.NamedTuple):
    """What became of the digests of one image.

    Attributes:
        uuid: of the guest that has left it.
        path: of the image.
        state: C(there) before, C(computed) now, C(missing) where they are not there, C(impossible).
        why: it is impossible; None otherwise.
    """

    uuid: str
    path: str
    state: str
    why: str | None = None


def compute(state_dir: str, uuids: t.Collection[str] | None = None, *, dry: bool = False) -> list[Computed]:
    """Compute the digests of images that are as they were left, where they are not there yet.

    Args:
        state_dir: where this host keeps its records.
        uuids: of guests; None: all.
        dry: change nothing.
    """
    found: list[Computed] = []
    with _locked(state_dir, dry=dry):
        for record in left_copies.load_all(state_dir):
            uuid = record["guest"]["uuid"]
            if uuids is None or uuid in uuids:
                found.extend(_one(uuid, disk, dry=dry) for disk in record["disks"])
    return found


def _one(uuid: str, disk: t.Mapping[str, t.Any], *, dry: bool) -> Computed:
    path = str(disk["path"])
    facts = left_copies.facts_of(path)
    if not facts["is_file"] or not is_as_we_left_it(disk, facts["size_bytes"], facts["mtime_ns"]):
        return Computed(uuid, path, "impossible", "it is not as the guest left it")
    if disk.get("format") not in ("raw", "qcow2"):
        return Computed(uuid, path, "impossible", "nobody has recorded of which format it is")
    if left_copies.digests_are_there(disk):
        return Computed(uuid, path, "there")
    if dry:
        return Computed(uuid, path, "missing")
    try:
        with opened(path, str(disk["format"])) as image:
            return Computed(uuid, path, *_write(disk, image))
    except (CapsuleError, OSError) as error:
        return Computed(uuid, path, "impossible", str(error))


def _write(disk: t.Mapping[str, t.Any], image: ImageAccess) -> tuple[str, str | None]:
    """Compute the digests of one image; returns what became of them, and why that is."""
    path = str(disk["path"])
    before = os.stat(path)
    with DigestWriter(path + digest_file.SUFFIX, image.size_bytes) as writer:
        for number, segment in segments(image):
            writer.add(number, segment)
        now = os.stat(path)
        if now.st_ctime_ns != before.st_ctime_ns or not is_as_we_left_it(disk, now.st_size, now.st_mtime_ns):
            return "impossible", "somebody has written to it meanwhile"
        writer.finish(now)
    return "computed", None


def remove(path: str) -> None:
    """Remove the digests of an image that is no more."""
    with contextlib.suppress(OSError):
        os.unlink(path + digest_file.SUFFIX)


@contextlib.contextmanager
def _locked(state_dir: str, *, dry: bool) -> t.Iterator[None]:
    """One process computes at a time; another waits, and finds what the first has made."""
    folder = Path(state_dir) / "left_copies"
    if dry or not folder.is_dir():
        yield
        return
    descriptor = os.open(folder / ".digests.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def compute_later(state_dir: str, uuids: t.Collection[str]) -> None:
    """Compute digests in a process of its own, which goes on when this one has ended.

    Nothing depends on its end: what it has not computed is computed before the guest comes home. Called last in a
    process, when its connections are closed.

    Args:
        state_dir: where this host keeps its records.
        uuids: of guests; with none nothing is begun.
    """
    if not uuids:
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork() == 0:
            # libvirt's objects must not be freed here: that would wait for threads which this process does not have.
            gc.freeze()
            _leave_all()
            compute(state_dir, uuids)
    finally:
        os._exit(0)


def _leave_all() -> None:
    """Hold nothing of the process that this one comes from: its locks, its connections, its session."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    for name in os.listdir("/proc/self/fd"):
        # That of the listing is closed already.
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.close(int(name))
    os.nice(NICE)
