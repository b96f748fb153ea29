# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: read snapshots that were saved as files.

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import SNAPSHOT

Snapshot = dict[str, t.Any]


_WORD = shape.or_null(shape.text())
_METADATA = shape.mapping(
    {},
    {
        "home": _WORD,
        "group": shape.or_null(shape.mapping({}, {"apart": _WORD, "together": _WORD}, others=True)),
        "intent": shape.or_null(shape.mapping({}, others=True)),
    },
    others=True,
)
#: What an inventory is made of. Files may be older than the newest keys of a snapshot.
_SHAPE = shape.mapping(
    {
        "host": shape.text(r"(?s).+", "a name"),
        "domains": shape.list_of(
            shape.mapping(
                {"name": shape.text(), "uuid": shape.text(), "state": shape.text()},
                {
                    "vcpus": shape.or_null(shape.whole(0)),
                    "memory_bytes": shape.or_null(shape.whole(0)),
                    "metadata": shape.or_null(_METADATA),
                },
                others=True,
            )
        ),
    },
    {
        "hostname": _WORD,
        "host_uuid": _WORD,
        "connect_uri": _WORD,
        "maintenance": shape.or_null(
            shape.mapping({}, {"state": _WORD, "owner": _WORD, "reason": _WORD, "since": _WORD}, others=True)
        ),
    },
    others=True,
)


class SavedError(Exception):
    """A file or folder that gives no snapshot; says why and what to do."""


def read(path: Path) -> list[Snapshot]:
    """The snapshots of a file, or of all C(*.json) files of a folder.

    A file has one snapshot, a list of some, or some by host.

    Raises:
        SavedError: there is none, or what is there is none.
    """
    if not path.is_dir():
        return _of_file(path)
    found = [snapshot for file in sorted(path.glob("*.json")) for snapshot in _of_file(file)]
    if not found:
        raise SavedError(f"{path}: no file in this folder ends in .json; save snapshots of host_info there")
    return found


def _of_file(path: Path) -> list[Snapshot]:
    try:
        document = json_text.parsed(path.read_bytes())
    except OSError as error:
        raise SavedError(f"{path}: it cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SavedError(f"{path}: it is not JSON ({error}); save snapshots of host_info with to_json") from error
    return [_checked(one, path) for one in _parts(document)]


def _parts(document: t.Any) -> list[t.Any]:
    if isinstance(document, dict) and "schema" not in document:
        return list(document.values())
    return document if isinstance(document, list) else [document]


def _checked(document: t.Any, path: Path) -> Snapshot:
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SNAPSHOT or not isinstance(document.get("host"), str) or not isinstance(document.get("domains"), list):
        raise SavedError(
            f"{path}: it holds no snapshot ({SNAPSHOT}) but {schema or type(document).__name__}; save the"
            " snapshots of host_info"
        )
    try:
        _SHAPE(document, "")
    except shape.ShapeError as error:
        raise SavedError(f"{path}: its snapshot is damaged: {error}; save the snapshots of host_info anew") from error
    return t.cast(Snapshot, document)
