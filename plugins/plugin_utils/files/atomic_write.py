# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: write a document to a file on the controller, whole or not at all.

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import typing as t
from pathlib import Path

from ansible.errors import AnsibleError


class FileChange(t.NamedTuple):
    """What the file was and is; ``before`` is empty where there was none."""

    before: str
    after: str


def save(option: str, path: Path, document: t.Mapping[str, t.Any], *, write: bool) -> FileChange:
    """Write a document to a file.

    Args:
        option: what the operator calls the file.
        write: False only says what would be written (check mode).

    Raises:
        AnsibleError: there can be no such file.
    """
    after = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if not path.parent.is_dir():
        raise AnsibleError(f"{option}: the directory {path.parent} does not exist on the controller: create it first")
    if path.is_dir():
        raise AnsibleError(f"{option}: {path} is a directory: give the name of a file")
    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        if write:
            _replace(path, after)
    except OSError as error:
        raise AnsibleError(f"{option}: {path} cannot be written: {error.strerror}") from error
    return FileChange(before, after)


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
