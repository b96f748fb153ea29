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


class Copies(t.TypedDict):
    """The copies of one guest's disks to one destination."""

    destination: str
    disks: list[BegunDisk]


class _Begun(Copies):
    schema: str
    guest: dict[str, str]


class Begun(_Begun, total=False):
    """The copies of one guest's disks; C(others) are those to other destinations, which were begun before."""

    others: list[Copies]


def store(state_dir: str, begun: Begun) -> None:
    """Write which images were made, before anything is copied to them.

    What was begun to other destinations before, and was not ended, stays on record.

    Raises: OSError when that cannot be; then nothing must be copied.
    """
    path = _path(state_dir, begun["guest"]["uuid"])
    make_directory(str(path.parent))
    _write(path, begun, _others(state_dir, begun["guest"]["uuid"], begun["destination"]))


def remove(state_dir: str, uuid: str, destination: str) -> None:
    """The copies of a guest to a destination have ended: its images are in use, or gone."""
    before, others = read_any(state_dir, uuid), _others(state_dir, uuid, destination)
    if before and others:
        _write(_path(state_dir, uuid), {**before, **others[0]}, others[1:])
    elif before is None or before["destination"] == destination:
        remove_durably(str(_path(state_dir, uuid)))


def read(state_dir: str, uuid: str, destination: str) -> Begun | None:
    """The copies to a destination that a run has begun for a guest and that were not ended, or None."""
    return next((begun for begun in read_all(state_dir, uuid) if begun["destination"] == destination), None)


def read_all(state_dir: str, uuid: str) -> list[Begun]:
    """The copies that runs have begun for a guest and that were not ended, by destination, the last one first."""
    newest = read_any(state_dir, uuid)
    if newest is None:
        return []
    alone: Begun = {
        "schema": newest["schema"],
        "guest": newest["guest"],
        "destination": newest["destination"],
        "disks": newest["disks"],
    }
    return [alone, *(t.cast(Begun, {**alone, **other}) for other in newest.get("others", ()))]


def load_all(state_dir: str) -> list[Begun]:
    """The same of all guests.

    Raises: OSError where the records cannot be read.
    """
    found: list[Begun] = []
    for path in sorted((Path(state_dir) / "begun_copies").glob("*.json")):
        found += read_all(state_dir, path.stem)
    return found


def images(copies: t.Iterable[Begun]) -> list[dict[str, str]]:
    """Each image with C(uuid), C(destination) and C(path), as a snapshot has it."""
    return [
        {"uuid": begun["guest"]["uuid"], "destination": begun["destination"], "path": disk["path"]}
        for begun in copies
        for disk in begun["disks"]
    ]


def read_any(state_dir: str, uuid: str) -> Begun | None:
    """The whole record of a guest, or None."""
    document = read_json(str(_path(state_dir, uuid)))
    whole = shape.fits(document_shapes.BEGUN_COPIES, document) and document["schema"] == SCHEMA
    return t.cast(Begun, document) if whole else None


def _others(state_dir: str, uuid: str, destination: str) -> list[Copies]:
    return [
        {"destination": begun["destination"], "disks": begun["disks"]}
        for begun in read_all(state_dir, uuid)
        if begun["destination"] != destination
    ]


def _write(path: Path, begun: Begun, others: list[Copies]) -> None:
    document = {key: value for key, value in begun.items() if key != "others"}
    write_durably(str(path), {**document, **({"others": others} if others else {})})
