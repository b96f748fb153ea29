# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: when the workers of one task need no longer wait for a run to begin: one of them has
# watched one to its end. A run moves guests away from some hosts only, and the others would wait for nothing.

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path


class SharedWait:
    """What the workers of one task have found so far, as empty files in a folder.

    Args:
        folder: of temporary files of this ansible-playbook, which is removed at its end.
        task: the task.
        host: the host of this worker.
    """

    def __init__(self, folder: str, task: str, host: str) -> None:
        name = hashlib.sha256(host.encode()).hexdigest()[:32]
        self._folder = Path(folder) / f"kvmops-watch-{task}"
        self._watching, self._over = f"{name}.watching", f"{name}.over"

    def begin(self) -> None:
        """This worker has found a run."""
        self._mark(self._watching)

    def end(self) -> None:
        """Its run is over."""
        self._mark(self._over)

    def is_over(self) -> bool:
        """Whether others have watched runs, and all of these are over."""
        begun = list(self._folder.glob("*.watching"))
        return bool(begun) and all(path.with_suffix(".over").exists() for path in begun)

    def _mark(self, name: str) -> None:
        # Without it, others wait for as long as they were told to.
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            (self._folder / name).touch()
