# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: measurements of guests, and calibrations of guests and paths, kept on the host. They may be
# lost.

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    write_durably,
)

#: So many measurements of a guest are kept.
KEEP = 12


def _path(state_dir: str, room: str, key: str) -> Path:
    # A key may be any name that an operator gives a host. So it cannot be a file name.
    return Path(state_dir) / room / (hashlib.sha256(key.encode()).hexdigest()[:32] + ".json")


def _kept(state_dir: str, room: str, key: str) -> dict[str, t.Any]:
    document = read_json(str(_path(state_dir, room, key)))
    return document if isinstance(document, dict) and document.get("key") == key else {"key": key}


def _keep(state_dir: str, room: str, key: str, document: dict[str, t.Any]) -> None:
    path = _path(state_dir, room, key)
    make_directory(str(path.parent))
    write_durably(str(path), document)


def measurements(state_dir: str, uuid: str) -> list[dict[str, t.Any]]:
    """Working sets measured of a guest on this host, the newest last."""
    found = _kept(state_dir, "working_sets", uuid).get("documents", [])
    # One that cannot be used is forgotten with the next that is kept.
    return [one for one in found if shape.fits(document_shapes.WORKING_SET, one)] if isinstance(found, list) else []


def add_measurement(state_dir: str, uuid: str, document: dict[str, t.Any]) -> None:
    """Keep a working set, and forget the oldest ones."""
    documents = [*measurements(state_dir, uuid), document][-KEEP:]
    _keep(state_dir, "working_sets", uuid, {"key": uuid, "documents": documents})


def calibration(state_dir: str, kind: str, key: str) -> dict[str, t.Any] | None:
    """What finished moves taught about a C(path) or a C(guest), or None."""
    state = _kept(state_dir, f"calibration-{kind}", key).get("state")
    return state if isinstance(state, dict) else None


def calibrations(state_dir: str, kind: str) -> dict[str, dict[str, t.Any]]:
    """All that finished moves taught about paths or guests, by key."""
    found = {}
    for path in sorted((Path(state_dir) / f"calibration-{kind}").glob("*.json")):
        document = read_json(str(path))
        if isinstance(document, dict) and isinstance(document.get("state"), dict):
            found[str(document.get("key"))] = document["state"]
    return found


def keep_calibration(state_dir: str, kind: str, key: str, state: dict[str, t.Any]) -> None:
    """Keep what a finished move taught."""
    _keep(state_dir, f"calibration-{kind}", key, {"key": key, "state": state})
