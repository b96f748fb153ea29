# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the guests whose balloons have taken memory for a moment, on disk, so that the next run can
# give it back.

from __future__ import annotations

import contextlib
import fcntl
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    remove_durably,
    write_durably,
)

SCHEMA = "kvmops.taken_memory/1"


class _Taken(t.TypedDict):
    schema: str
    name: str
    uuid: str
    before_kib: int
    target_kib: int


class Taken(_Taken, total=False):
    """What was taken.

    ``before_kib`` is the guest's own size, ``target_kib`` its size meanwhile. ``boot_id`` and ``domain_id`` name the
    QEMU that it was taken of; records of older versions lack them.
    """

    boot_id: str | None
    domain_id: int


def _folder(state_dir: str) -> Path:
    return Path(state_dir) / "taken_memory"


def _path(state_dir: str, uuid: str) -> Path:
    return _folder(state_dir) / f"{uuid}.json"


@contextlib.contextmanager
def locked(state_dir: str, uuid: str) -> t.Iterator[bool]:
    """Lock a guest's memory; yields whether this process has the lock. It ends with the process, however that dies.

    Raises: OSError when the folder cannot be written.
    """
    folder = _folder(state_dir)
    make_directory(str(folder))
    descriptor = os.open(folder / f"{uuid}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def store(state_dir: str, taken: Taken) -> None:
    """Write what is about to be taken.

    Raises: OSError when that cannot be; nothing must be taken then.
    """
    write_durably(str(_path(state_dir, taken["uuid"])), taken)


def remove(state_dir: str, uuid: str) -> None:
    """Remove the record of a guest that has its memory back."""
    remove_durably(str(_path(state_dir, uuid)))


def read(state_dir: str, uuid: str) -> Taken | None:
    """What was taken of a guest and not given back, or None."""
    document = read_json(str(_path(state_dir, uuid)))
    whole = shape.fits(document_shapes.TAKEN_MEMORY, document) and document["schema"] == SCHEMA
    return t.cast(Taken, document) if whole else None


def guests(state_dir: str) -> list[str]:
    """UUIDs of guests of which something may have been taken."""
    return [path.stem for path in sorted(_folder(state_dir).glob("*.json"))]
