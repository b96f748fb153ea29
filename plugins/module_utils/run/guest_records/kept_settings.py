# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a host keeps of a guest and libvirt does not take along, on record while the guest
# moves. The source forgets it when the guest has left. After a crash, the next run sets it at the destination.

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    remove_durably,
    write_durably,
)

SCHEMA = "kvmops.kept_settings/1"


class KeptSettings(t.TypedDict):
    """The settings of one guest.

    ``autostart`` is whether it starts with its host. ``checkpoints`` are the descriptions of its checkpoints, each
    after the one that it builds upon.
    """

    schema: str
    name: str
    uuid: str
    source: str
    destination: str
    autostart: bool
    checkpoints: list[str]


def _folder(state_dir: str) -> Path:
    return Path(state_dir) / "kept_settings"


def _path(state_dir: str, uuid: str) -> Path:
    # A plan may come from anywhere, and its UUIDs with it.
    return _folder(state_dir) / f"{uuid.replace('/', '_')}.json"


def store(state_dir: str, kept: KeptSettings) -> None:
    """Write what the source is about to forget.

    Raises: OSError when that cannot be; the guest must not be moved then.
    """
    make_directory(str(_folder(state_dir)))
    write_durably(str(_path(state_dir, kept["uuid"])), kept)


def remove(state_dir: str, uuid: str) -> None:
    """Remove the record of a guest whose settings are where it is, or that has not moved."""
    with contextlib.suppress(OSError):
        remove_durably(str(_path(state_dir, uuid)))


def read(state_dir: str, uuid: str) -> KeptSettings | None:
    """What is on record of a guest, or None. A record that is damaged says nothing."""
    try:
        document = read_json(str(_path(state_dir, uuid)))
    except OSError:
        return None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA or document.get("uuid") != uuid:
        return None
    texts = all(isinstance(document.get(key), str) for key in ("name", "source", "destination"))
    checkpoints = document.get("checkpoints")
    whole = isinstance(checkpoints, list) and all(isinstance(one, str) for one in checkpoints)
    if not texts or not whole or not isinstance(document.get("autostart"), bool):
        return None
    return t.cast(KeptSettings, document)


def guests(state_dir: str) -> list[str]:
    """UUIDs of the guests that have a record."""
    return [path.stem for path in sorted(_folder(state_dir).glob("*.json"))]
