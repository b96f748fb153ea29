# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: JSON files that survive a crash.

from __future__ import annotations

import json
import os
import typing as t


def write_durably(path: str, document: t.Any, *, indent: int | None = None, mode: int | None = None) -> None:
    """Replace a JSON file so that a crash leaves the old or the new one, never a part.

    Args:
        indent: columns for each level, for files that people read; by default all on one line.
        mode: permissions of the file; by default those of any new file.
    """
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=indent)
        if indent:
            file.write("\n")
        if mode is not None:
            os.chmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_json(path: str) -> t.Any:
    """A JSON file's content, or None when it is missing or not whole."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return None
