# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the Python interpreters that are really here.

A name on PATH is not enough: version managers put shims there that answer only for the version chosen now.

    interpreters.py             "X.Y PATH" of each that runs
    interpreters.py X.Y         the path of that one, or nothing
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VERSIONS = tuple(f"3.{minor}" for minor in range(9, 16))
MANAGED = ("~/.pyenv/versions/*/bin", "~/.local/share/uv/python/*/bin")


def folders() -> list[Path]:
    """Return where to look: PATH first, then the folders that version managers hide behind their shims."""
    found = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    for pattern in MANAGED:
        base = Path(pattern).expanduser()
        found += sorted(Path(base.anchor).glob(str(base.relative_to(base.anchor))))
    return found


def real_path(command: Path, version: str) -> str:
    """Return the interpreter behind a command, or nothing if it is not a base interpreter of this version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2], getattr(sys, '_base_executable', sys.executable))"
    try:
        done = subprocess.run([command, "-I", "-c", code], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said, dummy, path = done.stdout.strip().partition(" ")
    return path if done.returncode == 0 and said == version else ""


def find(version: str) -> str:
    """Return the path of the first working interpreter of a version, or nothing."""
    for folder in folders():
        command = folder / f"python{version}"
        if command.is_file() and os.access(command, os.X_OK):
            path = real_path(command, version)
            if path:
                return path
    return ""


def main() -> None:
    """Print what was asked for."""
    if len(sys.argv) > 1:
        print(find(sys.argv[1]))
        return
    for version in VERSIONS:
        path = find(version)
        if path:
            print(version, path)


if __name__ == "__main__":
    main()
