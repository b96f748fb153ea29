# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the old copy of a disk at a destination, over which only what differs need be sent.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta import digest_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.digest_file import DigestFileError, Index
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import volume_files

Disk = t.Mapping[str, t.Any]

#: Images whose content can be compared while a guest runs on an overlay over them.
FORMATS = ("raw", "qcow2")


class NoDeltaError(Exception):
    """A disk is copied as a whole; says why in words."""


class OldCopy(t.NamedTuple):
    """The old copy of one disk.

    Attributes:
        target: of the disk.
        pool, volume, path: where the copy is at the destination.
        form: its format.
        left: its part of the record of the destination.
    """

    target: str
    pool: str
    volume: str
    path: str
    form: str
    left: Disk


def refuse_kind(disk: Disk) -> None:
    """See whether a disk is of a kind of which only what differs can be sent.

    Raises: NoDeltaError where it is not.
    """
    if disk["type"] != "file":
        raise NoDeltaError(f"disk {disk['target']} is no file (type {disk['type']})")
    if disk.get("format") not in FORMATS:
        raise NoDeltaError(f"disk {disk['target']} is of format {disk.get('format')}")


def find(there: t.Any, old: OldCopy, host: str) -> OldCopy:
    """See whether the digests of an old copy are there. Its pool was refreshed.

    Args:
        there: connection to the destination; it may be read-only.
        old: the copy, which is as it was left.
        host: the destination's name.

    Returns: the copy with the format that it has.

    Raises: NoDeltaError where the digests are missing, or its format was not recorded.
    """
    try:
        pool = there.storagePoolLookupByName(old.pool)
        pool.storageVolLookupByName(old.volume + digest_file.SUFFIX)
    except virt.libvirt.libvirtError as error:
        raise NoDeltaError(f"nobody has computed the digests of {old.path} on {host}") from error
    # What libvirt finds in the file is no proof: a guest can make a raw disk look like another format.
    form = old.left.get("format")
    if form not in FORMATS:
        raise NoDeltaError(f"nobody has recorded of which format {old.path} on {host} is")
    return old._replace(form=str(form))


def volume_of(there: t.Any, old: OldCopy) -> t.Any:
    """The volume with the digests.

    Raises: libvirtError.
    """
    return there.storagePoolLookupByName(old.pool).storageVolLookupByName(old.volume + digest_file.SUFFIX)


def index_of(there: t.Any, old: OldCopy, size_bytes: int, host: str) -> Index:
    """Read the index of the digests of an old copy.

    Args:
        there: writable connection to the destination.
        old: the copy.
        size_bytes: of the disk now.
        host: the destination's name.

    Raises: NoDeltaError where the digests are not those of the copy as it is.
    """
    try:
        data = volume_files.read(volume_of(there, old), 0, digest_file.index_bytes(size_bytes))
        index = Index(data, size_bytes)
    except virt.libvirt.libvirtError as error:
        raise NoDeltaError(f"the digests of {old.path} on {host} cannot be read: {error}") from error
    except DigestFileError as error:
        raise NoDeltaError(f"the digests of {old.path} on {host} are of no use: {error}") from error
    recorded = old.left.get("size_bytes"), old.left.get("mtime_ns")
    if (index.made.file_bytes, index.made.mtime_ns) != recorded:
        raise NoDeltaError(f"the digests of {old.path} on {host} are of an older state of it")
    return index
