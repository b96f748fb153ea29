# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: JSON files that survive a crash.

from __future__ import annotations

import contextlib
import json
import os
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text


def write_durably(path: str, document: t.Any, *, indent: int | None = None, mode: int | None = None) -> None:
    """Replace a JSON file so that a crash leaves the old or the new one, never a part.

    Args:
        indent: columns for each level, for files that people read; by default all on one line.
        mode: permissions of the file; by default those of any new file.
    """
    # Two that write at once must not write into each other's file.
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.new"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=indent)
            if indent:
                file.write("\n")
            if mode is not None:
                os.chmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def make_directory(path: str, mode: int = 0o700) -> None:
    """Make a directory and those above it, so that a crash does not take it away with the records in it.

    Args:
        mode: permissions of those that are made.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above and above != path:
        make_directory(above, mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
        sync_directory(above)


def remove_durably(path: str) -> None:
    """Remove a file, if it is there, so that a crash does not bring it back."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: str) -> t.Any:
    """A JSON file's content, or None when it is missing, is no file, or is not whole."""
    try:
        with open(path, "rb") as file:
            return json_text.parsed(file.read(json_text.MOST_BYTES + 1))
    except (FileNotFoundError, IsADirectoryError, json_text.JsonTextError):
        return None
