# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which parts have passed, so that a soak goes on where it was stopped."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path


def tree_of(checkout: Path) -> str:
    """Return the name of the content of a checkout as it is now, changes that are not committed included.

    Two commits with the same content have the same name. Ignored files do not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        # An index and an object store of its own: the checkout's own are not touched.
        mine = {"GIT_INDEX_FILE": f"{folder}/index", "GIT_OBJECT_DIRECTORY": folder}
        objects = _git(checkout, "rev-parse", "--path-format=absolute", "--git-path", "objects")
        environment = {**os.environ, **mine, "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects}
        _git(checkout, "add", "--all", environment=environment)
        return _git(checkout, "write-tree", environment=environment)


def _git(checkout: Path, *words: str, environment: dict[str, str] | None = None) -> str:
    # Another user may own the checkout: under sudo, its owner began this.
    command = ["git", "-c", f"safe.directory={checkout}", *words]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Progress:
    """The parts that have passed with the content that is tested; kept in a file."""

    def __init__(self, file: Path, tree: str) -> None:
        self._file = file
        self._tree = tree

    def passed(self) -> list[str]:
        """Return the names of the parts; none if the file is missing, damaged, or about other content."""
        try:
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            return [str(name) for name in kept["passed"]] if kept["tree"] == self._tree else []
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def note(self, part: str, *, ok: bool) -> None:
        """Note what became of a part."""
        names = [name for name in self.passed() if name != part] + ([part] if ok else [])
        self._file.parent.mkdir(parents=True, exist_ok=True)
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps({"tree": self._tree, "passed": names}) + "\n", encoding="utf-8")
        draft.replace(self._file)
