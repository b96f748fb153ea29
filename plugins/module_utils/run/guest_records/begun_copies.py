# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the images that this host has begun to copy a guest's disks to, on disk, so that the next
# run knows what a run that died has left at a destination.

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    remove_durably,
    write_durably,
)

SCHEMA = "kvmops.begun_copies/1"


def _path(state_dir: str, uuid: str) -> Path:
    return Path(state_dir) / "begun_copies" / f"{uuid}.json"


class BegunDelta(t.TypedDict):
    """What was made to send only what differs of a disk.

    Attributes:
        pool, volume, base, base_format: the old copy at the destination.
        format: of the image here.
        size_bytes: of the disk.
        layers: paths of overlays here, the lowest one first.
        overlays: names of volumes at the destination, the lowest one first.
    """

    pool: str
    volume: str
    base: str
    base_format: str
    format: str
    size_bytes: int
    layers: list[str]
    overlays: list[str]


class _BegunDisk(t.TypedDict):
    target: str
    source: str
    path: str


class BegunDisk(_BegunDisk, total=False):
    """One disk that is copied: its target, its image here and the format of that, and the path of the copy."""

    format: str | None
    delta: BegunDelta


class Begun(t.TypedDict):
    """The copies of one guest's disks."""

    schema: str
    guest: dict[str, str]
    destination: str
    disks: list[BegunDisk]


def store(state_dir: str, begun: Begun) -> None:
    """Write which images were made, before anything is copied to them.

    Raises: OSError when that cannot be; then nothing must be copied.
    """
    path = _path(state_dir, begun["guest"]["uuid"])
    make_directory(str(path.parent))
    write_durably(str(path), begun)


def remove(state_dir: str, uuid: str) -> None:
    """The copies of a guest have ended: its images are in use, or gone."""
    remove_durably(str(_path(state_dir, uuid)))


def read(state_dir: str, uuid: str, destination: str) -> Begun | None:
    """The copies to a destination that a run has begun for a guest and that were not ended, or None."""
    begun = read_any(state_dir, uuid)
    return begun if begun and begun["destination"] == destination else None


def read_any(state_dir: str, uuid: str) -> Begun | None:
    """The copies to any destination that a run has begun for a guest and that were not ended, or None."""
    document = read_json(str(_path(state_dir, uuid)))
    whole = shape.fits(document_shapes.BEGUN_COPIES, document) and document["schema"] == SCHEMA
    return t.cast(Begun, document) if whole else None
