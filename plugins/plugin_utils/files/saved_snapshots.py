# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: read snapshots that were saved as files.

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import SNAPSHOT

Snapshot = dict[str, t.Any]


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
        document = json.loads(path.read_text(encoding="utf-8"))
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
    return t.cast(Snapshot, document)
