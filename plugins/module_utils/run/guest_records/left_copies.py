# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the images that guests have left on this host, recorded in files, one for each guest.

from __future__ import annotations

import contextlib
import os
import stat
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta import digest_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.left_copies import Record, parsed
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    remove_durably,
    write_durably,
)


def _folder(state_dir: str) -> Path:
    return Path(state_dir) / "left_copies"


def store(state_dir: str, record: Record) -> None:
    """Write a guest's record, or remove it when nothing is left of the guest.

    Raises: OSError when that cannot be.
    """
    path = _folder(state_dir) / f"{record['guest']['uuid']}.json"
    if not record["disks"]:
        remove_durably(str(path))
        return
    make_directory(str(path.parent))
    write_durably(str(path), record, indent=2)


def load(state_dir: str, uuid: str) -> Record | None:
    """What a guest has left here, or None."""
    return parsed(read_json(str(_folder(state_dir) / f"{uuid}.json")))


def load_all(state_dir: str) -> list[Record]:
    """What all guests have left here, by the guest's name."""
    records = (parsed(read_json(str(path))) for path in sorted(_folder(state_dir).glob("*.json")))
    return sorted((record for record in records if record), key=lambda record: str(record["guest"].get("name")))


class Facts(t.TypedDict):
    """What the file system says of an image: all null where there is none."""

    size_bytes: int | None
    allocated_bytes: int | None
    mtime_ns: int | None
    is_file: bool
    link_to: str | None


def facts_of(path: str) -> Facts:
    """Size and time of an image. A link is followed for them, but it is no file; C(link_to) is where it ends."""
    link_to = os.path.realpath(path) if os.path.islink(path) else None
    nothing: Facts = {
        "size_bytes": None,
        "allocated_bytes": None,
        "mtime_ns": None,
        "is_file": False,
        "link_to": link_to,
    }
    try:
        found = os.stat(path)
        is_file = stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return nothing
    if not stat.S_ISREG(found.st_mode):
        # The size and the time of a device say nothing about what is on it.
        return nothing
    return {
        "size_bytes": found.st_size,
        "allocated_bytes": found.st_blocks * 512,
        "mtime_ns": found.st_mtime_ns,
        "is_file": is_file,
        "link_to": link_to,
    }


def digests_are_there(disk: t.Mapping[str, t.Any]) -> bool:
    """Whether the digests of an image are there, of the state in which it was left, and nobody has touched it since.

    Args:
        disk: of a record.
    """
    path = str(disk["path"])
    made = None
    with contextlib.suppress(OSError):
        descriptor = os.open(path + digest_file.SUFFIX, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, "rb") as file:
            made = digest_file.made_of(file.read(digest_file.HEADER_BYTES))
        if made is not None and made.ctime_ns != os.stat(path).st_ctime_ns:
            return False
    return made is not None and (made.file_bytes, made.mtime_ns) == (disk.get("size_bytes"), disk.get("mtime_ns"))
